"""Accelerators that execute without hardware: a vendor's simulator behind a plug-in provider."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

QNN = "onnxruntime-qnn==2.7.0"

RUN = """
import json, edge_sdk
from edge_sdk.engines.proof_models import onnx_models

model = next(m for m in onnx_models() if m.precision == "int8")
reference = list(edge_sdk.load(model.content, trusted=True).run({"x": model.sample}).values())[0]
session = edge_sdk.load(model.content, accelerator="qnn", strict=True, trusted=True)
answer = list(session.run({"x": model.sample}).values())[0]
report = session.report()
print(json.dumps({
    "agrees": bool(model.agrees(answer, reference)), "verified": report.verified,
    "places": [place.where for place in report.nodes], "accelerator": report.plan.accelerator,
}))
"""


@pytest.fixture(scope="module")
def with_qnn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for PYTHONPATH that holds the plug-in, apart from this environment."""
    folder = tmp_path_factory.mktemp("qnn")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), QNN]
    if subprocess.run(command, check=False).returncode:
        pytest.skip(f"{QNN} has no build for this machine")
    return str(folder)


def test_a_model_runs_on_the_plug_in_alone_with_the_cpus_result(with_qnn: str, own_cache: Path) -> None:
    environment = {"PYTHONPATH": with_qnn, "EDGE_SDK_CACHE": str(own_cache), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True)
    # The simulator writes lines of its own to standard output.
    (said,) = (line for line in done.stdout.splitlines() if line.startswith('{"agrees"'))
    assert json.loads(said) == {
        "agrees": True,
        "verified": True,
        "places": ["qnn"],
        "accelerator": "qnn",
    }


def test_the_device_command_proves_the_plug_in(with_qnn: str, own_cache: Path) -> None:
    environment = {"PYTHONPATH": with_qnn, "EDGE_SDK_CACHE": str(own_cache), "PATH": ""}
    command = [sys.executable, "-m", "edge_sdk.cli", "device", "--json", "--prove"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (found,) = (a for a in json.loads(done.stdout)["accelerators"] if a["name"] == "qnn")
    assert found["usable"] is True
    assert "simulator" in found["why"]
