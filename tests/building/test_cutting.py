"""A bundle keeps where each of its variants may be divided, and what uses a bundle takes it from there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

import edge_sdk
from edge_sdk import bundle
from edge_sdk.building import build
from edge_sdk.building.cutting import kept_cuts
from edge_sdk.cli import main
from edge_sdk.errors import ModelError
from edge_sdk.graph import cuts_pareto, open_graph
from edge_sdk.graph.cuts import cut_at
from edge_sdk.graph.cuts_pareto import pareto_cuts
from tests import models


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of these tests need no trial in a child process first."""
    monkeypatch.setattr("edge_sdk.engines.trial.require_trial", lambda *_: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a float and an int8 variant, as `build` writes it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "net.onnx").write_bytes(models.onnx_mlp(8, 16, 4))
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32))
    names = ("fp32", "int8-static")
    build(
        folder / "net.onnx", folder / "net.edge", variants=names, calibration=folder / "data.npz", keep=True,
        measure_s=0.0,
    )  # fmt: skip
    return folder / "net.edge"


def test_each_variant_keeps_its_pareto_set(made: Path) -> None:
    with bundle.open(made) as opened:
        assert len(opened.variants) == 2
        for variant in opened.variants:
            with opened.open_variant(variant.name) as file:
                graph = open_graph(file)
            kept = [cut for cut in opened.manifest.cuts if cut.variant == variant.name]
            assert kept
            pareto = {cut.id for cut in pareto_cuts(graph) if cut.divides}
            assert {cut.id for cut in kept} <= pareto
            assert variant.name != "fp32" or {cut.id for cut in kept} == pareto
            for cut in kept:
                same = cut_at(graph, cut.tensors, nearest=False)
                figures = ("wire_bytes", "head_ops", "tail_ops", "head_macs", "tail_macs")
                assert [getattr(cut, name) for name in figures] == [getattr(same, name) for name in figures]
                assert (cut.head_outputs, cut.tail_outputs) == (same.head_outputs, same.tail_outputs)


def test_those_of_an_int8_variant_lie_at_outputs_of_quantizelinear(made: Path) -> None:
    with bundle.open(made) as opened, opened.open_variant("int8-static") as file:
        graph = onnx.load_from_string(bytes(file.content())).graph
        tensors = {name for cut in opened.manifest.cuts if cut.variant == "int8-static" for name in cut.tensors}
    quantised = {name for node in graph.node if node.op_type == "QuantizeLinear" for name in node.output}
    assert tensors <= quantised | {value.name for value in graph.input}


def test_what_cannot_be_cut_keeps_none_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "loop.onnx").write_bytes(models.onnx_loop())
    cuts, note = kept_cuts("fp32", tmp_path / "loop.onnx")
    assert cuts == ()
    assert "cannot be split" in note and "Loop" in note
    build(tmp_path / "loop.onnx", tmp_path / "loop.edge", variants=("fp32",), measure_s=0.0)
    with bundle.open(tmp_path / "loop.edge") as opened:
        assert opened.manifest.cuts == ()
        assert any("cannot be split" in line for line in opened.variants[0].notes)


def test_a_bundle_lists_its_own_set(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bundle.open(made) as opened:
        ids = [cut.id for cut in opened.manifest.cuts if cut.variant == "fp32"]
        # Marked is what the bundle keeps, not what would be found anew.
        with bundle.copy(opened, tmp_path / "net.edge") as copied:
            bundle.update(copied, cuts=[cut for cut in opened.manifest.cuts if cut.id == ids[0]]).close()
    assert main(["split", str(tmp_path / "net.edge"), "--variant", "fp32", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["cuts"]
    assert [cut["id"] for cut in listed if cut["pareto"]] == ids[:1]
    assert len(listed) > 1


def test_a_session_takes_the_cut_from_the_bundle(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the cuts were listed anew")

    x = np.ones((1, 8), np.float32)
    options = {"variant": "fp32", "plan_budget_s": 0.0}
    with edge_sdk.load(made, **options) as session:  # type: ignore[arg-type]
        expected = session.run(x)["y"]
    monkeypatch.setattr(cuts_pareto, "pareto_cuts", never)
    monkeypatch.setattr("edge_sdk.graph.cuts.cuts_of", never)
    with bundle.open(made) as opened:
        kept = [cut for cut in opened.manifest.cuts if cut.variant == "fp32"]
    best = min(
        (cut for cut in kept if (cut.tail_macs or 0) >= (cut.head_macs or 0)), key=lambda c: c.wire_bytes or 0,
        default=min(kept, key=lambda c: c.wire_bytes or 0),
    )  # fmt: skip
    for cut in (None, best.id):
        with edge_sdk.load(made, endpoints=["http://127.0.0.1:9"], cut=cut, codec="none", **options) as session:  # type: ignore[arg-type]
            np.testing.assert_allclose(session.run(x)["y"], expected, rtol=1e-5)
            assert f"cut at {', '.join(best.tensors)}" in session.plan.reason


def test_a_set_that_is_not_of_the_file_is_told(made: Path, tmp_path: Path) -> None:
    with bundle.open(made) as opened, bundle.copy(opened, tmp_path / "net.edge") as copied:
        wrong = bundle.Cut(
            id="0123456789ab", variant="fp32", tensors=("nothing",), wire_bytes=1, head_ops=1, tail_ops=1
        )
        bundle.update(copied, cuts=[wrong]).close()
    with pytest.raises(ModelError, match="nothing"):
        edge_sdk.load(
            tmp_path / "net.edge", variant="fp32", plan_budget_s=0.0, endpoints=["http://127.0.0.1:9"], codec="none"
        )
