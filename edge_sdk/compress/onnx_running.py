"""Running ONNX models on samples while building, and telling answers apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.compress.tools import needed, one_line
from edge_sdk.errors import CompressionError
from edge_sdk.tensors import Array

__all__ = ["differences", "run_samples", "session"]


def differences(first: Mapping[str, Array], second: Mapping[str, Array]) -> float:
    """Largest |difference| of any output over the largest |value| of that output in `first`; infinite where shapes,
    dtypes or the places of NaN and infinity differ, or whole numbers are not equal."""
    worst = 0.0
    for name, one in first.items():
        other = second.get(name)
        one = np.asarray(one)
        if other is None or np.shape(other) != one.shape or np.asarray(other).dtype != one.dtype:
            return float("inf")
        other = np.asarray(other)
        if one.dtype.kind != "f":
            if not np.array_equal(one, other):
                return float("inf")
            continue
        finite = np.isfinite(one)
        if not np.array_equal(finite, np.isfinite(other)):
            return float("inf")
        if finite.any():
            values = one[finite].astype(np.float64)
            largest = max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny))
            worst = max(worst, float(np.abs(values - other[finite]).max()) / largest)
    return worst


def run_samples(
    model: Any, feeds: Iterable[Mapping[str, Array]], *, optimise: bool = True
) -> Iterator[dict[str, Array]]:
    """Answers of a model (`ModelProto` or path) to samples, one after the other.

    Raises:
        CompressionError: the engine refuses the model or fails on a sample.
    """
    running = session(model, optimise=optimise)
    names = [output.name for output in running.get_outputs()]
    wanted = {entry.name for entry in running.get_inputs()}
    for number, feed in enumerate(feeds):
        try:
            answers = running.run(names, {name: value for name, value in feed.items() if name in wanted})
        except Exception as error:  # noqa: BLE001 - as above
            raise CompressionError(f"onnxruntime fails on sample {number}: {one_line(error)}") from None
        yield dict(zip(names, answers, strict=True))


def session(model: Any, *, optimise: bool = True) -> Any:
    """An ONNX Runtime session on the CPU over a `ModelProto` or a path. Its workers do not spin.

    Raises:
        CompressionError: the engine refuses the model.
    """
    ort = needed("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the engine raises its own classes for each kind of refusal
        raise CompressionError(f"onnxruntime refuses the model: {one_line(error)}") from None
