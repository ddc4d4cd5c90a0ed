"""Speech probabilities of windows to stretches of speech."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_sdk.errors import InputValueError

__all__ = ["Stretch", "speech_stretches"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of speech, in seconds from the beginning of the recording."""

    start_s: float
    end_s: float


def speech_stretches(
    probabilities: Sequence[float] | Iterable[float],
    step_s: float,
    *,
    threshold: float = 0.5,
    min_speech_s: float = 0.25,
    min_silence_s: float = 0.1,
) -> tuple[Stretch, ...]:
    """Joins windows with speech into stretches.

    Speech begins at `threshold` and ends where the probability stays more than 0.15 below it for `min_silence_s`: the
    hysteresis of snakers4/silero-vad.

    Args:
        probabilities: one a window, 0 to 1, in order.
        step_s: seconds from one window to the next.
        threshold: probability from which a window is speech.
        min_speech_s: shorter stretches are dropped.
        min_silence_s: shorter gaps are bridged.

    Raises:
        InputValueError: `step_s` is not above 0.
    """
    if not step_s > 0:
        raise InputValueError(f"speech: windows {step_s} s apart; expected more than 0")
    found: list[Stretch] = []
    start: float | None = None
    quiet: float | None = None
    now = 0.0
    for index, probability in enumerate(probabilities):
        now = index * step_s
        if probability >= threshold:
            start = now if start is None else start
            quiet = None
        elif start is not None and probability < threshold - 0.15:
            quiet = now if quiet is None else quiet
            if now - quiet >= min_silence_s:
                found.append(Stretch(start, quiet))
                start = quiet = None
        now += step_s
    if start is not None:
        found.append(Stretch(start, now if quiet is None else quiet))
    return tuple(stretch for stretch in found if stretch.end_s - stretch.start_s >= min_speech_s)
