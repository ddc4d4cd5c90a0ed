"""What an accelerator is held to, and how it fares: `Guard` and `AcceleratorState`."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from edge_sdk.errors import InputValueError

__all__ = ["AcceleratorFallback", "AcceleratorState", "Guard", "announce", "announce_fallback", "both"]

_log = logging.getLogger(__name__)


class AcceleratorFallback(UserWarning):
    """An accelerator was asked for and the CPU does the work; the message names the cause."""


@dataclass(frozen=True, slots=True)
class Guard:
    """How an accelerator is watched.

    Attributes:
        apart: it runs in a process of its own, which a crash ends and a hang is ended with. False: in this one, where
            neither can be made good.
        timeout_s: an answer that takes longer counts as a hang. None: 20 times what answers took of late, at least 1 s;
            30 s for the first one.
        check_every: after so many answers it computes a kept request, whose right answer is the CPU's, before it hands
            on the last of them. 1 lets no wrong answer out and takes twice the time; 0 checks only when it starts.
        tolerance: how far an answer to that may be from the CPU's, relative to the spread of the output.
        standby: the CPU's runner stays loaded, so that a failure costs no loading.
        rest_s: how long it is left alone after a failure before it is tried again, in seconds; each failed trial
            doubles it. Infinity: for good.
        longest_rest_s: the longest such rest.
        tell: called with one line whenever it fails or is back; from any thread.
    """

    apart: bool = True
    timeout_s: float | None = None
    check_every: int = 100
    tolerance: float = 0.05
    standby: bool = True
    rest_s: float = 1.0
    longest_rest_s: float = 300.0
    tell: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        for name in ("timeout_s", "rest_s", "longest_rest_s", "tolerance"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputValueError(f"guard: {name} is {value!r}; expected a number above 0")
        if self.timeout_s is not None and not math.isfinite(self.timeout_s):
            raise InputValueError("guard: timeout_s is infinite; expected seconds, or None to have them measured")
        if self.check_every < 0:
            raise InputValueError(f"guard: check_every is {self.check_every!r}; expected 0 or more")


def both(first: Callable[[str], None], second: Callable[[str], None] | None) -> Callable[[str], None]:
    """Tells two at once."""
    if second is None:
        return first

    def tell(event: str) -> None:
        first(event)
        second(event)

    return tell


def announce(guard: Guard, event: str) -> None:
    """Hands on what happened. An error of the caller's own must not cost a request."""
    _log.warning("%s", event)
    if guard.tell is not None:
        try:
            guard.tell(event)
        except Exception:  # noqa: BLE001 - the caller's code may raise anything
            _log.exception("guard: tell failed")


def announce_fallback(guard: Guard, cause: str) -> None:
    """Tells that the CPU takes over."""
    event = f"the CPU takes over from the accelerator: {cause}"
    with suppress(AcceleratorFallback):  # made an error by a filter: it is among the events all the same
        warnings.warn(event, AcceleratorFallback, stacklevel=2)
    announce(guard, event)


class AcceleratorState(msgspec.Struct, frozen=True, kw_only=True):
    """How one accelerator of a session fares.

    Attributes:
        name: of the accelerator.
        state: "working"; "quarantined": it failed and is left alone; "probing": it is being tried again.
        apart: whether it runs in a process of its own.
        answered: requests that it answered.
        by_cpu: requests that the CPU answered in its place.
        unverified: answers since it was last seen to compute rightly.
        failures: how often it failed, by kind: "start", "error", "hang", "crash", "wrong".
        restores: how often it came back.
        cause: of the last failure; "" before the first.
        next_trial_s: seconds until it is tried again; None while it works.
    """

    name: str
    state: str
    apart: bool
    answered: int
    by_cpu: int
    unverified: int
    failures: dict[str, int]
    restores: int
    cause: str
    next_trial_s: float | None
