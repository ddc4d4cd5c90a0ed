"""Why a candidate was chosen, in one line."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.planner.candidates import DEFAULT
from edge_sdk.planner.plans import Candidate

__all__ = ["reason_for", "what"]


def what(candidate: Candidate, several: bool) -> str:
    """One phrase for a candidate; with its variant where there are several."""
    return f"{candidate.variant} on {candidate.describe()}" if several else candidate.describe()


def reason_for(chosen: Candidate, table: Sequence[Candidate], several: bool) -> str:
    """The line in `Plan.reason`.

    Args:
        chosen: one of `table`.
        table: what it was chosen from, with figures and reasons.
        several: whether the model has several variants.
    """
    name = what(chosen, several)
    if chosen.measured is None:
        return f"{name}: {chosen.reason}"
    measured = [candidate for candidate in table if candidate.measured is not None]
    latency = f"{chosen.measured.latency_ms:.3g} ms"
    if len(measured) == 1:
        return f"{name}: {latency}; the only candidate that was measured"
    if chosen.reason.startswith(DEFAULT):
        return f"{name}: {latency}; none of {len(measured) - 1} others was clearly faster"
    return f"{name}: {latency}; {chosen.reason}; best of {len(measured)} measured"
