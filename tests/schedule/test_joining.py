"""Whether requests may be computed together, and how they are joined and parted again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import InputShapeError
from edge_sdk.schedule.joining import form_of, joined, may_batch, parted
from edge_sdk.tensors import TensorSpec


def spec(name: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name, "float32", shape)


def running(compute: Any) -> Any:
    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": compute(feeds["x"])}

    return run


def test_a_model_that_treats_rows_apart_may_be_batched() -> None:
    assert may_batch([spec("x", None, 3)], [spec("y", None, 3)], running(lambda x: x * 2))


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x - x.mean(axis=0),
        lambda x: np.cumsum(x, axis=0),
        lambda x: x[::-1],
        lambda x: x[:1],
    ],
    ids=["normalises over it", "carries along it", "turns it round", "gives fewer rows"],
)
def test_a_model_whose_open_first_axis_is_no_batch_is_not(compute: Any) -> None:
    assert not may_batch([spec("x", None, 3)], [spec("y", None, 3)], running(compute))


def test_a_fixed_first_axis_is_not_batched() -> None:
    assert not may_batch([spec("x", 1, 3)], [spec("y", 1, 3)], running(lambda x: x))


def test_a_model_that_refuses_what_was_made_up_is_not_batched() -> None:
    def refuse(x: Any) -> Any:
        raise InputShapeError("too short")

    assert not may_batch([spec("x", None, None)], [spec("y", None)], running(refuse))


def test_requests_are_joined_and_parted_by_rows() -> None:
    requests = [{"x": np.full((n, 2), n, np.float32)} for n in (1, 3, 2)]
    assert len({form_of(r)[0] for r in requests}) == 1  # type: ignore[index]
    parts = parted({"y": joined(requests)["x"]}, [1, 3, 2])
    assert parts is not None
    assert all(np.array_equal(part["y"], r["x"]) for part, r in zip(parts, requests, strict=True))


def test_inputs_with_different_rows_are_computed_alone() -> None:
    assert form_of({"a": np.zeros((1, 2)), "b": np.zeros((2, 2))}) is None
    assert form_of({"a": np.zeros(())}) is None
    assert form_of({"a": np.zeros((0, 2))}) is None
