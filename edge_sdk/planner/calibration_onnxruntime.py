"""Calibrates ONNX Runtime: runs the calibration networks, profiled on one thread and whole at each place.

The profile tells how a request's time spreads over its kernels, the time without the profiler how much there is to
spread. How kernels take to more threads or to slower cores follows from whole requests, since with several threads the
profiler takes as long as many a kernel.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_sdk.measuring.clocks import REAL_TIME, Clock
from edge_sdk.planner.calibration_fit import fit_places, fit_rates, spread_of
from edge_sdk.planner.calibration_networks import networks, probe_network
from edge_sdk.planner.calibration_profile import KernelTime, read_profile, work_of_event
from edge_sdk.planner.calibration_rates import flat_rates
from edge_sdk.planner.calibration_stand import Loaded, Stand, Subject, in_turn, totals_us, usual_paces_ms, within
from edge_sdk.planner.calibration_timing import Delays, undisturbed
from edge_sdk.planner.cost_work import Work
from edge_sdk.planner.rates import Place, probe_key, undisturbed_key

__all__ = ["ENGINE", "calibrate_onnxruntime", "opened", "profiled_kernels", "without_profiler"]

ENGINE = "onnxruntime"
_PROFILED_SHARE = 0.4
"""Share of the budget for the profiled runs."""
_LEAVE = 0.03
_SILENT = 4
Shape = tuple[int, ...]


def calibrate_onnxruntime(
    places: Sequence[tuple[Place, tuple[int, ...] | None]],
    budget_s: float,
    *,
    channel_block: int,
    max_bytes: float = float("inf"),
    clock: Clock = REAL_TIME,
    progress: Callable[[float], object] = lambda share: None,
) -> dict[str, float]:
    """The engine's rates on this machine; see `edge_sdk.planner.rates` for the keys.

    Args:
        places: places with the CPUs to pin to; the first is one thread of the fastest cluster.
        budget_s: how long it may take, in seconds.
        channel_block: see `graph.fusion.fused`.
        max_bytes: of all networks together.
        clock: tells seconds.
        progress: told from 0 to 1.
    """
    began = clock()

    def tick() -> None:
        progress(min(1.0, (clock() - began) / budget_s))

    chosen = {f"{network.name} {network.precision}": network for network in within(networks(), max_bytes)}
    delays = Delays()
    probe = probe_network().content
    with tempfile.TemporaryDirectory() as folder:
        first = Stand(*places[0], opened, probe, delays, clock)
        contents = {name: network.content for name, network in chosen.items()}
        in_turn([first], contents, began + budget_s * _PROFILED_SHARE, clock, Path(folder), tick)
        (base_ms,) = usual_paces_ms([first])
        kernels = {name: profiled_kernels(subject, base_ms) for name, subject in first.subjects.items()}
    first.subjects.clear()
    stands = [Stand(*place, opened, probe, delays, clock) for place in places]
    in_turn(stands, {name: contents[name] for name in kernels}, began + budget_s * (1 - _LEAVE), clock, tick=tick)
    delays.close()
    paces_ms = usual_paces_ms(stands)
    totals = totals_us(stands, paces_ms)
    rows = {
        name: _works(without_profiler(found, totals[0][name]), chosen[name].weights, channel_block)
        for name, found in kernels.items()
        if name in totals[0]
    }
    progress(1.0)
    told = {probe_key(ENGINE, stand.place): pace_ms for stand, pace_ms in zip(stands, paces_ms, strict=True)}
    told |= {undisturbed_key(ENGINE, stand.place): stand.good_share for stand in stands}
    return _rates([place for place, _ in places], rows, totals, channel_block) | told


def _rates(
    places: Sequence[Place],
    rows: Mapping[str, list[tuple[Work, float]]],
    totals: Sequence[Mapping[str, float]],
    channel_block: int,
) -> dict[str, float]:
    rates = fit_rates([((work,), time_us) for found in rows.values() for work, time_us in found])
    fitted = {}
    for place, found in zip(places, totals, strict=True):
        common = [name for name in rows if name in found]
        fitted[place] = fit_places([rows[name] for name in common], [found[name] for name in common])
    spread = spread_of(rates, list(rows.values()), [totals[0][name] for name in rows])
    return flat_rates(ENGINE, rates, fitted, spread) | {f"{ENGINE}.channel_block": float(channel_block)}


def opened(content: bytes, threads: int, profile: Path | None = None) -> Loaded:
    """Loads an ONNX file whose sizes are fixed, with made-up feeds; its idle workers do not spin."""
    import onnxruntime

    from edge_sdk.engines.onnxruntime_values import spec_of
    from edge_sdk.engines.samples import made_up_feeds

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    settings.intra_op_num_threads = threads
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile)
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    feeds = made_up_feeds([spec_of(value.name, value.type, value.shape) for value in session.get_inputs()])
    ended = (lambda: Path(session.end_profiling())) if profile is not None else None
    return Loaded(lambda: session.run(None, feeds), ended)


def profiled_kernels(subject: Subject, probe_ms: float) -> list[tuple[KernelTime, float]]:
    """Kernels of a profiled network with their times in microseconds, told at a pace, the profiler's work in them."""
    assert subject.loaded.profile is not None
    good = undisturbed(subject.samples, probe_ms)
    numbers = [number for sample in good for number in subject.counted[subject.samples.index(sample)]]
    scale = statistics.fmean(probe_ms / sample.probe_ms for sample in good)
    return [(kernel, kernel.ms * 1e3 * scale) for kernel in read_profile(subject.loaded.profile(), numbers)]


def without_profiler(kernels: Sequence[tuple[KernelTime, float]], total_us: float) -> list[tuple[KernelTime, float]]:
    """Spreads the time of the whole request over its kernels: the profiler adds about as much to each.

    Args:
        kernels: with their times in microseconds.
        total_us: what the request takes without the profiler.
    """
    times = np.array([time_us for _, time_us in kernels])
    own_us = max(0.0, float(times.sum() - total_us)) / max(1, len(times))
    times = np.maximum(times - own_us, times * 0.1)
    times *= total_us / max(float(times.sum()), 1e-9)
    return [(kernel, float(time_us)) for (kernel, _), time_us in zip(kernels, times, strict=True)]


def _works(
    kernels: Sequence[tuple[KernelTime, float]], weights: Mapping[int, tuple[Shape, ...]], channel_block: int
) -> list[tuple[Work, float]]:
    return [(work_of_event(kernel, weights, channel_block), time_us) for kernel, time_us in kernels]
