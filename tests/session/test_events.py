"""Events of a session: the latest lines, and counts of all."""

from __future__ import annotations

from edge_sdk.events import KINDS, MOST_LINES, Events


def test_lines_are_bounded_and_counts_are_not() -> None:
    events = Events()
    for number in range(MOST_LINES + 10):
        events.tell("stepped", f"step {number}")
    events.append("a line that is not counted")
    assert len(events) == MOST_LINES
    assert (events[0], events[-1]) == ("step 11", "a line that is not counted")
    assert events.counts == {**dict.fromkeys(KINDS, 0), "stepped": MOST_LINES + 10}
