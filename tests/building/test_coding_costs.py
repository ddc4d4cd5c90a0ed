"""Every way for a cut's tensors to travel is measured on data: bytes, accuracy, time, leakage."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import helper

from edge_sdk import signature
from edge_sdk.building.coding_costs import FEWEST_SAMPLES, measured_cuts
from edge_sdk.building.cutting import kept_cuts
from edge_sdk.bundle import Cut
from edge_sdk.compress.data import Data
from edge_sdk.compress.scores import metric_for
from edge_sdk.engines.base import LoadOptions, Runner
from edge_sdk.engines.onnxruntime import OnnxRuntimeEngine
from edge_sdk.formats import ModelFile
from edge_sdk.tensors import Array
from tests import models

CHANCE = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _untried(untried: None) -> None:
    """Models of these tests need no trial in a child process first."""


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(models.onnx_mlp(64, 16, 4))
    return path


def rows(count: int = 30) -> list[dict[str, Array]]:
    return [{"x": CHANCE.normal(size=(1, 64)).astype(np.float32)} for _ in range(count)]


def of(cut: Cut, codec: str, coding: str = "none") -> Any:
    return next(way for way in cut.codecs if (way.codec, way.coding) == (codec, coding))


class TestCuts:
    def test_all_are_measured_with_each_codec_and_the_inputs_are_one_of_them(self, mlp: Path) -> None:
        kept, _ = kept_cuts("fp32", mlp)
        found, note = measured_cuts(mlp, kept, Data("rows", rows()), variant="fp32")
        assert note == ""
        assert (found[0].head_ops, found[0].tensors, found[0].variant) == (0, ("x",), "fp32")
        assert {cut.id for cut in found[1:]} == {cut.id for cut in kept}
        for cut in found:
            raw = of(cut, "none")
            assert raw.wire_bytes == cut.wire_bytes
            assert raw.drop == 0
            assert of(cut, "fp16").wire_bytes == raw.wire_bytes / 2
            assert of(cut, "int8").wire_bytes == raw.wire_bytes / 4
            assert of(cut, "int4").wire_bytes == raw.wire_bytes / 8
            assert all(way.metric == "agreement" and way.samples == 30 for way in cut.codecs)
            assert cut.leakage is not None
        assert found[0].leakage > max(cut.leakage or 0 for cut in found[1:])

    def test_labels_are_judged_by_the_metric(self, mlp: Path) -> None:
        data = Data("rows", rows(), [0] * 30)
        found, _ = measured_cuts(mlp, (), data, metric_for(data))
        raw = of(found[0], "none")
        assert (raw.metric, raw.data) == ("top-1", "rows")
        assert raw.accuracy == pytest.approx(of(found[0], "fp16").accuracy)
        assert raw.accuracy < 1

    def test_packing_has_a_row_where_it_takes_bytes_off(self, mlp: Path) -> None:
        sparse = [{"x": np.where(CHANCE.random((1, 64)) < 0.1, 1, 0).astype(np.float32)} for _ in range(12)]
        found, _ = measured_cuts(mlp, (), Data("sparse", sparse))
        deflated = of(found[0], "none", "deflate")
        assert deflated.wire_bytes < 150
        assert deflated.encode_share > 0 and deflated.decode_share > 0
        noise, _ = measured_cuts(mlp, (), Data("noise", rows(12)))
        assert {way.coding for way in noise[0].codecs if way.codec == "int8"} == {"none"}

    def test_packing_is_told_in_requests_on_one_core(self, mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        timed: list[object] = []

        def alone_ms(request: Callable[[], object], budget_s: float) -> tuple[float, int]:
            request()
            timed.append(threads[-1])
            return 50.0, 1

        threads: list[int | None] = []
        load = OnnxRuntimeEngine.load

        def loaded(engine: OnnxRuntimeEngine, model: ModelFile, options: LoadOptions) -> Runner:
            threads.append(options.threads)
            return load(engine, model, options)

        monkeypatch.setattr(OnnxRuntimeEngine, "load", loaded)
        monkeypatch.setattr("edge_sdk.building.split_variant.median_ms", alone_ms)
        sparse = [{"x": np.where(CHANCE.random((1, 64)) < 0.1, 1, 0).astype(np.float32)} for _ in range(12)]
        found, _ = measured_cuts(mlp, (), Data("sparse", sparse))
        assert timed == [1]
        assert 0 < of(found[0], "none", "deflate").encode_share < 1, "of 50 ms"

    def test_what_the_time_does_not_allow_stays_as_it_is(self, mlp: Path) -> None:
        kept, _ = kept_cuts("fp32", mlp)
        found, note = measured_cuts(mlp, kept, Data("rows", rows(10)), budget_s=0)
        assert sum(bool(cut.codecs) for cut in found) == 1
        assert note == f"1 of {len(kept) + 1} cuts measured, which took 0 s"
        assert found[0].codecs[0].samples == 10
        assert measured_cuts(mlp, (), Data("rows", rows(40)), budget_s=0)[0][0].codecs[0].samples == FEWEST_SAMPLES
        assert {cut.id for cut in kept} < {cut.id for cut in found}

    def test_a_variant_of_another_layout_is_fed_and_read_as_the_source(self, tmp_path: Path) -> None:
        """x is fed as [1, 4, 3], the variant takes [1, 3, 4] and calls it otherwise."""
        path = tmp_path / "turned.onnx"
        path.write_bytes(
            models.onnx_bytes(
                [helper.make_node("Relu", ["a"], ["h"]), helper.make_node("Mul", ["h", "two"], ["b"])],
                [models.value("a", [1, 3, 4])],
                [models.value("b", [1, 3, 4])],
                [models.constant("two", [2.0])],
            )
        )
        like = signature.Signature(
            inputs=(signature.LogicalTensor(name="x", dtype="float32", shape=(1, 4, 3)),),
            outputs=(signature.LogicalTensor(name="y", dtype="float32", shape=(1, 4, 3)),),
        )
        mapping = signature.Mapping(
            inputs=(signature.TensorMapping(name="x", tensor="a", transpose=(0, 2, 1)),),
            outputs=(signature.TensorMapping(name="y", tensor="b", transpose=(0, 2, 1)),),
        )
        kept, _ = kept_cuts("turned", path)
        feeds = [{"x": CHANCE.normal(size=(1, 4, 3)).astype(np.float32)} for _ in range(12)]
        found, note = measured_cuts(path, kept, Data("rows", feeds), mapping=mapping, like=like)
        assert note == ""
        assert all(of(cut, "none").drop == 0 for cut in found)
        assert 0 < of(found[0], "int4").drop < 0.2


class TestSound:
    def test_samples_travel_as_16_bits_and_as_flac(self, tmp_path: Path) -> None:
        path = tmp_path / "loud.onnx"
        path.write_bytes(
            models.onnx_bytes(
                [helper.make_node("Abs", ["x"], ["h"]), helper.make_node("ReduceMean", ["h"], ["y"], axes=[1])],
                [models.value("x", [1, 800])],
                [models.value("y", [1, 1])],
            )
        )
        notes = [np.sin(np.arange(800) / CHANCE.uniform(5, 40))[None].astype(np.float32) * 0.5 for _ in range(12)]
        kept, _ = kept_cuts("fp32", path)
        found, _ = measured_cuts(path, kept, Data("notes", [{"x": note} for note in notes]))
        assert of(found[0], "int16").wire_bytes == 1600
        assert of(found[0], "int16").drop < 1e-3
        if importlib.util.find_spec("soundfile") is not None:
            assert of(found[0], "int16", "flac").wire_bytes < 1600
            assert of(found[0], "int16", "flac").drop < 1e-3
        cuts = {way.codec for cut in found[1:] for way in cut.codecs}
        assert "int8" in cuts
        assert "int16" not in cuts


class TestPictures:
    def test_inputs_travel_as_files_and_what_that_costs_is_told(self, tmp_path: Path) -> None:
        pytest.importorskip("cv2")
        path = tmp_path / "mean.onnx"
        path.write_bytes(
            models.onnx_bytes(
                [
                    helper.make_node("Cast", ["x"], ["f"], to=1),
                    helper.make_node("GlobalAveragePool", ["f"], ["g"]),
                    helper.make_node("Flatten", ["g"], ["y"]),
                ],
                [models.value("x", [1, 3, 32, 32], 2)],
                [models.value("y", [1, 3])],
            )
        )
        y, x = np.mgrid[0:32, 0:32]
        waves = [
            np.sin(y / a + x / b)[None] * 60 + 128 + 20 * CHANCE.normal(size=(3, 1, 1))
            for a, b in CHANCE.uniform(4, 9, (12, 2))
        ]
        data = Data("waves", [{"x": wave[None].clip(0, 255).astype(np.uint8)} for wave in waves])
        found, _ = measured_cuts(path, (), data)
        jpeg = [of(found[0], "none", coding) for coding in ("jpeg@50", "jpeg@90")]
        assert jpeg[0].wire_bytes < jpeg[1].wire_bytes < 3072
        assert jpeg[1].accuracy > 0.8
        assert of(found[0], "none", "webp@75").encode_share > 0
