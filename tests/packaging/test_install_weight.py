"""The base install, made in an empty environment: what comes along, what it weighs, and that it works alone."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

WEIGH = Path(__file__).parents[2] / "packaging" / "weigh.py"
MAX_BYTES = 165_000_000
MAX_DISTRIBUTIONS = 14


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weighed") / "venv"


@pytest.fixture(scope="module")
def weights(environment: Path) -> dict[str, Any]:
    """What `packaging/weigh.py` says of a fresh install in `environment`."""
    done = subprocess.run(
        [sys.executable, WEIGH, "--json", "--venv", environment], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture(scope="module")
def wheel(weights: dict[str, Any], environment: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(environment / weights["wheel"])


def run_inside(environment: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the environment, away from the checkout and blind to it."""
    arguments = [str(environment / "bin" / command[0]), *command[1:]]
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(environment), "EDGE_SDK_CACHE": str(environment / "cache")}
    return subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=environment, env=variables)


def test_is_light(weights: dict[str, Any]) -> None:
    names = [row["name"] for row in weights["distributions"]]
    assert weights["count"] == len(names) <= MAX_DISTRIBUTIONS, names
    assert weights["bytes"] <= MAX_BYTES, weights["distributions"][:6]


def test_brings_no_heavy_stranger(weights: dict[str, Any]) -> None:
    names = {row["name"].lower().replace("_", "-") for row in weights["distributions"]}
    assert {"edge-sdk", "numpy", "onnxruntime", "msgspec"} <= names
    strangers = ("onnx", "torch", "tensorflow", "ai-edge-litert", "tflite-runtime", "sympy")
    assert not [name for name in names if name in strangers or name.startswith(("opencv", "grpc"))]


def test_wheel_holds_its_data(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    checkout = WEIGH.parents[1]
    profiles = {f"device_profiles/{path.name}" for path in (checkout / "device_profiles").glob("*.yaml")}
    data = {str(path.relative_to(checkout)) for path in (checkout / "edge_sdk").rglob("*.json")}
    assert profiles
    assert data
    assert names >= {"edge_sdk/py.typed", *profiles, *data}


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edge_sdk", "cloud_offload", "device_profiles"}


def test_command_works_alone(weights: dict[str, Any], environment: Path) -> None:
    told = run_inside(environment, "edge-sdk", "--help")
    assert told.returncode == 0, told.stderr
    assert "device" in told.stdout
    device = run_inside(environment, "edge-sdk", "device", "--json")
    assert device.returncode == 0, device.stderr
    facts = json.loads(device.stdout)
    assert facts["schema"] == 1
    assert facts["clusters"]
    assert set(facts["engines"]) >= {"onnxruntime"}


def test_every_profile_is_read_from_the_install(weights: dict[str, Any], environment: Path) -> None:
    listed = run_inside(environment, "edge-sdk", "device", "--list")
    assert listed.returncode == 0, listed.stderr
    for profile in (WEIGH.parents[1] / "device_profiles").glob("*.yaml"):
        assert profile.stem in listed.stdout


def test_import_brings_no_engine_in(weights: dict[str, Any], environment: Path) -> None:
    code = "import sys; import edge_sdk; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    told = run_inside(environment, "python", "-c", code)
    assert told.returncode == 0, told.stderr
    loaded = set(told.stdout.split())
    assert "edge_sdk" in loaded
    assert not loaded & {"onnxruntime", "ai_edge_litert", "tflite_runtime", "yaml", "tqdm", "paho", "urllib3", "cv2"}
