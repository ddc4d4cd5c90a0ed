"""Altered files either open or are refused with an `EdgeError`; nothing else comes out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import EdgeError
from edge_sdk.graph import fused, open_graph
from tests import models
from tests.graph import drawn
from tests.graph.damaging import damaged, one_line, split_all

pytest.importorskip("onnx")

MODELS = {name: make() for name, make in {**models.ONNX_MODELS, **models.TFLITE_MODELS}.items()}
edits = st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=3)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_each_small_model_opens(name: str) -> None:
    try:
        graph = open_graph(MODELS[name])
    except EdgeError as error:  # a newer schema and the like
        assert "\n" not in str(error)
        return
    assert graph.peak_activation_bytes <= graph.activation_bytes
    for engine in ("onnxruntime", "litert", "another"):
        names = [op for group in fused(graph, engine) for op in group.ops]
        assert len(names) == len(set(names)) and set(names) <= {op.name for op in graph.ops}


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(MODELS)), edits)
def test_altered_models(name: str, changes: list[tuple[int, int]]) -> None:
    content = bytearray(MODELS[name])
    for place, byte in changes:
        content[place % len(content)] = byte
    try:
        graph = open_graph(bytes(content))
    except EdgeError as error:
        assert "\n" not in str(error)
        return
    assert graph.macs >= 0 and graph.peak_activation_bytes >= 0
    assert all(group.input_bytes >= 0 for group in fused(graph, "onnxruntime"))


# --- cutting them ---

CUTTABLE = "conv custom_op function int8_dynamic int8_qdq map_output mlp state with_initializer_inputs"
ROOT = Path(__file__).parents[2]


def put_models(folder: Path) -> list[Path]:
    """Small models that can be cut, as files."""
    for name in CUTTABLE.split():
        (folder / f"{name}.onnx").write_bytes(models.ONNX_MODELS[f"onnx_{name}"]())
    (folder / "qdq.onnx").write_bytes(drawn.qdq())
    (folder / "conv.tflite").write_bytes(models.TFLITE_MODELS["tflite_float_conv"]())
    return sorted(folder.iterdir())


def test_each_of_these_models_can_be_cut(tmp_path: Path) -> None:
    for path in put_models(tmp_path):
        assert split_all(path.read_bytes()), path.name


def test_altered_models_are_cut_into_whole_files_or_refused(tmp_path: Path) -> None:
    contents = [path.read_bytes() for path in put_models(tmp_path)]
    cut = 0
    for number in range(150):
        try:
            cut += split_all(damaged(contents[number % len(contents)], number)) > 0
        except EdgeError as error:
            assert one_line(error), (number, str(error))
    assert cut > 10  # else the damage would be too coarse to reach what is tested here


def in_child(what: str, folder: Path, first: int, last: int) -> None:
    """Cuts altered files of a folder in a process with bounds on memory and, for each, on time."""
    command = [sys.executable, "-m", "tests.graph.damaging", what, str(folder), str(first), str(last)]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    told = ended.stdout.splitlines()
    assert ended.returncode == 0, f"ended with {ended.returncode} at {told[-1:]}: {ended.stderr[-3000:]}"
    print(told[-1])


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 4000, 1000))
def test_thousands_of_altered_models_end_no_process(tmp_path: Path, first: int) -> None:
    put_models(tmp_path)
    in_child("all", tmp_path, first, first + 1000)


@pytest.mark.slow
def test_altered_real_models_end_no_process(tmp_path: Path, assets: Path) -> None:
    for name in ("mnist_cnn.onnx", "ultraface_rfb320.onnx", "ultraface_rfb320.tflite", "resnet8_cifar10_int8.tflite"):
        shutil.copy(assets / "models" / name, tmp_path)
    in_child("all", tmp_path, 0, 120)


@pytest.mark.slow
def test_the_command_tells_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    put_models(tmp_path)
    in_child("command", tmp_path, 0, 150)
