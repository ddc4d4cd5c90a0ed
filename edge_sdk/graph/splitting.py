"""`split_model`: from a model file and a cut to a head and a tail, which are ordinary model files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from edge_sdk.errors import ModelError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.codec import Coded, Range, Scales, SplitRecord, coded_tensors, coding_mark
from edge_sdk.graph.flow import Cut
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.view import Graph

__all__ = ["FLOAT_TOLERANCE", "Difference", "Split", "check_split", "compared", "run_split", "split_model"]

FLOAT_TOLERANCE = 1e-5
"""Largest |difference| / largest |value| of an output: fusions of ONNX Runtime that a cut breaks change rounding."""

Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Split:
    """A model as two.

    Attributes:
        head, tail: contents of two model files of the whole's format. Inputs and outputs of the model are called in
            them as in the whole. The head is empty where nothing is to be computed: inputs travel as they are.
        cut: where.
        codec: one of `edge_sdk.graph.codec.CODECS`.
        coded: how each tensor of the cut travels.
        sent: the tail's inputs, in its order. Each is an output of the head, or where the head does not give it the
            model's input of that name.
        head_outputs, tail_outputs: outputs of the model, by the part that gives them.
    """

    head: bytes
    tail: bytes
    cut: Cut
    codec: str
    coded: tuple[Coded, ...]
    sent: tuple[str, ...]
    head_outputs: tuple[str, ...]
    tail_outputs: tuple[str, ...]

    @property
    def scales(self) -> tuple[Scales, ...]:
        """Of what is scaled, in the cut's order."""
        return tuple(one.scales for one in self.coded if one.scales is not None)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far head and tail are from the whole on some feeds.

    Attributes:
        exact: whether all outputs are equal bit for bit.
        relative: largest difference of an output, relative to its largest value.
        output: the output it is of; "" where `exact`.
    """

    exact: bool
    relative: float
    output: str


def split_model(
    source: str | os.PathLike[str] | bytes | ModelFile,
    cut: Cut,
    *,
    codec: str = "none",
    ranges: Mapping[str, Range | tuple[Range, ...]] = MappingProxyType({}),
    scales: Sequence[Scales] = (),
    graph: Graph | None = None,
) -> Split:
    """Makes head and tail.

    Args:
        source: path of an ONNX or TFLite file, the bytes of one, or an open `ModelFile`, which stays open.
        cut: of this file's graph, with work on both sides, or at its inputs (`input_cut`).
        codec: how the cut's tensors travel, one of `edge_sdk.graph.codec.CODECS`.
        ranges: smallest and largest value of each tensor that the codec scales (`scaled_as`), or of each channel.
        scales: instead of ranges, of each of these tensors in the cut's order: those of a head made elsewhere.
        graph: of the file, where it is already open.

    Raises:
        ModelError: the cut is none of this file, or leaves all work to one side; a range is missing; weights lie in
            external files that cannot be read.
        UnsupportedOp: the graph holds control flow, or ops that keep state.
        MissingExtra: an ONNX file needs the extra `graph`, a TFLite file the extra `tflite`.
    """
    if not isinstance(source, ModelFile):
        with open_model(source) as model:
            return split_model(model, cut, codec=codec, ranges=ranges, scales=scales, graph=graph)
    graph = open_graph(source) if graph is None else graph
    if not (cut.divides or cut.is_at_inputs):
        raise ModelError(
            f"{source.name}: this cut leaves all work to one side; expected one that divides it, or its inputs"
        )
    if cut.format != graph.format or any(name not in graph.tensors for name in cut.tensors):
        raise ModelError(f"{source.name}: cut {cut.id} is of another model; list the cuts of this one")
    if graph.format == "onnx":
        from edge_sdk.graph.onnx_cut import split_onnx

        coded = coded_tensors(graph, cut, codec, ranges, scales=scales)
        head, tail = split_onnx(source, graph, cut, coded, _records(source, cut, codec, [c.sent for c in coded], coded))
        sent, names = tuple(c.sent for c in coded), {name: name for name in graph.outputs}
    else:
        from edge_sdk.graph.tflite_cut import called, split_tflite

        names = called(source, graph)
        coded = coded_tensors(graph, cut, codec, ranges, names.values(), scales)
        sent = tuple(names.get(c.sent, c.sent) for c in coded)
        head, tail = split_tflite(source, graph, cut, coded, _records(source, cut, codec, sent, coded))
    if cut.is_at_inputs and not cut.head_outputs and all(one.codec == "none" for one in coded):
        head = b""
    return Split(
        head, tail, cut, codec, coded, sent,
        tuple(names[name] for name in cut.head_outputs), tuple(names[name] for name in cut.tail_outputs),
    )  # fmt: skip


def _records(
    source: ModelFile, cut: Cut, codec: str, sent: Iterable[str], coded: Iterable[Coded]
) -> tuple[SplitRecord, SplitRecord]:
    head = SplitRecord(
        part="head",
        source=source.fingerprint,
        cut=cut.id,
        tensors=cut.tensors,
        codec=codec,
        sent=tuple(sent),
        mark=coding_mark(codec, [one.scales for one in coded if one.scales is not None]),
    )
    return head, msgspec.structs.replace(head, part="tail")


def run_split(split: Split, head: Run, tail: Run, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Runs the head, then the tail on what the head gives.

    Args:
        split: that the two are of.
        head, tail: run a loaded part; they take just the inputs that the part has. An empty head is not run.
        feeds: all inputs of the whole.

    Returns:
        The whole's outputs by name.
    """
    given = head(feeds) if split.head else {}
    answer = tail({name: given[name] if name in given else feeds[name] for name in split.sent})
    # By what is no output of the head, rather than by names: of a map an engine gives the keys beside the values.
    own = {name: array for name, array in given.items() if name in split.head_outputs or name not in split.sent}
    return own | dict(answer)


