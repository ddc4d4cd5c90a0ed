"""`build --cascade`: a variant that is too weak alone may answer what it is sure of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import helper

from edge_sdk import bundle
from edge_sdk.building import build
from edge_sdk.building.figures import Observed
from edge_sdk.building.pairing import found_cascades, without_idle
from edge_sdk.building.result import VariantRow
from edge_sdk.building.writing import Entry
from edge_sdk.cli import main
from edge_sdk.cli.build_answers import as_text
from edge_sdk.compress.data import Data
from edge_sdk.compress.running import Subject, logical_signature
from edge_sdk.compress.scores import metric_for
from edge_sdk.compress.variants import Made, Maker
from edge_sdk.errors import CompressionError, InputValueError
from tests.models import constant, onnx_bytes, value

COUNT = 1500
CHANCE = np.random.default_rng(0)
# Of 2 classes: the sign of the first number, and on a fifth of the samples of the second, which the small overlooks.
EASY = CHANCE.random(COUNT) < 0.8
LABELS = CHANCE.integers(2, size=COUNT)
ROWS = np.stack(
    [np.where(EASY, 3.0, 0.0) * (2 * LABELS - 1), np.where(EASY, 0.0, 3.0) * (2 * LABELS - 1)], axis=1
).astype(np.float32) + CHANCE.normal(0, 0.1, (COUNT, 2)).astype(np.float32)


def classifier(second: float, name: str = "y") -> bytes:
    """Logits -s and s, where s = x0 + second * x1; in plain ops, so that all variants take as long."""
    return onnx_bytes(
        [helper.make_node("MatMul", ["x", "w"], [name])],
        [value("x", [1, 2])],
        [value(name, [1, 2])],
        [constant("w", [[-1, 1], [-second, second]])],
    )


@pytest.fixture(autouse=True)
def _untried(untried: None) -> None:
    """Models of these tests need no trial in a child process first."""


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    """A big variant, and a small one beyond the bound that takes a tenth of its time."""
    found = []
    for name, second, status, latency_ms in (("big", 1.0, "stored", 10.0), ("small", 0.0, "kept", 1.0)):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(classifier(second))
        row = VariantRow(name=name, status=status, latency_ms=latency_ms, size_bytes=100)
        found.append(Entry(row, path, None, Observed(latency_ms, None, 1, "onnxruntime", ())))
    return found


def data(labelled: bool = True) -> Data:
    return Data("rows", [{"x": row[None]} for row in ROWS], LABELS.tolist() if labelled else None)


def signature_of(entry: Entry) -> object:
    with Subject(entry.file) as subject:
        return logical_signature(subject.inputs, subject.outputs)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_fast_variant_answers_what_it_is_sure_of(entries: list[Entry], labelled: bool) -> None:
    given = data(labelled)
    pairs, notes = found_cascades(entries, given, metric_for(given), signature_of(entries[0]), 0.02)  # type: ignore[arg-type]
    assert notes == ()
    (made,) = pairs
    assert (made.small, made.big, made.output, made.metric) == (
        "small",
        "big",
        "y",
        "top-1" if labelled else "agreement",
    )
    assert 0.15 < made.escalated_share < 0.25
    assert made.small_accuracy < 0.95 < made.accuracy
    assert made.latency_ratio == pytest.approx(0.1 + made.escalated_share)


def test_without_a_much_faster_one_there_is_none_and_it_is_told(entries: list[Entry]) -> None:
    given = data()
    pairs, notes = found_cascades(entries[:1], given, metric_for(given), signature_of(entries[0]), 0.02)  # type: ignore[arg-type]
    assert (pairs, notes) == ((), ("no cascade ends in big: no other variant is much faster",))


def test_a_fast_variant_that_holds_the_bound_alone_needs_no_big_one(entries: list[Entry], tmp_path: Path) -> None:
    third = replace(entries[0], row=msgspec.structs.replace(entries[0].row, name="quick", latency_ms=1.2))
    given = data()
    pairs, notes = found_cascades([*entries, third], given, metric_for(given), signature_of(entries[0]), 0.02)  # type: ignore[arg-type]
    assert pairs == ()
    assert "of quick and big: quick holds the bound alone in 1.2 ms, the two take 1." in notes[0]


def test_a_variant_beyond_the_bound_stays_only_where_a_cascade_needs_it(entries: list[Entry]) -> None:
    given = data()
    pairs, _ = found_cascades(entries, given, metric_for(given), signature_of(entries[0]), 0.02)  # type: ignore[arg-type]
    assert without_idle(entries, pairs, keep=False) == entries
    assert without_idle(entries, (), keep=False) == entries[:1]
    assert without_idle(entries, (), keep=True) == entries


class TestBuild:
    @pytest.fixture
    def source(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A model of which the variant "int8-static" overlooks the second number and is smaller."""
        path = tmp_path / "net.onnx"
        path.write_bytes(classifier(1.0))

        def make(maker: Maker, name: str, folder: Path) -> Made:
            content = classifier(1.0 if name == "fp32" else 0.0)
            (folder / "made.onnx").write_bytes(content)
            return Made(name, folder / "made.onnx", "onnx", "float32", {}, ())

        monkeypatch.setattr(Maker, "make", make)
        monkeypatch.setattr("edge_sdk.building.pairing._is_smaller", lambda small, big: small is not big)
        return path

    def test_the_bundle_holds_the_cascade_and_its_parts(self, source: Path) -> None:
        names = ("fp32", "int8-static")
        out = source.with_name("net.edge")
        result = build(source, out, variants=names, evaluate=data(), max_drop=0.02, measure_s=0.0, cascade=True)
        assert {row.name: row.status for row in result.rows} == {"fp32": "stored", "int8-static": "kept"}
        with bundle.open(out) as opened:
            assert opened.manifest.cascades == result.cascades
            assert [variant.kept for variant in opened.variants] == ["", "beyond max-drop"]
        assert any(line.startswith("cascade: int8-static, and fp32 for") for line in as_text(result))

    def test_one_that_no_cascade_needs_is_dropped_as_ever(self, source: Path) -> None:
        few = Data("few", [{"x": row[None]} for row in ROWS[:60]], LABELS[:60].tolist())
        out = source.with_name("net.edge")
        names = ("fp32", "int8-static")
        result = build(source, out, variants=names, evaluate=few, max_drop=0.02, measure_s=0.0, cascade=True)
        assert {row.name: row.status for row in result.rows} == {"fp32": "stored", "int8-static": "dropped"}
        assert any("cannot show that a drop is within 0.02" in note for note in result.notes)

    def test_cuts_are_measured_where_asked(self, source: Path) -> None:
        out = source.with_name("net.edge")
        few = Data("few", [{"x": row[None]} for row in ROWS[:20]])
        build(source, out, variants=("fp32",), evaluate=few, measure_s=0.0, cuts_s=30.0)
        with bundle.open(out) as opened:
            (cut,) = opened.manifest.cuts
            assert (cut.variant, cut.head_ops) == ("fp32", 0)
            assert {way.codec for way in cut.codecs} >= {"none", "fp16", "int8"}
            assert cut.leakage is not None

    def test_neither_goes_without_data(self, source: Path) -> None:
        with pytest.raises(InputValueError, match="a cascade needs data"):
            build(source, source.with_name("net.edge"), cascade=True)
        with pytest.raises(InputValueError, match="measuring cuts needs data"):
            build(source, source.with_name("net.edge"), cuts_s=1.0)

    def test_inspect_tells_of_cascades_and_measured_cuts(
        self, source: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = source.with_name("net.edge")
        names = ("fp32", "int8-static")
        build(source, out, variants=names, evaluate=data(), max_drop=0.02, measure_s=0.0, cascade=True, cuts_s=0.0)
        assert main(["inspect", str(out)]) == 0
        told = capsys.readouterr().out
        assert "cuts         2, 2 of them measured" in told
        assert "cascades     int8-static, and fp32 for " in told

    def test_another_model_of_the_same_task_joins_under_other_names(self, source: Path) -> None:
        other = source.with_name("tiny.onnx")
        other.write_bytes(classifier(0.0, "scores"))
        out = source.with_name("net.edge")
        result = build(
            source, out, variants=("fp32",), evaluate=data(), max_drop=0.02, measure_s=0.0, smalls=[other]
        )  # fmt: skip
        assert [(row.name, row.status) for row in result.rows] == [("fp32", "stored"), ("small-tiny", "kept")]
        assert [(made.small, made.big, made.output) for made in result.cascades] == [("small-tiny", "fp32", "y")]
        with bundle.open(out) as opened:
            assert opened.variant("small-tiny").mapping.outputs[0].tensor == "scores"

    def test_a_model_of_another_size_is_refused(self, source: Path) -> None:
        other = source.with_name("other.onnx")
        other.write_bytes(
            onnx_bytes([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1, 3])], [value("y", [1, 3])])
        )
        with pytest.raises(
            CompressionError, match=r"other\.onnx cannot answer in the place of net\.onnx: it takes 'x'"
        ):
            build(source, source.with_name("net.edge"), variants=("fp32",), evaluate=data(), smalls=[other])
