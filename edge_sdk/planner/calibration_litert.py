"""Calibrates LiteRT: runs chains of one sort of op each and shares their time among the ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_sdk.measuring.clocks import REAL_TIME, Clock
from edge_sdk.planner.calibration_fit import fit_places, fit_rates, predicted_us, spread_of
from edge_sdk.planner.calibration_rates import flat_rates
from edge_sdk.planner.calibration_stand import Loaded, Stand, in_turn, totals_us, usual_paces_ms, within
from edge_sdk.planner.calibration_tflite import tflite_empty, tflite_networks, tflite_probe
from edge_sdk.planner.calibration_timing import Delays
from edge_sdk.planner.cost_work import CLASSES, Work, works_of
from edge_sdk.planner.rates import Place, probe_key, undisturbed_key

__all__ = ["ENGINE", "calibrate_litert", "opened"]

ENGINE = "litert"
_LEAVE = 0.03
_EMPTY = "empty"
"""Name of a network of next to nothing: what a request costs beside its kernels."""


def calibrate_litert(
    places: Sequence[tuple[Place, tuple[int, ...] | None]],
    budget_s: float,
    *,
    max_bytes: float = float("inf"),
    clock: Clock = REAL_TIME,
    progress: Callable[[float], object] = lambda share: None,
) -> dict[str, float]:
    """The engine's rates on this machine; see `edge_sdk.planner.rates` for the keys.

    Args:
        places: places with the CPUs to pin to; the first is one thread of the fastest cluster.
        budget_s: how long it may take, in seconds.
        max_bytes: of all networks together.
        clock: tells seconds.
        progress: told from 0 to 1.
    """
    began = clock()
    chosen: dict[str, bytes] = {}
    for network in within(tflite_networks(), max_bytes):
        chosen[f"{network.name} {network.precision}"] = network.content
        chosen.setdefault(_EMPTY, tflite_empty())  # second: where time is for one alone, it tells more
    delays = Delays()
    stands = [Stand(*place, opened, tflite_probe(), delays, clock) for place in places]
    deadline = began + budget_s * (1 - _LEAVE)
    in_turn(stands, chosen, deadline, clock, tick=lambda: progress(min(1.0, (clock() - began) / budget_s)))
    delays.close()
    paces_ms = usual_paces_ms(stands)
    totals = totals_us(stands, paces_ms)
    works = {name: _works(chosen[name]) for name in totals[0] if name != _EMPTY}
    told = {probe_key(ENGINE, stand.place): pace_ms for stand, pace_ms in zip(stands, paces_ms, strict=True)}
    told |= {undisturbed_key(ENGINE, stand.place): stand.good_share for stand in stands}
    progress(1.0)
    return _rates([place for place, _ in places], works, totals) | told


def _works(content: bytes) -> tuple[Work, ...]:
    from edge_sdk.graph import open_graph
    from edge_sdk.graph.fusion import fused

    graph = open_graph(content)
    return works_of(graph, fused(graph, ENGINE), 0)


def _rates(
    places: Sequence[Place], works: Mapping[str, tuple[Work, ...]], totals: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    request_us = totals[0].get(_EMPTY, 0.0)
    kernels_us = {name: totals[0][name] - min(request_us, totals[0][name] / 2) for name in works}
    rates = fit_rates([(_main(found), kernels_us[name]) for name, found in works.items()])
    rows = {}
    for name, found in works.items():
        times_us = predicted_us(rates, found)
        scale = kernels_us[name] / max(float(times_us.sum()), 1e-9)
        rows[name] = [(work, float(time_us) * scale) for work, time_us in zip(found, times_us, strict=True)]
    # The empty network tells nothing of threads: they are not woken for it.
    fitted = {places[0]: (dict.fromkeys(CLASSES, (1.0, 0.0)), request_us)}
    for place, found_us in list(zip(places, totals, strict=True))[1:]:
        common = [name for name in rows if name in found_us]
        fitted[place] = fit_places([rows[name] for name in common], [found_us[name] for name in common])
    spread = spread_of(rates, list(rows.values()), [kernels_us[name] for name in rows])
    return flat_rates(ENGINE, rates, fitted, spread)


def _main(works: Sequence[Work]) -> list[Work]:
    """The kernels that a chain is made for: those of the sort that most are of."""
    counts = [(work.precision, work.sort) for work in works]
    most = max(counts, key=counts.count)
    return [work for work in works if (work.precision, work.sort) == most]


def opened(content: bytes, threads: int, profile: Path | None = None) -> Loaded:
    """Loads a TFLite file with made-up feeds; the engine has no profiler that Python reaches."""
    from edge_sdk.engines.base import LoadOptions
    from edge_sdk.engines.registry import find_engine
    from edge_sdk.engines.samples import made_up_feeds
    from edge_sdk.formats import open_model

    with open_model(content) as model:
        runner = find_engine(ENGINE).load(model, LoadOptions(threads=threads, cache=False))
    feeds = made_up_feeds(runner.inputs)
    return Loaded(lambda: runner.run(feeds))