def check_split(
    split: Split,
    whole: Run,
    head: Run,
    tail: Run,
    feeds: Iterable[Mapping[str, Any]],
    *,
    tolerance: float | None = None,
) -> Difference:
    """Compares head then tail with the whole.

    Args:
        split: what is checked.
        whole, head, tail: run a loaded model file; they take just the inputs that the file has.
        feeds: requests to compare on.
        tolerance: largest relative difference; None for 0 with TFLite and `FLOAT_TOLERANCE` with ONNX. With a lossy
            codec pass what the application bears.

    Raises:
        ModelError: an output differs by more; the message names it.
    """
    allowed = (0.0 if split.cut.format == "tflite" else FLOAT_TOLERANCE) if tolerance is None else tolerance
    worst = Difference(True, 0.0, "")
    for request in feeds:
        expected, given = whole(request), run_split(split, head, tail, request)
        if missing := sorted(expected.keys() - given.keys()):
            raise ModelError(f"cut {split.cut.id}: head and tail do not give the output {missing[0]!r}; cut elsewhere")
        found = compared(expected, given)
        if not found.exact and (worst.exact or found.relative > worst.relative):
            worst = found
    if not worst.relative <= allowed:
        raise ModelError(
            f"cut {split.cut.id}: head and tail differ from the whole model at output {worst.output!r} by"
            f" {worst.relative:.2g} of its largest value, more than {allowed:g}; cut elsewhere"
        )
    return worst


def compared(expected: Mapping[str, Any], given: Mapping[str, Any]) -> Difference:
    """How far answers are from those expected, of the output that is farthest off.

    Args:
        expected: output name to array.
        given: of the same names, at least.
    """
    worst = Difference(True, 0.0, "")
    for name, array in expected.items():
        relative, exact = _apart(np.asarray(array), np.asarray(given[name]))
        if not exact and (worst.exact or relative > worst.relative):
            worst = Difference(False, relative, name)
    return worst


def _apart(expected: Any, given: Any) -> tuple[float, bool]:
    """Largest difference relative to the largest value, and whether there is none at all. NaN equals NaN."""
    if expected.shape != given.shape or expected.dtype != given.dtype:
        return float("inf"), False
    if expected.tobytes() == given.tobytes():
        return 0.0, True
    if expected.dtype.kind not in "fiub":
        return float("inf"), False
    one, other = expected.astype(np.float64), given.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if not np.isfinite(np.where(same, 0.0, one)).all() or not np.isfinite(np.where(same, 0.0, other)).all():
        return float("inf"), False
    distance = float(np.abs(np.where(same, 0.0, one - other)).max(initial=0.0))
    size = float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
    return distance / size if size else (float("inf") if distance else 0.0), False
