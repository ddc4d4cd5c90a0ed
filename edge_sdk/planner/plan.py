"""A `Plan` and the table of `Candidate`s it was chosen from, as value objects with one versioned JSON form."""

from __future__ import annotations

import msgspec

__all__ = ["SCHEMA", "Candidate", "Figures", "Placement", "Plan"]

SCHEMA = 1


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate costs: predicted, or measured over `runs` requests.

    Attributes:
        latency_ms: median of one request inside the engine.
        runs: how many requests were measured; 0 for a prediction.
    """

    latency_ms: float
    runs: int = 0


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """The CPUs and thread count a runner computes on.

    Attributes:
        cpus: CPU ids; None for all the process may use (nothing is pinned).
        threads: threads for one request; None for the engine's own default.
        label: "all", "big", "mid", "little" or "given".
    """

    cpus: tuple[int, ...] | None = None
    threads: int | None = None
    label: str = "all"

    def describe(self) -> str:
        """One phrase: "2 threads on all CPUs", "4 threads on big CPUs 4-7"."""
        threads = "default threads" if self.threads is None else f"{self.threads} thread{'s' * (self.threads != 1)}"
        if self.cpus is None:
            return f"{threads} on all CPUs"
        return f"{threads} on {self.label} CPUs {ranges(self.cpus)}"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run, with its figures.

    Attributes:
        kind: "local".
        variant: name of the model file.
        engine: what executes it.
        accelerator: "cpu", or the accelerator of that engine.
        placement: CPUs and threads.
        measured: None where it was not measured; `reason` says why.
        reason: one line: how it fared.
    """

    kind: str = "local"
    variant: str
    engine: str
    accelerator: str = "cpu"
    placement: Placement
    predicted: Figures | None = None
    measured: Figures | None = None
    reason: str = ""

    def describe(self) -> str:
        """One phrase: "onnxruntime, 2 threads on all CPUs"."""
        where = "" if self.accelerator == "cpu" else f" on {self.accelerator}"
        return f"{self.engine}{where}, {self.placement.describe()}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen way to run a model on a device, and the table it was chosen from.

    Attributes:
        objective: what was minimised ("latency").
        reason: one line that a person can read.
        cached: whether an earlier plan for the same model, device and engines was used.
        planning_ms: how long choosing took.
    """

    schema: int = SCHEMA
    kind: str
    variant: str
    engine: str
    accelerator: str
    placement: Placement
    objective: str
    predicted: Figures | None = None
    measured: Figures | None = None
    reason: str
    candidates: tuple[Candidate, ...] = ()
    cached: bool = False
    planning_ms: float = 0.0


def ranges(cpus: tuple[int, ...]) -> str:
    """CPU ids as Linux writes them: "0-3,6"."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)
