"""Execution providers of ONNX Runtime that could be used here: built in, as a library in its package, or plugged in."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.device.facts import Accelerator
from edge_sdk.engines.machine_parts import (
    AMD_XDNA,
    INTEL,
    clear_cache,
    entries,
    find_library,
    first_node,
    found,
    gpu_node,
    is_shared_library,
    missing,
    node_of_vendor,
    package_folder,
)

__all__ = [
    "PLUGINS_VARIABLE",
    "PluginLibrary",
    "onnxruntime_accelerators",
    "plugin_libraries",
    "provider_of",
    "provider_options",
]

PLUGINS_VARIABLE = "EDGE_SDK_ORT_PLUGINS"

_log = logging.getLogger(__name__)
_ROOT = Path("/")
_KINDS = ("gpu", "npu", "tpu", "dsp", "cpu")


@dataclass(frozen=True, slots=True)
class _Provider:
    """An execution provider.

    Attributes:
        name: the accelerator's name.
        provider: what ONNX Runtime calls it.
        library: the file in the engine's package that holds it; "" where it is part of the engine's own library.
        hardware: finds what it computes on.
        drivers: libraries it cannot do without.
        install: how to get it where only its hardware is there.
        options: provider options without which it does not start.
    """

    name: str
    provider: str
    kind: str
    library: str
    hardware: Callable[[Path], str | None]
    drivers: tuple[str, ...] = ()
    install: str = ""
    options: tuple[tuple[str, str], ...] = ()


def _nvidia(root: Path) -> str | None:
    return first_node(root, "dev/nvidia[0-9]*", "dev/nvhost-gpu", "dev/nvgpu/igpu*")


def _hexagon(root: Path) -> str | None:
    return first_node(root, "dev/fastrpc-cdsp*", "dev/adsprpc-smd*", "dev/fastrpc-adsp*")


def _intel(root: Path) -> str | None:
    return node_of_vendor(root, "accel", INTEL) or node_of_vendor(root, "drm", INTEL)


def _cores(_: Path) -> str | None:
    return "the CPU cores"


_PROVIDERS = (
    _Provider(
        "cuda",
        "CUDAExecutionProvider",
        "gpu",
        "libonnxruntime_providers_cuda.so",
        _nvidia,
        ("libcuda.so.1",),
        "pip install onnxruntime-gpu",
    ),
    _Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        "gpu",
        "libonnxruntime_providers_tensorrt.so",
        _nvidia,
        ("libnvinfer.so.*",),
    ),
    _Provider(
        "nvtensorrtrtx",
        "NvTensorRTRTXExecutionProvider",
        "gpu",
        "libonnxruntime_providers_nv_tensorrt_rtx.so",
        _nvidia,
    ),
    _Provider(
        "migraphx",
        "MIGraphXExecutionProvider",
        "gpu",
        "libonnxruntime_providers_migraphx.so",
        lambda root: first_node(root, "dev/kfd"),
    ),
    _Provider(
        "openvino",
        "OpenVINOExecutionProvider",
        "npu",
        "libonnxruntime_providers_openvino.so",
        _intel,
        install="pip install onnxruntime-openvino",
    ),
    _Provider(
        "qnn",
        "QNNExecutionProvider",
        "npu",
        "libonnxruntime_providers_qnn.so",
        _hexagon,
        install="pip install onnxruntime-qnn",
        options=(("backend_type", "htp"),),
    ),
    _Provider(
        "vitisai",
        "VitisAIExecutionProvider",
        "npu",
        "libonnxruntime_providers_vitisai.so",
        lambda root: node_of_vendor(root, "accel", AMD_XDNA),
    ),
    _Provider(
        "cann",
        "CANNExecutionProvider",
        "npu",
        "libonnxruntime_providers_cann.so",
        lambda root: first_node(root, "dev/davinci[0-9]*"),
    ),
    _Provider("webgpu", "WebGpuExecutionProvider", "gpu", "libonnxruntime_providers_webgpu.so", gpu_node),
    _Provider("dnnl", "DnnlExecutionProvider", "cpu", "libonnxruntime_providers_dnnl.so", _cores),
    _Provider("xnnpack", "XnnpackExecutionProvider", "cpu", "", _cores),
    _Provider("acl", "ACLExecutionProvider", "cpu", "", _cores),
    _Provider(
        "nnapi",
        "NnapiExecutionProvider",
        "npu",
        "",
        lambda root: first_node(root, "system/lib64/libneuralnetworks.so", "system/lib/libneuralnetworks.so"),
    ),
    _Provider("coreml", "CoreMLExecutionProvider", "npu", "", lambda _: "CoreML" if sys.platform == "darwin" else None),
    _Provider("vsinpu", "VSINPUExecutionProvider", "npu", "", lambda root: first_node(root, "dev/galcore")),
    _Provider(
        "rknpu",
        "RknpuExecutionProvider",
        "npu",
        "",
        lambda root: first_node(root, "dev/rknpu*", "dev/dri/by-path/*npu*"),
    ),
)
_BY_NAME = {entry.name: entry for entry in _PROVIDERS}
_PLUGIN_PREFIX = "libonnxruntime_providers_"


@dataclass(frozen=True, slots=True)
class PluginLibrary:
    """A plug-in execution provider for ONNX Runtime: the name to register it under, what it computes on, its file."""

    name: str
    kind: str
    path: Path


def provider_of(accelerator: str) -> str:
    """ONNX Runtime's provider for an accelerator's name ("cuda" to "CUDAExecutionProvider"); unknown names stay."""
    entry = _BY_NAME.get(accelerator.lower())
    return entry.provider if entry is not None else accelerator


def provider_options(accelerator: str) -> dict[str, str]:
    """Options without which a provider does not start; those of the caller go before them."""
    entry = _BY_NAME.get(accelerator.lower())
    return dict(entry.options) if entry is not None else {}


def plugin_libraries(packages: Sequence[Path] | None = None) -> tuple[PluginLibrary, ...]:
    """Plug-in providers by `EDGE_SDK_ORT_PLUGINS`, then those of installed packages (`onnxruntime_qnn`, …).

    Args:
        packages: folders of installed packages; those that Python imports from if None.
    """
    plugins: dict[str, PluginLibrary] = {}
    for entry in entries(PLUGINS_VARIABLE):
        key, _, place = entry.partition("=")
        name, _, kind = key.partition("@")
        if not name or not place or (kind and kind not in _KINDS):
            _log.warning("%s: %r is not NAME=PATH or NAME@KIND=PATH", PLUGINS_VARIABLE, entry)
            continue
        known = _BY_NAME.get(name.lower())
        plugins[name] = PluginLibrary(name, kind or (known.kind if known else "npu"), Path(place))
    for path in _plugin_files(map(Path, sys.path) if packages is None else packages):
        name = path.name.removeprefix(_PLUGIN_PREFIX).removesuffix(".so")
        known = _BY_NAME.get(name)
        if name != "shared":
            plugins.setdefault(name, PluginLibrary(name, known.kind if known else "npu", path))
    return tuple(plugins.values())


def _plugin_files(packages: Iterable[Path]) -> Iterator[Path]:
    for folder in packages:
        try:
            names = sorted(name for name in os.listdir(folder) if name.startswith("onnxruntime_"))
        except OSError:
            continue
        for name in names:
            yield from sorted((folder / name).glob(f"**/{_PLUGIN_PREFIX}*.so"))


def onnxruntime_accelerators(
    available_providers: Sequence[str] | None = None, root: Path = _ROOT, package: Path | None = None
) -> tuple[Accelerator, ...]:
    """What ONNX Runtime could reach.

    `get_available_providers()` lists what the engine was built for, also where the provider's library is missing and
    everything would run on the CPU; so the library file itself is looked for.

    Args:
        available_providers: as the engine lists them; None takes what its package's files show, without importing it.
        root: where device nodes and libraries are looked for.
        package: folder of the onnxruntime package; where it is installed if None; plug-ins are looked for beside it.
    """
    clear_cache()
    plugins = plugin_libraries(None if package is None else [package.parent])
    package = package or package_folder("onnxruntime")
    folder = package / "capi" if package is not None else None
    if available_providers is None:
        available_providers = _loaded_providers()
    listed = [_plugin_accelerator(plugin) for plugin in plugins]
    taken = {plugin.name for plugin in plugins}
    for entry in _PROVIDERS:
        if entry.name not in taken:
            accelerator = _provider_accelerator(entry, available_providers, folder, root)
            if accelerator is not None:
                listed.append(accelerator)
    return tuple(listed)


def _loaded_providers() -> Sequence[str]:
    module = sys.modules.get("onnxruntime")
    ask = getattr(module, "get_available_providers", None)
    return tuple(ask()) if ask is not None else ()


def _plugin_accelerator(plugin: PluginLibrary) -> Accelerator:
    if is_shared_library(plugin.path):
        return found(plugin.name, plugin.kind, "onnxruntime", f"plug-in {plugin.path}")
    problem = "is no shared library" if plugin.path.is_file() else "does not exist"
    return missing(plugin.name, plugin.kind, "onnxruntime", f"plug-in {plugin.path} {problem}")


def _provider_accelerator(
    entry: _Provider, available: Sequence[str], folder: Path | None, root: Path
) -> Accelerator | None:
    listed = entry.provider in available
    library = folder / entry.library if folder is not None and entry.library else None
    has_library = library is not None and library.is_file()
    hardware = entry.hardware(root)
    # OpenVINO computes on plain cores as well, so what it is depends on what else is there.
    kind, computes_anywhere = entry.kind, entry.name == "openvino"
    if computes_anywhere and has_library:
        npu = node_of_vendor(root, "accel", INTEL)
        kind = "npu" if npu else "gpu" if hardware else "cpu"
        hardware = hardware or "the CPU cores"
    if not (listed or has_library):
        if hardware is None or not entry.install:
            return None
        return missing(
            entry.name,
            kind,
            "onnxruntime",
            f"found {hardware}, but this onnxruntime has no {entry.provider}: {entry.install}",
        )
    if entry.library and not has_library:
        return missing(
            entry.name,
            kind,
            "onnxruntime",
            f"onnxruntime lists {entry.provider}, but {entry.library} is missing from its package",
        )
    if hardware is None:
        return missing(entry.name, kind, "onnxruntime", f"{entry.provider} is installed, but no device for it is found")
    for driver in entry.drivers:
        if find_library(root, driver, also=_package_libraries(folder)) is None:
            return missing(entry.name, kind, "onnxruntime", f"found {hardware}, but not its library {driver}")
    return found(entry.name, kind, "onnxruntime", f"{entry.provider} for {hardware}")


def _package_libraries(folder: Path | None) -> tuple[Path, ...]:
    """Folders of libraries that come as Python packages beside onnxruntime (`tensorrt_libs`, `nvidia/*/lib`)."""
    if folder is None:
        return ()
    packages = folder.parents[1]
    return tuple(path for pattern in ("tensorrt_libs", "nvidia/*/lib") for path in packages.glob(pattern))
