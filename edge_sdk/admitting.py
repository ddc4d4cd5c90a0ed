"""How a session that wants to join others is to run: the variant and the cores that keep its promise, measured.

Of the placements of the device the one is taken that takes least energy among those that keep the promise; where a
stream may degrade, the best variant that can, and the lighter ones are loaded beside it.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.errors import AdmissionRefused, InputValueError, OutOfMemory
from edge_sdk.residence import Residence
from edge_sdk.schedule.admission import Demand, admissible
from edge_sdk.schedule.placing import Placement

if TYPE_CHECKING:
    from edge_sdk.planner import Variant
    from edge_sdk.session import Session
    from edge_sdk.settings import ModelSource

__all__ = ["Admitting", "Way", "give_way"]

_log = logging.getLogger(__name__)

LEAST_NICE = 19
"""For what has no promise: a hundredth of a core beside what has."""
MEASURED_S, MEASURED_RUNS = 0.3, 12
WORTH = 0.9
"""A lighter variant takes at most this share of the time of the one before it."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to answer the requests of a session.

    Attributes:
        key: of its model in the residence.
        variant: that it runs.
        demand: what keeping the promise takes with it; None where there is none.
        reason: why it, in one line.
    """

    key: str
    variant: str
    demand: Demand | None = None
    reason: str = ""


class Admitting:
    """Loads models beside others; one at a time.

    Args:
        cores: that may compute at once.
        residence: where the models are kept.
        demands: what was promised so far.
    """

    def __init__(self, cores: int, residence: Residence, demands: Callable[[], Sequence[Demand]]) -> None:
        self._cores, self._residence, self._demands = cores, residence, demands

    def unpromised(self, name: str, model: ModelSource, arguments: dict[str, Any]) -> Way:
        """Without a promise: on what the others leave."""
        load_it = functools.partial(_loaded_to_give_way, model, arguments)
        session = self._residence.add(name, load_it, keep=False, size_mb=_thought_mb(model))
        return Way(name, session.plan.variant)

    def promised(self, model: ModelSource, demand: Demand, arguments: dict[str, Any]) -> Way:
        """The way that keeps a promise; its model stays loaded.

        Args:
            model, arguments: of `edge_sdk.load`.
            demand: of the session; what a request takes is measured.

        Raises:
            AdmissionRefused: there is none; nothing of it stays loaded.
            OutOfMemory, EdgeError: as loading does.
        """
        way, reason = self._placed(demand.name, model, demand, arguments)
        if reason:
            self._residence.remove(demand.name)
            raise AdmissionRefused(reason)
        return way

    def degrading(self, model: ModelSource, demand: Demand, arguments: dict[str, Any]) -> tuple[tuple[Way, ...], int]:
        """The ways that a stream may take, best variant first, and the first that keeps the promise now. All stay
        loaded, so that no request waits for that.

        Args:
            As `promised`; `variant` among the arguments names the best one that is wanted.

        Raises:
            AdmissionRefused: none of them keeps the promise.
            InputValueError: the model has one variant that may be used.
            OutOfMemory, EdgeError: as loading does, with the lightest.
        """
        names = _best_first(model, arguments.get("variant"), arguments.get("min_accuracy"))
        ways: list[Way] = []
        refused: list[str] = []
        start = -1
        try:
            for variant in names:
                key = f"{demand.name}/{variant}"
                try:
                    way, reason = self._placed(key, model, demand, {**arguments, "variant": variant})
                except OutOfMemory as error:
                    _log.info("%s: %s is left out: %s", demand.name, variant, error)
                    refused.append(str(error))
                    continue
                if ways and _service_of(way) > WORTH * _service_of(ways[-1]):
                    self._residence.remove(key)  # it gives up accuracy for nothing
                    continue
                ways.append(way)
                if reason:
                    refused.append(f"with {variant}: {reason}")
                elif start < 0:
                    start = len(ways) - 1
            if start < 0:
                raise AdmissionRefused("; ".join(refused))
        except BaseException:
            for way in ways:
                self._residence.remove(way.key)
            raise
        if refused:
            ways[start] = replace(
                ways[start], reason=f"{'; '.join(refused)}; {ways[start].variant}: {ways[start].reason}"
            )
        return tuple(ways), start

    def fits(self, way: Way) -> bool:
        """Whether the promise can be kept on a way beside all others now."""
        assert way.demand is not None
        return admissible(way.demand, self._others(way.demand.name), self._cores).admitted

    def _others(self, name: str) -> list[Demand]:
        return [other for other in self._demands() if other.name != name]

    def _placed(self, key: str, model: ModelSource, demand: Demand, arguments: dict[str, Any]) -> tuple[Way, str]:
        """One variant on the placement that takes least energy among those that keep the promise; where none does, on
        the fastest, with the reason. Loaded."""
        size_mb = _thought_mb(model)
        best: tuple[tuple[bool, float], Way, Placement, str] | None = None
        loaded: Placement | None = None
        placements, unequal = self._placements(arguments)
        for placement in placements:
            session = self._load(key, model, placement, arguments, size_mb, again=loaded is not None)
            loaded = placement
            threads = min(session.plan.placement.threads or self._cores, self._cores)
            wanted = replace(
                demand, service_ms=_service_ms(session), cores=threads, cpus=frozenset(placement.cpus or ())
            )
            verdict = admissible(wanted, self._others(demand.name), self._cores)
            if not verdict.admitted:  # measured once more: whatever else computed just then is no reason to refuse
                wanted = replace(wanted, service_ms=min(wanted.service_ms, _service_ms(session)))
                verdict = admissible(wanted, self._others(demand.name), self._cores)
            watts = _watts(placement, threads, arguments)
            cost = watts * wanted.service_ms if verdict.admitted else wanted.service_ms
            told = f"{wanted.service_ms:.3g} ms with {placement.describe()}, about {watts * wanted.service_ms:.3g} mJ"
            way = Way(key, session.plan.variant, wanted, f"{told}; {verdict.reason}")
            rank = (not verdict.admitted, cost)
            if best is None or rank < best[0]:
                best = (rank, way, placement, "" if verdict.admitted else verdict.reason)
            if verdict.admitted and not unequal:
                break  # more threads of one kind take more energy
        assert best is not None
        _, way, placement, reason = best
        if placement != loaded:
            self._load(key, model, placement, arguments, size_mb, again=True)
        return way, reason

    def _load(
        self, key: str, model: ModelSource, placement: Placement, arguments: dict[str, Any], size_mb: float, again: bool
    ) -> Session:
        from edge_sdk.loading import load

        if again:
            self._residence.remove(key)
        where: dict[str, Any] = {}
        if placement.threads is not None:
            where["threads"] = placement.threads
        if placement.cpus is not None:
            where["cpus"] = placement.cpus
        load_it = functools.partial(load, model, **{**arguments, **where})
        return self._residence.add(key, load_it, keep=True, size_mb=size_mb)

    def _placements(self, arguments: dict[str, Any]) -> tuple[list[Placement], bool]:
        """Those worth measuring, the thriftiest first, and whether their cores differ."""
        if "threads" in arguments or "cpus" in arguments:
            return [Placement(threads=arguments.get("threads"), cpus=arguments.get("cpus"))], False
        from edge_sdk.device.affinity import usable_cpus
        from edge_sdk.schedule.placing import placements

        found = placements(_device(arguments), usable_cpus(), arguments.get("power_mode", "balanced"))
        apart = [one for one in found if one.cpus is not None]
        if not apart:
            return [Placement(threads=1), Placement()], False
        apart = [one for one in apart if (one.threads or 1) <= self._cores]
        return [*sorted(apart, key=lambda one: _watts(one, one.threads or 1, arguments)), Placement()], True


def _device(arguments: dict[str, Any]) -> Any:
    from edge_sdk.planner import this_device

    return arguments.get("device") or this_device()


def _watts(placement: Placement, threads: int, arguments: dict[str, Any]) -> float:
    from edge_sdk.device.affinity import usable_cpus
    from edge_sdk.planner.power import cores_watts

    return cores_watts(placement, threads, _device(arguments), usable_cpus()) or float(threads)


def _service_of(way: Way) -> float:
    assert way.demand is not None
    return way.demand.service_ms * way.demand.cores


def _best_first(model: ModelSource, wanted: str | None, min_accuracy: float | None) -> list[str]:
    """Names of the variants that may be used: what is wanted first, then by accuracy and size, best first."""
    from edge_sdk.planner.sources import open_variants

    name, variants = open_variants(model)

    def fits(variant: Variant) -> bool:
        if min_accuracy is not None and (variant.accuracy is None or variant.accuracy < min_accuracy):
            return False
        return variant.name == wanted or not variant.barred

    sizes = {}
    for variant in variants:
        sizes[variant.name] = variant.file().size_bytes
        variant.close()
    order = sorted(filter(fits, variants), key=lambda one: (-(one.accuracy or 0.0), -sizes[one.name]))
    names = [variant.name for variant in order]
    if wanted is not None:
        names = names[names.index(wanted) :] if wanted in names else []
    if len(names) < 2:
        floor = "" if min_accuracy is None else f" at or above min_accuracy {min_accuracy:g}"
        raise InputValueError(
            f"{name}: when_full='degrade' takes a bundle with a lighter variant{floor}; there are"
            f" {', '.join(sizes)}: expected another policy, or a bundle made with more of them"
        )
    return names


def _thought_mb(model: ModelSource) -> float:
    """What a model may take, before it was loaded: by the size of its file, of a bundle's largest."""
    from edge_sdk.planner.memory import memory_mb

    if isinstance(model, bytes):
        return memory_mb("", len(model), 0)
    if not isinstance(model, (str, os.PathLike)):
        return 0.0
    files = [Path(model)] if os.path.isfile(model) else [file for file in Path(model).rglob("*") if file.is_file()]
    return memory_mb("", max((file.stat().st_size for file in files), default=0), 0)


def _loaded_to_give_way(model: ModelSource, arguments: dict[str, Any]) -> Session:
    """Workers that the engine starts give way as the thread does that starts them."""
    from edge_sdk.loading import load

    with ThreadPoolExecutor(1, "edge-sdk-load", give_way) as loading:
        return loading.submit(load, model, **arguments).result()


def give_way() -> None:
    """The calling thread, and those that it starts, compute only while no other wants to."""
    if hasattr(os, "setpriority"):
        import threading

        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_NICE)


def _service_ms(session: Session) -> float:
    """What a request takes alone, 95 of 100."""
    from edge_sdk.measuring.latencies import percentile

    session.warm_up(2)
    times: list[float] = []
    until_s = time.perf_counter() + MEASURED_S
    while len(times) < MEASURED_RUNS or time.perf_counter() < until_s:
        times.append(session.warm_up())
    return percentile(sorted(times), 0.95)
