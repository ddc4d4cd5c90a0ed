"""Variants by name: what each needs, what is refused and why, and that what is made runs and keeps to the source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.making import KINDS, kind_of, share_of
from edge_sdk.compress.onnx_files import MIN_IR_VERSION
from edge_sdk.compress.picking import Picked, spread
from edge_sdk.compress.searching import fewest, quick_guard
from edge_sdk.compress.variants import Maker, available, make
from edge_sdk.errors import CompressionError, DamagedModel, ModelError
from edge_sdk.formats import open_model
from tests import models
from tests.compress.networks import apart, pictures, small_classifier, written

pytest.importorskip("onnxslim")


pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(small_classifier(), tmp_path / "source.onnx")


def test_every_usual_variant_is_made_or_says_why(source: Path, tmp_path: Path) -> None:
    data = Data("noise", pictures(24))
    with Maker(source, data, Guard(source, data, 0.1)) as maker:
        outcome: dict[str, Any] = {}
        for name in available(source):
            try:
                made = maker.make(name, tmp_path / "out")
            except CompressionError as error:
                outcome[name] = str(error)
                assert str(error).startswith(f"{name}: ") and "\n" not in str(error)
            else:
                outcome[name] = apart(small_classifier(), made.file, pictures(3))
                assert made.file == tmp_path / "out" / f"{name}.onnx"
                assert made.recipe
    assert list(outcome) == [
        "fp32", "fp16", "int8-dynamic", "int8-static", "int8-mixed", "int4-weights", "pruned-50", "low-rank"
    ]  # fmt: skip
    assert outcome["fp32"] <= 1e-5
    assert outcome["fp16"] < 0.01
    assert outcome["int8-static"] < 0.1
    assert outcome["pruned-50"] < 1.0
    assert "within the bound already" in outcome["int8-mixed"]


def test_variants_are_combined_with_a_plus(source: Path, tmp_path: Path) -> None:
    made = make(source, "pruned-50+int8-static", tmp_path, Data("noise", pictures(24)))
    assert made.precision == "int8"
    assert {"pruned", "reconstructed", "calibration"} <= made.recipe.keys()
    assert open_model(made.file).describe().parameters < open_model(source).describe().parameters


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("int8", "there is no variant 'int8'; there are source, fp32, fp16"),
        ("", "there is no variant ''"),
        ("pruned-N", "there is no variant 'pruned-N'"),
        ("binary", "no engine here has kernels for weights of one or two bits"),
        ("pruned-0", "expected a whole number of percent from 1 to 95"),
        ("pruned-100", "expected a whole number of percent from 1 to 95"),
        ("int8-static+pruned-50", "pruned-50 cannot follow what ends in int8"),
        ("fp16+int8-dynamic", "int8-dynamic cannot follow what ends in float16"),
    ],
)
def test_names_that_make_no_sense_are_refused(name: str, why: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        make(source, name, tmp_path, Data("noise", pictures(8)))
    assert why in str(caught.value)


@given(st.one_of(st.text(max_size=20), st.from_regex(r"(pruned|sparse|int8|fp)-?[0-9a-zN]{0,6}", fullmatch=True)))
def test_any_name_is_a_kind_or_one_clear_error(name: str) -> None:
    try:
        kind = kind_of(name)
    except CompressionError as error:
        assert "\n" not in str(error).replace(repr(name), "").replace(name, "")
    else:
        assert kind.name in KINDS
        if kind.name.endswith("-N"):
            assert 0 < share_of(name) < 1


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.needs_data])
def test_without_data_none_is_made_up(name: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="needs calibration data: give real inputs, they are not made up"):
        make(source, name.replace("-N", "-50"), tmp_path)


@pytest.mark.parametrize(
    ("build", "precision"),
    [(models.tflite_int8, "int8"), (models.tflite_int8_dynamic, "int8 (dynamic)")],
)
def test_a_quantised_source_is_kept_as_it_is(build: Callable[[], bytes], precision: str, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(build())
    assert available(path) == ("source",)
    made = make(path, "source", tmp_path / "out")
    assert made.precision == precision
    assert made.file.read_bytes() == path.read_bytes()
    with pytest.raises(
        CompressionError, match=f"the source is {precision.partition(' ')[0]}.* already .*nothing to do"
    ):
        make(path, "int8-dynamic", tmp_path)


def test_external_data_go_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models.onnx_external_data(tmp_path)
    monkeypatch.setattr("edge_sdk.compress.variants._quantised", lambda _: True)
    made = make(path, "source", tmp_path / "out")
    assert open_model(made.file).describe().external_files == ("model.onnx.data",)
    assert (tmp_path / "out" / "model.onnx.data").read_bytes() == (tmp_path / "model.onnx.data").read_bytes()


def test_a_damaged_source_ends_before_any_tool_sees_it(source: Path, tmp_path: Path) -> None:
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedModel):
        make(source, "fp16", tmp_path)


@given(st.data())
def test_a_mutated_file_is_a_variant_or_a_clear_error(data: st.DataObject) -> None:
    import tempfile

    content = bytearray(small_classifier().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        path.write_bytes(content)
        try:
            made = make(path, "fp16", Path(folder, "out"))
        except (ModelError, CompressionError) as error:
            assert "\n" not in str(error)
        else:
            assert made.file.stat().st_size > 0


def test_a_variant_has_inputs_and_outputs_of_the_source(source: Path, tmp_path: Path) -> None:
    data = Data("noise", pictures(8))
    before = open_model(source).describe()
    for name in ("fp16", "int8-static", "pruned-50"):
        after = open_model(make(source, name, tmp_path, data).file).describe()
        assert [(spec.name, spec.dtype) for spec in (*after.inputs, *after.outputs)] == [
            (spec.name, spec.dtype) for spec in (*before.inputs, *before.outputs)
        ]
        assert after.ir_version >= MIN_IR_VERSION


def test_weights_fitted_to_the_samples_that_judge_them_are_told(source: Path, tmp_path: Path) -> None:
    data, others = Data("noise", pictures(24)), Data("others", pictures(8, seed=5))
    fitted = make(source, "pruned-50", tmp_path, data)
    apart_from_it = make(source, "pruned-50", tmp_path, data, Guard(source, others, 0.1))
    assert any("keep others aside" in note for note in fitted.notes)
    assert not any("keep others aside" in note for note in apart_from_it.notes)


@given(st.integers(0, 60), st.integers(1, 80))
def test_the_fewest_that_pass_are_found(most: int, enough: int) -> None:
    tried: list[int] = []

    def passes(count: int) -> bool:
        tried.append(count)
        return count >= enough

    assert fewest(most, passes) == (enough if enough <= most else None)
    assert len(tried) == len(set(tried)) <= 14


def test_choosing_looks_at_some_samples_evenly() -> None:
    feeds = [{"x": np.array([place])} for place in range(2000)]
    data = Data("many", feeds, list(range(2000)))
    quick = quick_guard(Guard(Path("source.onnx"), data, 0.5))
    assert len(quick.data.feeds) == 500 and quick.max_drop == 0.5
    assert quick.data.labels == [feed["x"][0] for feed in quick.data.feeds]
    few = Guard(Path("source.onnx"), Data("few", feeds[:3]), 0.5)
    assert quick_guard(few) is few


def test_picked_samples_are_read_when_asked_for() -> None:
    read: list[int] = []

    class Lazy(list[Any]):
        def __getitem__(self, place: Any) -> Any:
            read.append(place)
            return {"x": place}

    picked = spread(Lazy(range(100)), 4)
    assert isinstance(picked, Picked) and not read
    assert [feed["x"] for feed in picked] == [0, 25, 50, 75]
    assert [feed["x"] for feed in picked[1:3]] == [25, 50]
