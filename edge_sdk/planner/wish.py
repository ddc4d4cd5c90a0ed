"""`Wish`: what a plan shall minimise, and what it must hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_sdk.errors import InputError
from edge_sdk.schedule.placing import POWER_MODES

__all__ = ["OBJECTIVES", "Wish"]

OBJECTIVES = ("latency", "throughput", "energy", "bytes")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for.

    Attributes:
        objective: what to minimise: "latency"; with "throughput" the time from answer to answer while requests wait all
            the time; "energy" of one request; or "bytes" that travel (among equals, as all ways are that stay on the
            device, latency).
        max_latency_ms: what one request may take. Where no candidate keeps it, the fastest is chosen and says so.
        power_mode: "performance", "balanced" or "efficiency" (little cores where there are any).
        budget_s: how long measuring may take; 0: from the cache, or by prediction, unmeasured.
        sample: feeds to measure with; made-up ones where None.
        min_accuracy: what a variant must reach, by the bundle's own metric, from 0 to 1.
        max_memory_mb: what weights and activations may take.
        rate_hz: requests a second as a camera would make them; None for back to back.
    """

    objective: str = "latency"
    max_latency_ms: float | None = None
    power_mode: str = "balanced"
    budget_s: float = 1.0
    sample: Mapping[str, Any] | None = None
    min_accuracy: float | None = None
    max_memory_mb: float | None = None
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective {self.objective!r} is not known; expected one of {', '.join(OBJECTIVES)}")
        if self.power_mode not in POWER_MODES:
            raise InputError(f"power_mode {self.power_mode!r} is not known; expected one of {', '.join(POWER_MODES)}")
        if not self.budget_s >= 0:
            raise InputError(f"plan_budget_s is {self.budget_s!r}; expected seconds, 0 or more")
        if self.objective == "throughput" and self.rate_hz is not None:
            raise InputError(
                "rate_hz paces requests, and objective='throughput' asks for as many as can be: leave one out"
            )
        for name in ("max_latency_ms", "max_memory_mb", "rate_hz"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value!r}; expected a number above 0")
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise InputError(f"min_accuracy is {self.min_accuracy!r}; expected a share from 0 to 1 (0.7 for 70 %)")

    def holds(self) -> dict[str, float]:
        """The constraints that were stated, by name."""
        named = ("min_accuracy", "max_latency_ms", "max_memory_mb", "rate_hz")
        return {name: float(value) for name in named if (value := getattr(self, name)) is not None}
