"""Head and tail of a model, made and compared with the whole before anything relies on them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.engines.base import LoadOptions, Runner
from edge_sdk.engines.registry import engines_for
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.engines.trial import require_trial
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.codec import SCALED_CODECS, Range, Scales, scaled_as
from edge_sdk.graph.codec_ranges import RangeWatch
from edge_sdk.graph.flow import Cut
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.splitting import Difference, Run, Split, check_split, split_model
from edge_sdk.graph.view import Graph
from edge_sdk.tensors import FeedCheck

__all__ = ["Parts", "made_parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """A split that gave what the whole gives.

    Attributes:
        split: head and tail.
        difference: how far they were from the whole on the samples.
        samples: how many requests they were compared on; 0 of a cut at the inputs where none were given.
        made_up: whether these were random numbers, because there were no samples.
    """

    split: Split
    difference: Difference
    samples: int
    made_up: bool


def made_parts(
    model: ModelFile,
    cut: Cut,
    *,
    codec: str = "none",
    samples: Sequence[Mapping[str, Any]] = (),
    scales: Sequence[Scales] = (),
    graph: Graph | None = None,
    tolerance: float | None = None,
) -> Parts:
    """Makes head and tail, runs them and the whole on samples, and compares.

    Args:
        model: an ONNX or TFLite file; stays open.
        cut: of its graph.
        codec: how the cut's tensors travel, one of `edge_sdk.graph.codec.CODECS`.
        samples: requests, input name to array; ranges of what is scaled come from them. Random numbers where there are
            none.
        scales: instead, of each tensor that the codec scales, in the cut's order: those of a head made elsewhere.
        graph: of the file, where it is already open.
        tolerance: largest |difference| / largest |value| of an output; None for what the format allows, and with a
            lossy codec for any that is finite.

    Raises:
        ModelError: the model cannot be cut so, or head and tail differ from it by more.
        InputError: a sample does not fit the model.
        EngineError: an engine refused or failed.
        MissingExtra: a package for cutting is not installed.
    """
    # One after the other: a device that has room for the whole and one head has it for making them too.
    with _loaded(model) as whole:
        check = FeedCheck(whole.inputs, whole.optional_inputs, f"{model.name}: sample")
        requests = [check(sample) for sample in samples]
        # At the inputs the tail is the whole, of which not every input can be made up: sizes may depend on each other.
        if not requests and not (cut.is_at_inputs and (scales or codec not in SCALED_CODECS)):
            requests = [made_up_feeds(whole.inputs, whole.optional_inputs)]
        run = _run(whole)
        expected = [run(request) for request in requests]
    graph = open_graph(model) if graph is None else graph
    split = split_model(model, cut, graph=graph)
    if codec != "none":
        ranges = {} if scales else _ranges(split, graph, codec, requests)
        split = split_model(model, cut, codec=codec, ranges=ranges, scales=scales, graph=graph)
        tolerance = sys.float_info.max if tolerance is None else tolerance
    given = _given(split, model.name, requests)
    with _opened(split.tail, model.name) as tail:
        difference = check_split(
            split, _replayed(expected), _replayed(given), _run(tail), requests, tolerance=tolerance
        )
    return Parts(split, difference, len(requests), bool(requests) and not samples)


def _replayed(answers: Sequence[Mapping[str, Any]]) -> Run:
    """Gives answers that were computed before, in their order."""
    left = iter(answers)
    return lambda feeds: next(left)


def _given(split: Split, name: str, requests: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """What the head gives for each request."""
    if not split.head:
        return [{} for _ in requests]
    with _opened(split.head, name) as head:
        run = _run(head)
        return [run(request) for request in requests]


def _ranges(
    split: Split, graph: Graph, codec: str, requests: Sequence[Mapping[str, Any]]
) -> dict[str, Range | tuple[Range, ...]]:
    """Ranges of the tensors of the cut that a codec scales."""
    watches = {name: RangeWatch(*way) for name, way in scaled_as(graph, split.cut, codec).items()}
    for request, given in zip(requests, _given(split, "head", requests), strict=True):
        for one, name in zip(split.coded, split.sent, strict=True):
            if one.name in watches:
                watches[one.name].add(np.asarray(given[name] if name in given else request[name]))
    found = {name: watch.range() for name, watch in watches.items()}
    return {name: one for name, one in found.items() if one is not None}


def _loaded(model: ModelFile) -> closing[Runner]:
    engine, options = engines_for(model.format)[0], LoadOptions(spin=False, cache=False)
    model.check()
    if engine.native and model.path is not None:  # parts of a file that survived its trial are not tried again
        require_trial(model, engine, options)
    return closing(engine.load(model, options))


def _opened(content: bytes, name: str) -> closing[Runner]:
    return _loaded(open_model(content, name=name))


def _run(runner: Runner) -> Run:
    names = {spec.name for spec in runner.inputs}
    return lambda feeds: runner.run({name: array for name, array in feeds.items() if name in names})
