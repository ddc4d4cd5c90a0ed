"""What users may import is a list that changes only on purpose."""

from __future__ import annotations

import subprocess
import sys

import edge_sdk
import edge_sdk.errors

PUBLIC = [
    "AcceleratorFallback",
    "AcceleratorState",
    "CustomOps",
    "Device",
    "EdgeError",
    "EndpointAddress",
    "Governed",
    "Guard",
    "Metrics",
    "Plan",
    "Report",
    "Scheduler",
    "Session",
    "Target",
    "TensorSpec",
    "__version__",
    "load",
    "probe",
]


def test_the_package_exports_these_names_and_no_others() -> None:
    assert edge_sdk.__all__ == PUBLIC
    assert dir(edge_sdk) == PUBLIC
    for name in PUBLIC:
        assert getattr(edge_sdk, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    try:
        edge_sdk.nothing  # noqa: B018
    except AttributeError as error:
        assert "nothing" in str(error)
    else:
        raise AssertionError("no error")


def test_importing_the_package_brings_no_engine_and_no_numpy_along() -> None:
    heavy = ["numpy", "onnxruntime", "ai_edge_litert", "cv2", "msgspec", "yaml", "tqdm", "paho", "urllib3", "asyncio"]
    code = f"import sys, edge_sdk; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_error_is_an_edge_error_and_prints_as_one_plain_line() -> None:
    for name in edge_sdk.errors.__all__:
        kind = getattr(edge_sdk.errors, name)
        assert issubclass(kind, edge_sdk.EdgeError)
        assert str(kind("a 'quoted' line")) == "a 'quoted' line"
