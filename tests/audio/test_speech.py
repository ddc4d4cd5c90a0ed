"""Probabilities become stretches of speech."""

from __future__ import annotations

import pytest

from edge_sdk.audio import Stretch, speech_stretches
from edge_sdk.errors import InputError


def test_speech_begins_at_the_threshold_and_ends_with_silence() -> None:
    found = speech_stretches([0, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1], 0.1)
    assert [(round(s.start_s, 3), round(s.end_s, 3)) for s in found] == [(0.1, 0.4)]


def test_a_dip_that_is_shallow_or_short_does_not_end_it() -> None:
    shallow = speech_stretches([0.9, 0.9, 0.4, 0.4, 0.4, 0.9], 0.1)
    short = speech_stretches([0.9, 0.9, 0.1, 0.9, 0.9], 0.05, min_speech_s=0.1)
    assert len(shallow) == 1 and len(short) == 1


def test_what_is_too_short_is_dropped_and_what_lasts_to_the_end_is_kept() -> None:
    assert speech_stretches([0.9, 0, 0, 0], 0.1) == ()
    assert speech_stretches([0.9] * 5, 0.1) == (Stretch(0.0, 0.5),)
    assert speech_stretches([], 0.1) == ()


def test_windows_must_lie_apart() -> None:
    with pytest.raises(InputError, match="more than 0"):
        speech_stretches([0.5], 0)
