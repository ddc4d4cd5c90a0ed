"""Benching one model: it runs in a process of its own, and what it is measured against in another, in turn."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import edge_sdk
from edge_sdk.bench.bare import BARE_ENGINES
from edge_sdk.bench.child import Child
from edge_sdk.bench.messages import Command, Task
from edge_sdk.bench.peers import bare_task, require_format
from edge_sdk.bench.result import Against, BenchResult, RequestEnergy, Start
from edge_sdk.errors import InputError
from edge_sdk.measuring import (
    EnergyMeter,
    Latencies,
    Memory,
    Paced,
    Soak,
    Throughput,
    compare_blocks,
    energy_sources,
)
from edge_sdk.measuring.latencies import median

__all__ = ["Settings", "bench"]

WITHIN = 0.01
"""Pairs of blocks go on until their ratio is known to 1 %, or the time is up."""
MAX_PAIRS = 200
IDLE_S = 1.0
PACED_FRAMES = 30
OnProgress = Callable[[str, float | None], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to bench, and how long.

    Attributes:
        engine, accelerator, threads, variant, trusted, plan_budget_s, objective, power_mode: as for `edge_sdk.load`.
        cores: "all", "big", "mid", "little", or CPUs as Linux lists them; planned where None.
        feeds: input name to array; made up where None.
        inputs: what the result calls `feeds`.
        seconds: for each kind of measurement; slow models take at least a few runs.
        rate_hz: also paced, so many frames a second; planning and comparing are then paced too.
        concurrency: also with so many callers at once.
        minutes: also for so long on end, paced where `rate_hz` is given.
        against: another model file or bundle, or "onnxruntime" or "litert" for that engine without us on this model.
        against_feeds: what that model is fed; made up where None. A bare engine gets `feeds`.
        starts: how many fresh processes are started for the figures of starting; 0 for none of these figures.
    """

    engine: str | None = None
    accelerator: str = "cpu"
    threads: int | None = None
    cores: str | None = None
    objective: str = "latency"
    power_mode: str = "balanced"
    variant: str | None = None
    trusted: bool = False
    plan_budget_s: float = 1.0
    feeds: Mapping[str, Any] | None = None
    inputs: str = "made up"
    seconds: float = 3.0
    rate_hz: float | None = None
    concurrency: int | None = None
    minutes: float | None = None
    against: str | None = None
    against_feeds: Mapping[str, Any] | None = None
    starts: int = 3

    def __post_init__(self) -> None:
        for name in ("seconds", "rate_hz", "minutes"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value!r}; expected a number above 0")
        for name, least in (("concurrency", 1), ("starts", 0), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InputError(f"{name} is {value!r}; expected a whole number, {least} or more")


def bench(
    model: str | os.PathLike[str],
    settings: Settings | None = None,
    on_progress: OnProgress = lambda stage, share: None,
) -> BenchResult:
    """Measures a model or bundle on this machine: latency, start, memory, energy where there is a sensor, and more.

    The first start of a model on a machine plans and keeps what it found; it is not counted.

    Args:
        model: path of an ONNX or TFLite file, or of a bundle.
        settings: what else, and how long.
        on_progress: called with what is being done, and how much of it is done (0 to 1, or None).

    Raises:
        EdgeError: the model or an argument cannot be used; as `edge_sdk.load`.
    """
    return _Bench(os.fspath(model), settings or Settings(), on_progress).result()


class _Bench:
    def __init__(self, model: str, settings: Settings, on_progress: OnProgress) -> None:
        self.model, self.settings, self.on_progress = model, settings, on_progress

    def result(self) -> BenchResult:
        settings = self.settings
        if settings.against in BARE_ENGINES:
            require_format(settings.against, self.model)
        with ExitStack() as stack:
            child, start = self._started(stack, self._task(self.model, settings.variant, settings.feeds))
            self.on_progress("back to back", None)
            warm_up_runs = child.ask(Command("warm_up", seconds=min(0.5, settings.seconds)), int)
            latency, energy, energy_note = self._latency(child)
            memory = child.ask(Command("memory"), Memory)
            paced, concurrent, soak = self._paced(child), self._concurrent(child), self._soak(child)
            memory_at_end = child.ask(Command("memory"), Memory)
            against = self._against(stack, child)
            notes = child.ask(Command("notes"), tuple[str, ...])
            machine = edge_sdk.probe()
            return BenchResult(
                edge_sdk=edge_sdk.__version__,
                way=child.ready.way,
                device=machine.name,
                usable_cpus=len(machine.usable_cpus),
                inputs=settings.inputs if settings.feeds is not None else "made up",
                warm_up_runs=warm_up_runs,
                latency=latency,
                start=start,
                memory=memory,
                memory_at_end=memory_at_end,
                energy=energy,
                energy_note=energy_note,
                paced=paced,
                concurrent=concurrent,
                soak=soak,
                against=against,
                throttled=machine.cpus.throttled,
                notes=notes,
            )

    def _task(self, model: str, variant: str | None, given: Mapping[str, Any] | None) -> Task:
        settings = self.settings
        options: dict[str, Any] = {
            "accelerator": settings.accelerator,
            "threads": settings.threads,
            "cpus": None if settings.cores is None else self._cpus(settings.cores),
            "objective": settings.objective,
            "power_mode": settings.power_mode,
            "trusted": settings.trusted,
            "plan_budget_s": settings.plan_budget_s,
            "rate_hz": settings.rate_hz,
            "variant": variant,
        }
        feeds = None if given is None else [dict(given)]
        if feeds is not None:
            options["sample"] = feeds[0]
        return Task("edge-sdk", model, model, settings.engine, options, feeds)

    def _cpus(self, cores: str) -> tuple[int, ...]:
        from edge_sdk.schedule.placing import cores_named

        machine = edge_sdk.probe()
        return cores_named(cores, machine, machine.usable_cpus)

    def _started(self, stack: ExitStack, task: Task) -> tuple[Child, Start | None]:
        """Starts the task in fresh processes, one after the other; the last one lives on. The first plans and counts
        nothing."""
        starts = self.settings.starts
        name = task.name.rpartition("/")[2]
        self.on_progress(f"planning {name}", None)
        child = Child(task)
        rows: list[tuple[float, float, float]] = []
        for number in range(starts):
            child.close()
            self.on_progress(f"starting {name}", number / starts)
            child = Child(task)
            rows.append((child.cold_ms, child.ready.load_ms, child.ready.first_run_ms))
        stack.callback(child.close)
        if not rows:
            return child, None
        cold_ms, load_ms, first_run_ms = (round(median(column), 2) for column in zip(*rows, strict=True))
        return child, Start(starts=starts, cold_ms=cold_ms, load_ms=load_ms, first_run_ms=first_run_ms)

    def _latency(self, child: Child) -> tuple[Latencies, RequestEnergy | None, str]:
        command = Command("steady", seconds=self.settings.seconds)
        sources, note = energy_sources()
        if not sources:
            return child.ask(command, Latencies), None, note
        with EnergyMeter(sources) as idle:
            time.sleep(IDLE_S)
        with EnergyMeter(sources) as busy:
            latency = child.ask(command, Latencies)
        if idle.energy is None or busy.energy is None:
            return latency, None, "not measured: a sensor could not be read all the time"
        joules, seconds = busy.energy.joules, busy.energy.seconds
        above = joules - idle.energy.watts * seconds
        energy = RequestEnergy(
            total=busy.energy,
            request_mj=round(joules / latency.runs * 1e3, 4),
            idle_watts=idle.energy.watts,
            above_idle_mj=round(above / latency.runs * 1e3, 4),
        )
        return latency, energy, note

    def _paced(self, child: Child) -> Paced | None:
        rate_hz = self.settings.rate_hz
        if rate_hz is None:
            return None
        self.on_progress(f"paced at {rate_hz:g} Hz", None)
        seconds = max(self.settings.seconds, PACED_FRAMES / rate_hz)
        paced: Paced = child.ask(Command("paced", seconds=seconds, rate_hz=rate_hz), Paced)
        return paced

    def _concurrent(self, child: Child) -> Throughput | None:
        callers = self.settings.concurrency
        if callers is None:
            return None
        self.on_progress(f"{callers} callers", None)
        command = Command("concurrent", seconds=self.settings.seconds, concurrency=callers)
        throughput: Throughput = child.ask(command, Throughput)
        return throughput

    def _soak(self, child: Child) -> Soak | None:
        minutes = self.settings.minutes
        if minutes is None:
            return None
        self.on_progress(f"{minutes:g} minutes", 0.0)
        soak: Soak = child.ask(
            Command("soak", seconds=minutes * 60, rate_hz=self.settings.rate_hz),
            Soak,
            lambda window: self.on_progress(
                f"{minutes:g} minutes, now {window['median_ms']:.3f} ms",
                min(1.0, (window["at_s"] + window["seconds"]) / (minutes * 60)),
            ),
        )
        return soak

    def _against(self, stack: ExitStack, child: Child) -> Against | None:
        against, rate_hz = self.settings.against, self.settings.rate_hz
        if against is None:
            return None
        if against in BARE_ENGINES:
            task = bare_task(stack, against, self.model, child.ready.way, self.settings.threads, self.settings.feeds)
        else:
            task = self._task(against, None, self.settings.against_feeds)
        other, start = self._started(stack, task)
        other.ask(Command("warm_up", seconds=min(0.5, self.settings.seconds)), int)
        memory = other.ask(Command("memory"), Memory)
        self.on_progress(f"in turn with {other.ready.way.describe()}", None)
        block = Command("block", rate_hz=rate_hz)
        comparison = compare_blocks(
            lambda: other.ask(block, list[float]),
            lambda: child.ask(block, list[float]),
            max(self.settings.seconds * 2, 1.0),
            max_pairs=MAX_PAIRS,
            within=WITHIN,
        )
        if comparison is None:
            raise InputError(
                f"{self.model}: no pair of blocks with {against} fits into {self.settings.seconds:g} s;"
                " give more seconds"
            )
        low, high = comparison.interval()
        return Against(
            way=other.ready.way,
            rate_hz=rate_hz,
            ratio=round(comparison.ratio, 4),
            low=round(low, 4),
            high=round(high, 4),
            pairs=len(comparison.ratios),
            other_ms=round(comparison.first_ms, 4),
            this_ms=round(comparison.second_ms, 4),
            start=start,
            memory=memory,
        )
