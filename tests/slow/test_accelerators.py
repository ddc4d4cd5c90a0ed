"""Accelerators that execute without hardware: a vendor's simulator behind a plug-in provider."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


COMPILED = """
import json, sys, edge_sdk
from edge_sdk.engines.proof_models import onnx_models

model = next(m for m in onnx_models() if m.precision == "int8")
session = edge_sdk.load(model.content, accelerator="qnn", strict=True, trusted=True)
answer = list(session.run({"x": model.sample}).values())[0]
report = session.report()
print(json.dumps({
    "kept": any("compiled form of an earlier start" in note for note in report.notes),
    "accelerator": report.plan.accelerator, "answer": answer.tolist(),
}))
"""


def test_the_compiled_form_is_used_again_and_made_anew_when_it_is_damaged_or_the_plug_in_is_another(
    with_qnn: str, own_cache: Path
) -> None:
    environment = {"PYTHONPATH": with_qnn, "EDGE_SDK_CACHE": str(own_cache), "PATH": ""}

    def told() -> dict[str, Any]:
        done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (said,) = (line for line in done.stdout.splitlines() if line.startswith('{"kept"'))
        return dict(json.loads(said))

    first, second = told(), told()
    assert (first["kept"], second["kept"]) == (False, True)
    assert first["answer"] == second["answer"] and second["accelerator"] == "qnn"
    for kept in own_cache.glob("graphs/*.onnx"):
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 0xFF
        kept.write_bytes(content)
    third = told()
    assert not third["kept"] and third["answer"] == first["answer"]
    (library,) = Path(with_qnn).glob("onnxruntime_qnn/**/libonnxruntime_providers_qnn.so")
    os.utime(library)
    fourth = told()
    assert not fourth["kept"] and fourth["answer"] == first["answer"]


STRICT = """
import edge_sdk
from edge_sdk.errors import AcceleratorError
from tests.models import helper, onnx_bytes, value

nodes = [helper.make_node("Add", ["x", "x"], ["twice"]), helper.make_node("Det", ["twice"], ["y"], name="determinant")]
model = onnx_bytes(nodes, [value("x", [2, 2])], [value("y", [])])
try:
    edge_sdk.load(model, accelerator="qnn", strict=True, trusted=True)
except AcceleratorError as error:
    print("refused:", error)
session = edge_sdk.load(model, accelerator="qnn", trusted=True)
print("places:", [(place.where, place.count) for place in session.report().nodes])
"""


def test_strict_names_the_nodes_that_would_stay_on_the_cpu(with_qnn: str, own_cache: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": f"{with_qnn}:{root}", "EDGE_SDK_CACHE": str(own_cache), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", STRICT], env=environment, capture_output=True, text=True, check=True)
    (refused,) = (line for line in done.stdout.splitlines() if line.startswith("refused:"))
    assert "'qnn': these nodes would stay on the CPU: determinant" in refused
    assert "places: [('qnn', 1), ('cpu', 1)]" in done.stdout or "places: [('cpu', 1), ('qnn', 1)]" in done.stdout


def test_the_device_command_proves_the_plug_in(with_qnn: str, own_cache: Path) -> None:
    environment = {"PYTHONPATH": with_qnn, "EDGE_SDK_CACHE": str(own_cache), "PATH": ""}
    command = [sys.executable, "-m", "edge_sdk.cli", "device", "--json", "--prove"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (found,) = (a for a in json.loads(done.stdout)["accelerators"] if a["name"] == "qnn")
    assert found["usable"] is True
    assert "simulator" in found["why"]
