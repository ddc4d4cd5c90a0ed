"""The cost model: how long a model takes on a device, from its graph and the device's rates.

A request is the sum of its kernels, as the engine fuses them. Each takes so long a call, a multiply-accumulate and a
byte in, out and of weights, which depends on its sort and precision. At another place (more threads, slower cores) it
takes a share of that, and a little more for waking threads. After one profiled run the kernels' measured times stand
in for the predicted ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edge_sdk.errors import InputError
from edge_sdk.graph.fusion import fused
from edge_sdk.graph.view import Graph
from edge_sdk.planner.cost_work import Work, class_of, works_of
from edge_sdk.planner.rates import Place, Rates
from edge_sdk.schedule.placing import Placement
from edge_sdk.tensors import Array

__all__ = ["CostModel", "Prediction", "Profile", "predict"]

PROFILED_SPREAD = 0.1
"""How far off a prediction from a profile may be, as a share, nine times out of ten."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a request is predicted to take.

    Attributes:
        latency_ms: likeliest.
        low_ms, high_ms: between these nine times out of ten.
        by_kind: milliseconds by kind of kernel, most first.
        estimate: whether absolute figures are estimates, since the device's rates are derived and not measured.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    by_kind: Mapping[str, float]
    estimate: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """Kernels of one model as measured at one placement.

    Attributes:
        placement: where.
        latency_ms: of the whole request, without the profiler.
        kernels_us: class of each kernel (`cost_work.CLASSES`) and its time in microseconds; together they may differ
            from the request, which counts: they say how it is shared out.
    """

    placement: Placement | int
    latency_ms: float
    kernels_us: tuple[tuple[str, float], ...]


class CostModel:
    """Predicts one graph on one engine of one device, at any placement.

    Args:
        graph: from `edge_sdk.graph.open_graph`.
        engine: name of the engine.
        rates: of the device.

    Raises:
        InputError: there are no rates for this engine.
    """

    def __init__(self, graph: Graph, engine: str, rates: Rates) -> None:
        if not rates.covers(engine):
            raise InputError(f"the device has no rates for engine {engine!r}; run: edge-sdk device --calibrate")
        block = rates.channel_block(engine)
        self.engine, self.rates = engine, rates
        groups = fused(graph, engine, channel_block=block)
        self.works: tuple[Work, ...] = works_of(graph, groups, block)
        self._ops = [frozenset(group.ops) for group in groups]
        self._kernels_us = rates.kernels_us(engine, self.works)
        self._classes = [class_of(work) for work in self.works]

    def predict(self, placement: Placement | int | None = None, profile: Profile | None = None) -> Prediction:
        """What one request takes.

        Args:
            placement: CPUs and threads; a number of threads on all CPUs; None for all.
            profile: of this graph and engine at whatever placement; it then gives the figures, the rates only how they
                change from its placement to this one.
        """
        place = self.rates.place_of(placement)
        times_us = self._placed(self._classes, self._kernels_us, place)
        spread = self.rates.spread(self.engine)
        total_ms = (float(times_us.sum()) + self.rates.request_us(self.engine, place)) / 1e3
        if profile is not None:
            spread = PROFILED_SPREAD
            total_ms = self._from_profile(profile, place)
        kinds: dict[str, float] = {}
        share = total_ms / max(float(times_us.sum()), 1e-9)
        for work, time_us in zip(self.works, times_us, strict=True):
            kinds[work.sort] = kinds.get(work.sort, 0.0) + float(time_us) * share
        return Prediction(
            latency_ms=total_ms,
            low_ms=total_ms / (1 + spread),
            high_ms=total_ms * (1 + spread),
            by_kind=MappingProxyType(dict(sorted(kinds.items(), key=lambda item: -item[1]))),
            estimate=self.rates.source == "derived",
        )

    def head_shares(self, heads: Sequence[Set[str]], placement: Placement | int | None = None) -> list[float]:
        """Which part of a request's time each head takes, from 0 to 1.

        Args:
            heads: names of the ops in each head. A kernel that a cut divides counts where its last op is.
            placement: as of `predict`.
        """
        times_us = self._placed(self._classes, self._kernels_us, self.rates.place_of(placement))
        total_us = max(float(times_us.sum()), 1e-9)
        shares = []
        for head in heads:
            inside, pending_us = 0.0, 0.0
            for ops, time_us in zip(self._ops, times_us, strict=True):
                if not ops:
                    pending_us += float(time_us)  # what reorders data belongs to the kernel that it is for
                    continue
                if ops <= head:
                    inside += float(time_us) + pending_us
                pending_us = 0.0
            shares.append(min(inside / total_us, 1.0))
        return shares

    def measured(self, placement: Placement | int, latency_ms: float) -> Profile:
        """A profile where only the whole request was timed: its time is spread over the kernels as predicted."""
        place = self.rates.place_of(placement)
        times_us = self._placed(self._classes, self._kernels_us, place)
        times_us = times_us * (self._kernels_part_us(latency_ms, place) / max(float(times_us.sum()), 1e-9))
        return Profile(placement, latency_ms, tuple(zip(self._classes, map(float, times_us), strict=True)))

    def _from_profile(self, profile: Profile, place: Place) -> float:
        measured = self.rates.place_of(profile.placement)
        classes = [name for name, _ in profile.kernels_us]
        times_us = np.array([time_us for _, time_us in profile.kernels_us])
        if not len(times_us) or measured == place:
            return profile.latency_ms
        at_base = self._unplaced(classes, times_us, measured)
        there, here = (float(self._placed(classes, at_base, where).sum()) for where in (place, measured))
        kernels_us = self._kernels_part_us(profile.latency_ms, measured) * there / max(here, 1e-9)
        return (kernels_us + self.rates.request_us(self.engine, place)) / 1e3

    def _kernels_part_us(self, latency_ms: float, place: Place) -> float:
        """A request's time without what it costs beside its kernels, which is not most of it."""
        return latency_ms * 1e3 - min(self.rates.request_us(self.engine, place), latency_ms * 1e3 / 2)

    def _placed(self, classes: list[str], times_us: Array, place: Place) -> Array:
        share, extra_us = self._shares(classes, place)
        return times_us * share + extra_us

    def _unplaced(self, classes: list[str], times_us: Array, place: Place) -> Array:
        share, extra_us = self._shares(classes, place)
        unplaced: Array = np.maximum(times_us - extra_us, times_us * 0.1) / share
        return unplaced

    def _shares(self, classes: list[str], place: Place) -> tuple[Array, Array]:
        known = {name: self.rates.placed(self.engine, name, place) for name in set(classes)}
        return np.array([known[name][0] for name in classes]), np.array([known[name][1] for name in classes])


def predict(
    graph: Graph,
    engine: str,
    rates: Rates,
    placement: Placement | int | None = None,
    profile: Profile | None = None,
) -> Prediction:
    """Predicts one request; for several placements make one `CostModel` and ask it. See `CostModel`.

    Raises:
        InputError: there are no rates for this engine.
    """
    return CostModel(graph, engine, rates).predict(placement, profile)
