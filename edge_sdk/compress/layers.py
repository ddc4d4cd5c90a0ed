"""Which layers of a variant differ from the source: tensors of the same name, compared on the data."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.compress.answers import apart
from edge_sdk.compress.data import Data, spread
from edge_sdk.compress.running import Subject
from edge_sdk.compress.tapping import Node, open_tapped
from edge_sdk.tensors import Array

__all__ = ["LayerError", "layer_errors"]

SAMPLES = 8
# Ops that only move or store numbers hurt nothing by themselves; spelled alike for both formats.
_MOVES_ONLY = frozenset(
    ("quantizelinear", "dequantizelinear", "quantize", "dequantize", "cast", "identity", "constant", "shape")
) | frozenset(("reshape", "transpose", "flatten", "squeeze", "unsqueeze", "expanddims"))


@dataclass(frozen=True, slots=True)
class LayerError:
    """How far one layer's output lies from the source's.

    Attributes:
        name: of the node in the source; of its first output where the node has no name.
        error: |variant - source| / |source| at its output, over the samples.
        added: what of it this layer added to the error of its inputs.
        tensor: name of the output compared.
        op: type of the node.
    """

    name: str
    error: float
    added: float = 0.0
    tensor: str = ""
    op: str = ""


def layer_errors(source: Path, variant: Path, data: Data) -> tuple[LayerError, ...]:
    """Which layers of `variant` lie furthest from `source`, the one that adds most error first.

    Raises:
        ModelError: no engine loads one of the files, or it cannot be read.
        MissingExtra: the package that reads the format's graph is not installed.
    """
    one, two = open_tapped(source), open_tapped(variant)
    there = {name for node in two.nodes for name in node.outputs}
    wanted = [name for node in one.nodes for name in node.outputs if name and name in there and _counts(node)]
    if not wanted:
        return ()
    feeds = [data.feeds[index] for index in spread(len(data.feeds), SAMPLES)]
    with tempfile.TemporaryDirectory(prefix="edge-sdk-") as folder:
        for part in ("source", "variant"):
            Path(folder, part).mkdir()
        expected = _answers(one.write(wanted, Path(folder, "source")), feeds)
        given = _answers(two.write(wanted, Path(folder, "variant")), feeds)
    errors = _errors(wanted, expected, given)
    found = [
        LayerError(
            name=node.name or node.outputs[0],
            error=error,
            added=max(0.0, error - arriving),
            tensor=tensor,
            op=node.op,
        )
        for node, tensor, error, arriving in _with_arriving(one.nodes, errors)
    ]
    return tuple(sorted(found, key=lambda layer: -layer.added))


def _counts(node: Node) -> bool:
    return node.op.lower().replace("_", "") not in _MOVES_ONLY


def _answers(file: Path, feeds: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    with Subject(file) as subject:
        return [subject.answer(feed) for feed in feeds]


def _errors(
    tensors: Sequence[str], expected: Sequence[Mapping[str, Array]], given: Sequence[Mapping[str, Array]]
) -> dict[str, float]:
    errors = {}
    for name in tensors:
        pairs = [
            apart(one[name], two[name])
            for one, two in zip(expected, given, strict=True)
            if name in one and name in two and one[name].dtype.kind == "f" and one[name].shape == two[name].shape
        ]
        if pairs:
            distance, size = np.linalg.norm(np.array(pairs), axis=0)
            errors[name] = float(distance / size) if size > 0 else float(distance > 0)
    return errors


def _with_arriving(nodes: Sequence[Node], errors: Mapping[str, float]) -> list[tuple[Node, str, float, float]]:
    """Each node that was compared, with the error that arrives at its inputs.

    A tensor that was not compared carries on the error of those it was made from.
    """
    carried: dict[str, float] = {}
    found = []
    for node in nodes:
        arriving = max((carried.get(name, 0.0) for name in node.inputs), default=0.0)
        for name in node.outputs:
            carried[name] = errors.get(name, arriving)
        compared = [name for name in node.outputs if name in errors]
        if compared:
            worst = max(compared, key=lambda name: errors[name])
            found.append((node, worst, errors[worst], arriving))
    return found
