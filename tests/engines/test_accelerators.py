"""What is found of accelerators, by files alone: device nodes, libraries, packages. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.device.facts import Accelerator
from edge_sdk.engines import accelerators, registry
from edge_sdk.engines.accelerators import (
    PluginLibrary,
    find_accelerators,
    litert_accelerators,
    onnxruntime_accelerators,
    plugin_libraries,
    provider_of,
)

ELF = b"\x7fELF and the rest"
Builder = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("EDGE_SDK_ORT_PLUGINS", "EDGE_SDK_TFLITE_DELEGATES", "VK_ICD_FILENAMES", "VK_DRIVER_FILES"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def machine(tmp_path: Path) -> Builder:
    """Makes a root folder with these files: a path, or a path and its text."""

    def build(*paths: str, **texts: str) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for path in paths:
            name, _, text = path.partition("=")
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode() or ELF)
        return root

    return build


@pytest.fixture
def package(tmp_path: Path) -> Builder:
    """Makes an installed package with these files."""

    def build(name: str, *paths: str) -> Path:
        folder = tmp_path / "site-packages" / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(ELF)
        return folder

    return build


def only(found: tuple[Accelerator, ...]) -> Accelerator:
    """The one accelerator found, which no proof has seen."""
    (accelerator,) = found
    assert accelerator.usable is None
    return accelerator


class TestOnnxRuntime:
    def test_a_plain_machine_has_none(self, machine: Builder, package: Builder) -> None:
        plain = ("CPUExecutionProvider", "AzureExecutionProvider")
        assert onnxruntime_accelerators(plain, machine(), package("onnxruntime")) == ()

    def test_cuda_with_hardware_driver_and_library(self, machine: Builder, package: Builder) -> None:
        root = machine("dev/nvidia0", "usr/lib/x86_64-linux-gnu/libcuda.so.1")
        ort = package("onnxruntime", "capi/libonnxruntime_providers_cuda.so")
        found = only(onnxruntime_accelerators(("CUDAExecutionProvider",), root, ort))
        assert (found.kind, found.name, found.engine, found.present) == ("gpu", "cuda", "onnxruntime", True)
        assert found.why == "CUDAExecutionProvider for /dev/nvidia0"

    def test_a_provider_that_is_listed_but_whose_library_is_missing(self, machine: Builder, package: Builder) -> None:
        root = machine("dev/nvidia0", "usr/lib/libcuda.so.1")
        found = only(onnxruntime_accelerators(("CUDAExecutionProvider",), root, package("onnxruntime")))
        assert not found.present
        assert "libonnxruntime_providers_cuda.so is missing" in found.why

    def test_a_library_without_its_hardware(self, machine: Builder, package: Builder) -> None:
        ort = package("onnxruntime", "capi/libonnxruntime_providers_cuda.so")
        found = only(onnxruntime_accelerators(("CUDAExecutionProvider",), machine(), ort))
        assert (found.present, found.why) == (
            False,
            "CUDAExecutionProvider is installed, but no device for it is found",
        )

    def test_hardware_without_its_driver(self, machine: Builder, package: Builder) -> None:
        ort = package("onnxruntime", "capi/libonnxruntime_providers_cuda.so")
        found = only(onnxruntime_accelerators((), machine("dev/nvidia0"), ort))
        assert (found.present, found.why) == (False, "found /dev/nvidia0, but not its library libcuda.so.1")

    def test_hardware_that_another_build_would_reach(self, machine: Builder, package: Builder) -> None:
        found = only(onnxruntime_accelerators((), machine("dev/nvidia0"), package("onnxruntime")))
        assert not found.present
        assert found.why.endswith("pip install onnxruntime-gpu")

    def test_openvino_says_what_it_would_compute_on(self, machine: Builder, package: Builder) -> None:
        ort = package("onnxruntime", "capi/libonnxruntime_providers_openvino.so")
        bare = only(onnxruntime_accelerators((), machine(), ort))
        assert (bare.kind, bare.present) == ("cpu", True)
        gpu = only(onnxruntime_accelerators((), machine("sys/class/drm/renderD128/device/vendor=0x8086\n"), ort))
        assert (gpu.kind, gpu.why) == ("gpu", "OpenVINOExecutionProvider for /dev/dri/renderD128")
        npu = only(onnxruntime_accelerators((), machine("sys/class/accel/accel0/device/vendor=0x8086\n"), ort))
        assert (npu.kind, npu.why) == ("npu", "OpenVINOExecutionProvider for /dev/accel/accel0")

    @pytest.mark.parametrize(
        ("accelerator", "provider"),
        [("cuda", "CUDAExecutionProvider"), ("QNN", "QNNExecutionProvider"), ("MyExecutionProvider",) * 2],
    )
    def test_names_of_providers(self, accelerator: str, provider: str) -> None:
        assert provider_of(accelerator) == provider


class TestPlugins:
    def test_of_an_installed_package(self, machine: Builder, package: Builder) -> None:
        ort = package("onnxruntime")
        library = package("onnxruntime_qnn", "libonnxruntime_providers_qnn.so") / "libonnxruntime_providers_qnn.so"
        assert plugin_libraries([ort.parent]) == (PluginLibrary("qnn", "npu", library),)
        found = only(onnxruntime_accelerators((), machine(), ort))
        assert (found.name, found.kind, found.present, found.why) == ("qnn", "npu", True, f"plug-in {library}")

    def test_by_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Builder) -> None:
        library = tmp_path / "libmine.so"
        library.write_bytes(ELF)
        monkeypatch.setenv("EDGE_SDK_ORT_PLUGINS", f"mine={library}:cuda={library}:fast@gpu=/none.so:nonsense:x@y=z")
        found = {plugin.name: plugin for plugin in plugin_libraries([package("onnxruntime").parent])}
        assert {name: plugin.kind for name, plugin in found.items()} == {"mine": "npu", "cuda": "gpu", "fast": "gpu"}

    def test_a_plugin_that_is_not_there(
        self, monkeypatch: pytest.MonkeyPatch, machine: Builder, package: Builder
    ) -> None:
        monkeypatch.setenv("EDGE_SDK_ORT_PLUGINS", "mine=/none/libmine.so")
        found = only(onnxruntime_accelerators((), machine(), package("onnxruntime")))
        assert (found.present, found.why) == (False, "plug-in /none/libmine.so does not exist")


class TestLiteRt:
    def test_its_gpu_part_alone_is_no_gpu(self, machine: Builder, package: Builder) -> None:
        litert = package("ai_edge_litert", "libLiteRtWebGpuAccelerator.so")
        found = only(litert_accelerators(litert, machine()))
        assert (found.name, found.present) == ("gpu", False)
        assert found.why == "libLiteRtWebGpuAccelerator.so is installed, but no GPU is found"

    @pytest.mark.parametrize("node", ["dev/dri/renderD128", "dev/mali0", "dev/kgsl-3d0"])
    def test_its_gpu_with_node_and_driver(self, node: str, machine: Builder, package: Builder) -> None:
        litert = package("ai_edge_litert", "libLiteRtWebGpuAccelerator.so")
        assert "neither libvulkan.so.1" in only(litert_accelerators(litert, machine(node))).why
        found = only(litert_accelerators(litert, machine("vendor/lib64/libOpenCL.so")))
        assert (found.present, found.why) == (True, f"libLiteRtWebGpuAccelerator.so for /{node} through libOpenCL.so")

    def test_an_npu_needs_its_vendors_runtime(self, machine: Builder, package: Builder) -> None:
        litert = package("ai_edge_litert", "vendors/intel_openvino/dispatch/libLiteRtDispatch_IntelOpenvino.so")
        found = only(litert_accelerators(litert, machine()))
        assert (found.present, found.why) == (False, "intel_openvino needs libopenvino.so*, which is not found")
        package("openvino", "libs/libopenvino.so.2631")
        assert only(litert_accelerators(litert, machine())).present

    @pytest.mark.parametrize(
        "hardware",
        [("dev/apex_0",), ("sys/bus/usb/devices/1-1/idVendor=18d1\n", "sys/bus/usb/devices/1-1/idProduct=9302\n")],
    )
    def test_an_edge_tpu_on_pcie_or_usb(self, hardware: tuple[str, ...], machine: Builder, package: Builder) -> None:
        litert = package("ai_edge_litert")
        assert not only(litert_accelerators(litert, machine(*hardware))).present
        found = only(litert_accelerators(litert, machine("usr/lib/aarch64-linux-gnu/libedgetpu.so.1")))
        assert (found.kind, found.name, found.present) == ("tpu", "edgetpu", True)

    def test_the_edge_tpu_library_alone(self, machine: Builder, package: Builder) -> None:
        found = only(litert_accelerators(package("ai_edge_litert"), machine("usr/lib/libedgetpu.so.1")))
        assert (found.present, found.why.endswith("but no Edge TPU is found")) == (False, True)

    def test_another_usb_device_is_none(self, machine: Builder, package: Builder) -> None:
        root = machine("sys/bus/usb/devices/1-1/idVendor=046d\n", "sys/bus/usb/devices/1-1/idProduct=c52b\n")
        assert litert_accelerators(package("ai_edge_litert"), root) == ()

    def test_delegates_by_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Builder, package: Builder
    ) -> None:
        good, text = tmp_path / "libgood.so", tmp_path / "notes.txt"
        good.write_bytes(ELF)
        text.write_text("hello")
        monkeypatch.setenv("EDGE_SDK_TFLITE_DELEGATES", f"{good}:{text}:/none.so")
        found = litert_accelerators(package("ai_edge_litert"), machine())
        assert [(a.name, a.present) for a in found] == [(str(good), True), (str(text), False), ("/none.so", False)]
        assert [a.why for a in found[1:]] == [
            "external delegate: the file is no shared library",
            "external delegate: the file does not exist",
        ]

    def test_delegates_of_known_vendors_are_found_by_name(self, machine: Builder, package: Builder) -> None:
        root = machine("usr/lib/libvx_delegate.so")
        found = only(litert_accelerators(package("ai_edge_litert"), root))
        assert (found.name, found.kind, found.present) == (str(root / "usr/lib/libvx_delegate.so"), "npu", True)


class TestAll:
    def test_every_engine_is_asked_and_a_failing_one_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpu = Accelerator(kind="gpu", name="x", engine="good", present=True)

        class Good:
            def accelerators(self) -> tuple[Accelerator, ...]:
                return (gpu,)

        class Bad:
            def accelerators(self) -> tuple[Accelerator, ...]:
                raise RuntimeError("no driver")

        monkeypatch.setattr(registry, "real_engines", lambda: {"bad": Bad(), "good": Good()})
        assert find_accelerators() == (gpu,)

    def test_this_machine_never_raises(self) -> None:
        for accelerator in find_accelerators():
            assert accelerator.usable is None
            assert accelerator.why
            assert "\n" not in accelerator.why

    def test_what_the_module_offers(self) -> None:
        assert all(hasattr(accelerators, name) for name in accelerators.__all__)
