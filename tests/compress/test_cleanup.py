"""Cleaning an ONNX file up: the same results within 1e-5, or the step is not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_sdk.compress.onnx_cleanup import TOLERANCE, clean, trial_feeds
from edge_sdk.compress.onnx_files import load, save
from edge_sdk.compress.onnx_graphs import tapped
from edge_sdk.compress.onnx_running import differences
from edge_sdk.errors import CompressionError, DamagedModel, MissingExtra
from tests import models
from tests.compress.networks import Net, answers, apart, pictures, small_classifier, written

pytest.importorskip("onnxslim")


def test_constants_are_folded_and_results_stay(tmp_path: Path) -> None:
    # image + (1 + 2), then an identity
    net = Net()
    constant = net.op("Add", net.weight(1.0), net.weight(2.0))
    model = net.model(net.op("Identity", net.relu(net.op("Add", "image", constant))))
    cleaned = clean(written(model, tmp_path / "m.onnx"), pictures(3))
    assert len(cleaned.model.graph.node) < len(model.graph.node)
    assert apart(model, cleaned.model, pictures(2)) <= TOLERANCE
    assert "onnxslim" in cleaned.recipe["clean-up"]


def test_initialisers_are_no_inputs_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.onnx_with_initializer_inputs())
    cleaned = clean(path, [{"x": np.ones((1, 4), np.float32)}])
    assert [entry.name for entry in cleaned.model.graph.input] == ["x"]
    assert cleaned.notes == ("2 initialisers taken out of the graph inputs",)


def test_made_up_inputs_are_never_silent(tmp_path: Path) -> None:
    notes = clean(written(small_classifier(), tmp_path / "m.onnx"), []).notes
    assert any("made-up inputs" in note for note in notes)


@pytest.mark.parametrize("fault", ["wrong", "crash", "renamed"])
def test_a_clean_up_that_changes_anything_is_not_used(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxslim

    def slim(model: Any, **_: Any) -> Any:
        if fault == "crash":
            raise KeyError("a pass that met what it does not know")
        if fault == "renamed":
            model.graph.output[0].name = "other"
            model.graph.node[-1].output[0] = "other"
        else:
            weight = model.graph.initializer[0]
            weight.raw_data = (onnx.numpy_helper.to_array(weight) * 1.001).tobytes()
        return model

    monkeypatch.setattr(onnxslim, "slim", slim)
    model = small_classifier()
    cleaned = clean(written(model, tmp_path / "m.onnx"), pictures(2))
    assert cleaned.recipe == {"clean-up": "initialisers only"}
    assert any("onnxslim was not used" in note for note in cleaned.notes)
    assert apart(model, cleaned.model, pictures(2)) <= TOLERANCE


def test_a_clean_up_never_adds_ops(tmp_path: Path) -> None:
    # matmul → add of three dimensions: as Gemm it would need a Reshape before and one after
    net = Net((1, 8, 16))
    product = net.op("MatMul", "image", net.weight(net.random.normal(size=(16, 16))))
    model = net.model(net.op("Add", product, net.weight(net.random.normal(size=16))))
    cleaned = clean(written(model, tmp_path / "m.onnx"), [{"image": np.ones((1, 8, 16), np.float32)}])
    assert len(cleaned.model.graph.node) <= 2


def test_a_missing_package_is_one_line_with_the_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxslim", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edge-sdk\[build\]'"):
        clean(written(small_classifier(), tmp_path / "m.onnx"), [])


def test_a_model_the_engine_cannot_run_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.onnx_custom_op())
    with pytest.raises(CompressionError, match=r"Frobnicate|refuses"):
        clean(path, [])


def test_a_file_that_is_no_onnx_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(DamagedModel, match=r"m\.onnx: cannot be read as ONNX"):
        load(path)


def test_open_sizes_are_tried_until_the_model_takes_them(tmp_path: Path) -> None:
    # A window of 32 wants at least as many steps.
    net = Net((1, 1, "steps"))
    model = net.model(net.op("AveragePool", "image", kernel_shape=[32]))
    (feed,) = trial_feeds(written(model, tmp_path / "m.onnx"), [])
    assert feed["image"].shape == (1, 1, 64)


def test_weights_in_a_file_of_their_own_are_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models.onnx_external_data(tmp_path)
    feed = {"x": np.zeros(64, np.float32)}
    (before,) = answers(load(path), [feed])
    assert np.array_equal(before["y"], np.arange(64, dtype=np.float32))
    net = Net((1, 16, 8, 8))
    model = net.model(net.conv("image", 16, 64))
    monkeypatch.setattr("edge_sdk.compress.onnx_files._LARGEST_SINGLE_FILE", 1024)
    target = tmp_path / "out" / "model.onnx"
    target.parent.mkdir()
    save(model, target)
    assert (tmp_path / "out" / "model.onnx.data").stat().st_size >= 64 * 16 * 9 * 4
    assert target.stat().st_size < 2048
    assert apart(load(target), target, pictures(1, (1, 16, 8, 8))) == 0.0


def test_differences_tell_what_is_no_longer_the_same() -> None:
    ones = {"y": np.ones(3, np.float32)}
    assert differences(ones, {"y": np.array([1, 1, 1.5], np.float32)}) == pytest.approx(0.5)
    for other in ({}, {"y": np.ones(4, np.float32)}, {"y": np.ones(3)}, {"y": np.array([1, 1, np.nan], np.float32)}):
        assert differences(ones, other) == float("inf")
    assert differences({"y": np.array([1, 2])}, {"y": np.array([1, 3])}) == float("inf")
    assert differences({"y": np.array([np.inf], np.float32)}, {"y": np.array([np.inf], np.float32)}) == 0.0


def test_a_part_of_a_model_runs_by_itself() -> None:
    model = small_classifier()
    inner = model.graph.node[1].output[0]
    part = tapped(model, [inner])
    assert len(part.graph.node) == 2
    (answer,) = answers(part, pictures(1))
    assert answer[inner].shape == (1, 16, 16, 16)
