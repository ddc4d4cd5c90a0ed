"""What LiteRT could use here: its own GPU and NPU accelerators, the Edge TPU, external delegates."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.device.facts import Accelerator
from edge_sdk.engines.machine_parts import (
    clear_cache,
    entries,
    find_library,
    first_node,
    found,
    gpu_node,
    is_shared_library,
    missing,
    package_folder,
    usb_device,
)

__all__ = ["DELEGATES_VARIABLE", "delegate_paths", "litert_accelerators", "runtime_folders"]

DELEGATES_VARIABLE = "EDGE_SDK_TFLITE_DELEGATES"

_ROOT = Path("/")
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
    return tuple(Path(entry) for entry in entries(DELEGATES_VARIABLE))


def litert_accelerators(package: Path | None = None, root: Path = _ROOT) -> tuple[Accelerator, ...]:
    """What LiteRT could reach: its own GPU and NPU accelerators, the Edge TPU, external delegates.

    Args:
        package: folder of the ai_edge_litert package; where it is installed if None. tflite-runtime has delegates only.
        root: where device nodes and libraries are looked for.
    """
    clear_cache()
    package = package or package_folder("ai_edge_litert")
    listed = [_litert_gpu(package, root), _litert_npu(package, root)] if package is not None else []
    listed.append(_edge_tpu(root))
    delegates = dict.fromkeys(delegate_paths(), "npu")
    for name, kind in _KNOWN_DELEGATES:
        path = find_library(root, name)
        if path is not None:
            delegates.setdefault(path, kind)
    listed.extend(_delegate(path, kind) for path, kind in delegates.items())
    return tuple(accelerator for accelerator in listed if accelerator is not None)


def _litert_gpu(package: Path, root: Path) -> Accelerator | None:
    part = next((name for name in _GPU_PARTS if (package / name).is_file()), None)
    if part is None:
        return None
    hardware = gpu_node(root) or (_vulkan_driver_file() if root == _ROOT else None)
    if hardware is None:
        return missing("gpu", "gpu", "litert", f"{part} is installed, but no GPU is found")
    library = find_library(root, "libvulkan.so.1", "libvulkan.so", "libOpenCL.so*")
    if library is None:
        return missing("gpu", "gpu", "litert", f"found {hardware}, but neither libvulkan.so.1 nor libOpenCL.so")
    return found("gpu", "gpu", "litert", f"{part} for {hardware} through {library.name}")


def _vulkan_driver_file() -> str | None:
    for variable in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        for entry in entries(variable):
            if Path(entry).is_file():
                return f"the Vulkan driver of {entry}"
    return None


def runtime_folders(package: Path) -> tuple[Path, ...]:
    """Folders of makers' libraries that are installed as Python packages, beside LiteRT's or elsewhere.

    Args:
        package: folder of the ai_edge_litert package.
    """
    openvino = [package.parent / "openvino"]
    if (elsewhere := package_folder("openvino")) is not None and package == package_folder("ai_edge_litert"):
        openvino.append(elsewhere)
    folders = [folder / "libs" for folder in dict.fromkeys(openvino) if (folder / "libs").is_dir()]
    return (*folders, *package.parent.glob("ai_edge_litert_sdk_*/**/lib*"))


def _litert_npu(package: Path, root: Path) -> Accelerator | None:
    vendors = sorted(path.parents[1].name for path in package.glob("vendors/*/dispatch/libLiteRtDispatch*.so"))
    if not vendors:
        return None
    also = runtime_folders(package)
    lacking = []
    for vendor in vendors:
        names = _NPU_RUNTIMES.get(vendor, ())
        library = find_library(root, *names, also=also)
        if library is not None:
            return found("npu", "npu", "litert", f"dispatch library of {vendor} with {library}")
        lacking.append(f"{vendor} needs {names[0] if names else 'a library unknown here'}")
    return missing("npu", "npu", "litert", f"{'; '.join(lacking)}, which is not found")


def _edge_tpu(root: Path) -> Accelerator | None:
    hardware = first_node(root, "dev/apex_[0-9]*") or usb_device(root, *_EDGE_TPU_USB)
    library = find_library(root, "libedgetpu.so.1", "libedgetpu.so.1*")
    if hardware is None and library is None:
        return None
    if hardware is None:
        return missing("edgetpu", "tpu", "litert", f"{library} is installed, but no Edge TPU is found")
    if library is None:
        return missing(
            "edgetpu", "tpu", "litert", f"found {hardware}, but not libedgetpu.so.1: install libedgetpu1-std"
        )
    return found("edgetpu", "tpu", "litert", f"{library} for {hardware}")


def _delegate(path: Path, kind: str) -> Accelerator:
    if is_shared_library(path):
        return found(str(path), kind, "litert", "external delegate")
    problem = "is no shared library" if path.is_file() else "does not exist"
    return missing(str(path), kind, "litert", f"external delegate: the file {problem}")
