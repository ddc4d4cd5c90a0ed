"""A bundle with a cascade: the small variant answers what it is sure of, where that keeps the accuracy and pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import edge_sdk
from edge_sdk import bundle
from edge_sdk.bundle import Accuracy, Cascade, Variant
from edge_sdk.signature import LogicalTensor, Signature
from tests import models

FILES = {"small": models.onnx_mlp(8, 4, 4), "big": models.onnx_mlp(8, 300_000, 4)}
SIGNATURE = Signature(
    inputs=(LogicalTensor(name="x", dtype="float32", shape=("batch", 8)),),
    outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),),
)
X = np.random.default_rng(0).standard_normal((1, 8), np.float32)


def bundle_with(tmp_path: Path, **changes: object) -> Path:
    told = {
        "small": "small", "big": "big", "output": "y", "score": "probability", "form": "probabilities",
        "threshold": 0.5, "metric": "top-1", "max_drop": 0.01, "risk": 0.05, "accuracy": 0.895,
        "small_accuracy": 0.8, "big_accuracy": 0.9, "escalated_share": 0.2, "samples": 700, "held_out": 300,
    }  # fmt: skip
    variants = [
        Variant(name=name, accuracy=(Accuracy(metric="top-1", value=value, data="held out", samples=300),))
        for name, value in (("small", 0.8), ("big", 0.9))
    ]
    path = tmp_path / "net.edge"
    cascade = Cascade(**{**told, **changes})  # type: ignore[arg-type]
    bundle.create(path, name="net", signature=SIGNATURE, variants=variants, files=FILES, cascades=[cascade])
    return path


def answers(path: Path, **asked: object) -> tuple[edge_sdk.Plan, np.ndarray]:
    with edge_sdk.load(path, plan_budget_s=0.3, **asked) as session:  # type: ignore[arg-type]
        return session.plan, session.run(X)["y"]


@pytest.mark.parametrize(("threshold", "answered_by"), [(0.0, "small"), (1.1, "big")])
def test_it_takes_the_place_of_the_big_variant_where_accuracy_demands_that(
    tmp_path: Path, threshold: float, answered_by: str
) -> None:
    path = bundle_with(tmp_path, threshold=threshold)
    plan, found = answers(path, min_accuracy=0.89)
    _, expected = answers(path, variant=answered_by)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert plan.kind == "cascade"
    assert plan.accuracy == 0.895
    row = next(row for row in plan.candidates if row.kind == "cascade")
    assert row.cascade is not None and (row.cascade.small, row.cascade.big, row.cascade.share) == ("small", "big", 0.2)
    assert plan.chosen is row
    assert "0.895 on held-out data" in plan.reason


def test_where_the_small_variant_will_do_it_runs_alone(tmp_path: Path) -> None:
    plan, _ = answers(bundle_with(tmp_path))
    assert (plan.kind, plan.variant) == ("local", "small")


@pytest.mark.parametrize(
    ("changes", "min_accuracy", "why"),
    [
        ({"escalated_share": 1.0}, 0.89, "does not pay"),
        ({}, 0.9, "its accuracy 0.895 is below"),
        ({"metric": "agreement"}, 0.89, "nobody measured its accuracy"),
    ],
)
def test_one_that_does_not_pay_or_keep_the_accuracy_is_told_and_left(
    tmp_path: Path, changes: dict[str, object], min_accuracy: float, why: str
) -> None:
    plan, _ = answers(bundle_with(tmp_path, **changes), min_accuracy=min_accuracy)
    assert (plan.kind, plan.variant) == ("local", "big")
    row = next(row for row in plan.candidates if row.kind == "cascade")
    assert not row.feasible
    assert why in row.reason
