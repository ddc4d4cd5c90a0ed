"""What the engines could reach beside the CPU: GPUs, NPUs, TPUs and DSPs, found but not proven.

An accelerator is listed where its hardware or the engine's part for it is found, and `present` where both are. Nothing
is loaded and no driver is started: `edge_sdk.engines.proof` does that, in a child process.

Two environment variables name what no list can know: `EDGE_SDK_ORT_PLUGINS` (`NAME=PATH`, further ones after a colon:
plug-in execution providers of ONNX Runtime; `NAME@KIND=PATH` says gpu, npu, tpu or dsp) and `EDGE_SDK_TFLITE_DELEGATES`
(`PATH:PATH`: external delegates of LiteRT).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.device.facts import Accelerator
from edge_sdk.engines.machine_parts import (
    AMD_XDNA,
    INTEL,
    find_library,
    first_node,
    gpu_node,
    is_shared_library,
    node_of_vendor,
    usb_device,
)

__all__ = [
    "DELEGATES_VARIABLE",
    "PLUGINS_VARIABLE",
    "PluginLibrary",
    "delegate_paths",
    "find_accelerators",
    "litert_accelerators",
    "onnxruntime_accelerators",
    "plugin_libraries",
    "provider_of",
]

PLUGINS_VARIABLE = "EDGE_SDK_ORT_PLUGINS"
DELEGATES_VARIABLE = "EDGE_SDK_TFLITE_DELEGATES"

_log = logging.getLogger(__name__)
_ROOT = Path("/")
_KINDS = ("gpu", "npu", "tpu", "dsp", "cpu")


def find_accelerators() -> tuple[Accelerator, ...]:
    """Asks every installed engine. Never raises: an engine that fails is left out with a warning in the log."""
    from edge_sdk.engines.registry import engines

    found: list[Accelerator] = []
    for name, engine in engines().items():
        try:
            found.extend(engine.accelerators())
        except Exception as error:  # noqa: BLE001 - a foreign plug-in may raise anything; the others still count
            _log.warning("engine %r cannot list its accelerators: %s", name, error)
    return tuple(found)


# --- ONNX Runtime -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Provider:
    """An execution provider. `library` is the file that holds it, "" where it is part of the engine's own library;
    `hardware` finds what it computes on; `drivers` are libraries it cannot do without; `install` is how to get it."""

    name: str
    provider: str
    kind: str
    library: str
    hardware: Callable[[Path], str | None]
    drivers: tuple[str, ...] = ()
    install: str = ""


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


def plugin_libraries(packages: Path | None = None) -> tuple[PluginLibrary, ...]:
    """Plug-in providers by `EDGE_SDK_ORT_PLUGINS`, then those of installed packages (`onnxruntime_qnn`, …).

    Args:
        packages: folder of installed packages; the one that onnxruntime is in where None.
    """
    found: dict[str, PluginLibrary] = {}
    for entry in _entries(PLUGINS_VARIABLE):
        key, separator, path = entry.partition("=")
        name, _, kind = key.partition("@")
        if not separator or not name or not path or (kind and kind not in _KINDS):
            _log.warning("%s: %r is not NAME=PATH or NAME@KIND=PATH", PLUGINS_VARIABLE, entry)
            continue
        known = _BY_NAME.get(name.lower())
        found[name] = PluginLibrary(name, kind or (known.kind if known else "npu"), Path(path))
    own = _package_folder("onnxruntime")
    packages = packages or (own.parent if own else None)
    if packages is not None:
        for path in sorted(packages.glob(f"onnxruntime_*/**/{_PLUGIN_PREFIX}*.so")):
            name = path.name.removeprefix(_PLUGIN_PREFIX).removesuffix(".so")
            known = _BY_NAME.get(name)
            if name != "shared":
                found.setdefault(name, PluginLibrary(name, known.kind if known else "npu", path))
    return tuple(found.values())


def onnxruntime_accelerators(
    available_providers: Sequence[str] | None = None, root: Path = _ROOT, package: Path | None = None
) -> tuple[Accelerator, ...]:
    """What ONNX Runtime could reach.

    `get_available_providers()` lists what the engine was built for, also where the provider's library is missing and
    everything would run on the CPU; so the library file itself is looked for.

    Args:
        available_providers: as the engine lists them; None takes what its package's files show, without importing it.
        root: where device nodes and libraries are looked for.
        package: folder of the onnxruntime package; where it is installed if None.
    """
    package = package or _package_folder("onnxruntime")
    folder = package / "capi" if package is not None else None
    if available_providers is None:
        available_providers = _loaded_providers()
    plugins = plugin_libraries(package.parent if package else None)
    found = [_plugin_accelerator(plugin) for plugin in plugins]
    taken = {plugin.name for plugin in plugins}
    for entry in _PROVIDERS:
        if entry.name not in taken:
            accelerator = _provider_accelerator(entry, available_providers, folder, root)
            if accelerator is not None:
                found.append(accelerator)
    return tuple(found)


def _loaded_providers() -> Sequence[str]:
    module = sys.modules.get("onnxruntime")
    ask = getattr(module, "get_available_providers", None)
    return tuple(ask()) if ask is not None else ()


def _plugin_accelerator(plugin: PluginLibrary) -> Accelerator:
    if is_shared_library(plugin.path):
        return _found(plugin.name, plugin.kind, "onnxruntime", f"plug-in {plugin.path}")
    missing = "is no shared library" if plugin.path.is_file() else "does not exist"
    return _missing(plugin.name, plugin.kind, "onnxruntime", f"plug-in {plugin.path} {missing}")


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
        return _missing(
            entry.name,
            kind,
            "onnxruntime",
            f"found {hardware}, but this onnxruntime has no {entry.provider}: {entry.install}",
        )
    if entry.library and not has_library:
        return _missing(
            entry.name,
            kind,
            "onnxruntime",
            f"onnxruntime lists {entry.provider}, but {entry.library} is missing from its package",
        )
    if hardware is None:
        return _missing(
            entry.name, kind, "onnxruntime", f"{entry.provider} is installed, but no device for it is found"
        )
    for driver in entry.drivers:
        if find_library(root, driver, also=_package_libraries(folder)) is None:
            return _missing(entry.name, kind, "onnxruntime", f"found {hardware}, but not its library {driver}")
    return _found(entry.name, kind, "onnxruntime", f"{entry.provider} for {hardware}")


def _package_libraries(folder: Path | None) -> tuple[Path, ...]:
    """Folders of libraries that come as Python packages beside onnxruntime (`tensorrt_libs`, `nvidia/*/lib`)."""
    if folder is None:
        return ()
    packages = folder.parents[1]
    return tuple(path for pattern in ("tensorrt_libs", "nvidia/*/lib") for path in packages.glob(pattern))


# --- LiteRT -----------------------------------------------------------------------------------------------------------

_EDGE_TPU_USB = ("1a6e:089a", "18d1:9302")  # before and after its firmware is loaded
_GPU_PARTS = ("libLiteRtWebGpuAccelerator.so", "libLiteRtGpuAccelerator.so", "libLiteRtClGlAccelerator.so")
_NPU_RUNTIMES = {
    "intel_openvino": ("libopenvino.so*",),
    "qualcomm": ("libQnnHtp.so",),
    "mediatek": ("libneuron_adapter.so", "libneuronusdk_adapter.mtk.so"),
    "google_tensor": ("libedgetpu_litert.so",),
    "samsung": ("libenn_public_api_cpp.so",),
}
_KNOWN_DELEGATES = (
    ("libvx_delegate.so", "npu"),  # NXP i.MX 8M Plus and 93
    ("libteflon.so", "npu"),  # Mesa: Rockchip, Amlogic, NXP
    ("libethosu_delegate.so", "npu"),  # Arm Ethos-U
    ("libQnnTFLiteDelegate.so", "npu"),  # Qualcomm
)


def delegate_paths() -> tuple[Path, ...]:
    """External delegates named by `EDGE_SDK_TFLITE_DELEGATES`."""
    return tuple(Path(entry) for entry in _entries(DELEGATES_VARIABLE))


def litert_accelerators(package: Path | None = None, root: Path = _ROOT) -> tuple[Accelerator, ...]:
    """What LiteRT could reach: its own GPU and NPU accelerators, the Edge TPU, external delegates.

    Args:
        package: folder of the ai_edge_litert package; where it is installed if None. tflite-runtime has delegates only.
        root: where device nodes and libraries are looked for.
    """
    package = package or _package_folder("ai_edge_litert")
    found = [_litert_gpu(package, root), _litert_npu(package, root)] if package is not None else []
    found.append(_edge_tpu(root))
    delegates = {path: "npu" for path in delegate_paths()}
    for name, kind in _KNOWN_DELEGATES:
        path = find_library(root, name)
        if path is not None:
            delegates.setdefault(path, kind)
    found.extend(_delegate(path, kind) for path, kind in delegates.items())
    return tuple(accelerator for accelerator in found if accelerator is not None)


def _litert_gpu(package: Path, root: Path) -> Accelerator | None:
    part = next((name for name in _GPU_PARTS if (package / name).is_file()), None)
    if part is None:
        return None
    hardware = gpu_node(root) or (_vulkan_driver_file() if root == _ROOT else None)
    if hardware is None:
        return _missing("gpu", "gpu", "litert", f"{part} is installed, but no GPU is found")
    library = find_library(root, "libvulkan.so.1", "libvulkan.so", "libOpenCL.so*")
    if library is None:
        return _missing("gpu", "gpu", "litert", f"found {hardware}, but neither libvulkan.so.1 nor libOpenCL.so")
    return _found("gpu", "gpu", "litert", f"{part} for {hardware} through {library.name}")


def _vulkan_driver_file() -> str | None:
    for variable in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        for entry in _entries(variable):
            if Path(entry).is_file():
                return f"the Vulkan driver of {entry}"
    return None


def _litert_npu(package: Path, root: Path) -> Accelerator | None:
    vendors = sorted(path.parents[1].name for path in package.glob("vendors/*/dispatch/libLiteRtDispatch*.so"))
    if not vendors:
        return None
    also = tuple(package.parent.glob("openvino/libs")) + tuple(package.parent.glob("ai_edge_litert_sdk_*/**/lib*"))
    lacking = []
    for vendor in vendors:
        names = _NPU_RUNTIMES.get(vendor, ())
        library = find_library(root, *names, also=also)
        if library is not None:
            return _found("npu", "npu", "litert", f"dispatch library of {vendor} with {library}")
        lacking.append(f"{vendor} needs {names[0] if names else 'a library unknown here'}")
    return _missing("npu", "npu", "litert", f"{'; '.join(lacking)}, which is not found")


def _edge_tpu(root: Path) -> Accelerator | None:
    hardware = first_node(root, "dev/apex_[0-9]*") or usb_device(root, *_EDGE_TPU_USB)
    library = find_library(root, "libedgetpu.so.1", "libedgetpu.so.1*")
    if hardware is None and library is None:
        return None
    if hardware is None:
        return _missing("edgetpu", "tpu", "litert", f"{library} is installed, but no Edge TPU is found")
    if library is None:
        return _missing(
            "edgetpu", "tpu", "litert", f"found {hardware}, but not libedgetpu.so.1: install libedgetpu1-std"
        )
    return _found("edgetpu", "tpu", "litert", f"{library} for {hardware}")


def _delegate(path: Path, kind: str) -> Accelerator:
    if is_shared_library(path):
        return _found(str(path), kind, "litert", "external delegate")
    missing = "is no shared library" if path.is_file() else "does not exist"
    return _missing(str(path), kind, "litert", f"external delegate: the file {missing}")


# --- both -------------------------------------------------------------------------------------------------------------


def _found(name: str, kind: str, engine: str, why: str) -> Accelerator:
    return Accelerator(kind=kind, name=name, engine=engine, present=True, usable=None, why=why)


def _missing(name: str, kind: str, engine: str, why: str) -> Accelerator:
    return Accelerator(kind=kind, name=name, engine=engine, present=False, usable=None, why=why)


def _entries(variable: str) -> list[str]:
    return [entry for entry in os.environ.get(variable, "").split(os.pathsep) if entry]


def _package_folder(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None
