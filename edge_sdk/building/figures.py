"""What a variant costs here: its latency beside the first variant's, its answers to the golden samples, its graph."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk import signature
from edge_sdk.compress.running import Subject
from edge_sdk.device.facts import Device
from edge_sdk.errors import EdgeError

__all__ = ["Costs", "Observed", "Observer", "engine_name", "graph_costs", "this_device", "total_bytes"]

_log = logging.getLogger(__name__)
SOURCE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Observed:
    """A variant seen running.

    Attributes:
        latency_ms: median of a request, by the engine's default; of all but the first variant, that one's median times
            the ratio of the two as measured in turn. 0 where nothing was timed.
        speedup: times faster than the first variant observed; None for that one.
        runs: how many requests were measured.
        engine: name and version.
        answers: its outputs to each golden sample, as the signature has them.
    """

    latency_ms: float
    speedup: float | None
    runs: int
    engine: str
    answers: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Costs:
    """What the graph of a file says: see `graph.Graph`."""

    macs: int
    parameters: int
    peak_activation_bytes: int


class Observer:
    """Runs variants on golden samples and times them, each in turn with the first one. A context manager.

    At most two models are loaded at a time, since idle workers of others would take their cores.

    Args:
        samples: feeds as the signature has them; where there are none, variants are loaded and not run.
        like: the signature.
        budget_s: how long timing one variant may take; 0 times nothing.
    """

    def __init__(self, samples: Sequence[Mapping[str, Any]], like: signature.Signature, budget_s: float) -> None:
        self._samples, self._like, self._budget_s = tuple(samples), like, budget_s
        self._first: Subject | None = None
        self._first_ms = 0.0

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._first is not None:
            self._first.close()

    def observe(self, file: Path, mapping: signature.Mapping | None) -> Observed:
        """Tries a variant in a child process first, then runs and times it here.

        Raises:
            ModelError: no engine loads it, or it crashed.
            EngineError: it fails on a sample.
        """
        subject = Subject(file, mapping, self._like, foreign=True, spin=False)
        try:
            answers = tuple(subject.stored(feeds) for feeds in self._samples)
            latency_ms, speedup, runs = self._timed(subject)
        except EdgeError:
            subject.close()
            raise
        if self._first is None:
            self._first = subject
        else:
            subject.close()
        return Observed(latency_ms, speedup, runs, engine_name(subject.engine), answers)

    def _timed(self, subject: Subject) -> tuple[float, float | None, int]:
        from edge_sdk.measuring import compare, median_ms

        if not self._budget_s or not self._samples:
            return 0.0, None, 0
        request = subject.request(self._samples[0])
        if self._first is None:
            self._first_ms, runs = median_ms(request, self._budget_s)
            return self._first_ms, None, runs
        compared = compare(self._first.request(self._samples[0]), request, self._budget_s)
        if compared is None:
            latency_ms, runs = median_ms(request, self._budget_s * SOURCE_SHARE)
            return latency_ms, None, runs
        # The machine's speed drifts from one variant to the next; the ratio of a pair does not.
        return self._first_ms * compared.ratio, 1 / compared.ratio, compared.runs


def graph_costs(file: Path) -> Costs | str:
    """What the graph of a file costs, or the reason why that cannot be told."""
    from edge_sdk.graph import open_graph

    try:
        graph = open_graph(file)
    except EdgeError as error:
        return str(error)
    return Costs(graph.macs, graph.parameters, graph.peak_activation_bytes)


def total_bytes(file: Path) -> int:
    """Size of a model file and of the files beside it that hold its weights."""
    from edge_sdk.formats import open_model

    with open_model(file) as model:
        return model.size_bytes + sum((file.parent / name).stat().st_size for name in model.describe().external_files)


def engine_name(engine: str) -> str:
    """Name and version of an engine."""
    from edge_sdk.engines.registry import engine_versions

    return f"{engine} {engine_versions().get(engine, '')}".strip()


@functools.cache
def this_device() -> Device:
    """The machine, probed once in this process; `this_device.cache_clear()` forgets it."""
    from edge_sdk.device import probe
    from edge_sdk.engines.registry import engine_versions

    return probe(engines=engine_versions())
