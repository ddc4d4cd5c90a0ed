"""What is used after what: learnt from the sequence of uses, so that the likely next can be made ready.

Counts of first-order successors that fade: a habit that has changed is forgotten after some tens of uses.
"""

from __future__ import annotations

__all__ = ["Successors"]

FADES = 0.9
LEAST_WEIGHT, LEAST_SHARE = 1.8, 0.5
"""It has followed at least twice of late, and in half of the cases."""
MOST = 16
"""Successors that are remembered of each."""


class Successors:
    """Learns which of some names follows which; not for several threads at once."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._after: dict[str, dict[str, float]] = {}

    def see(self, name: str) -> None:
        """One is used; the same one again tells nothing."""
        last, self._last = self._last, name
        if last is None or last == name:
            return
        row = self._after.setdefault(last, {})
        for other in row:
            row[other] *= FADES
        row[name] = row.get(name, 0.0) + 1.0
        if len(row) > MOST:
            del row[min(row, key=row.__getitem__)]

    def shares(self, name: str) -> dict[str, float]:
        """What follows a name, with the share of cases of late."""
        row = self._after.get(name, {})
        total = sum(row.values())
        return {other: weight / total for other, weight in row.items()}

    def likely(self, name: str) -> str | None:
        """What follows a name most of the time; None where nothing does."""
        row = self._after.get(name)
        if not row:
            return None
        best = max(row, key=row.__getitem__)
        if row[best] < LEAST_WEIGHT or row[best] < LEAST_SHARE * sum(row.values()):
            return None
        return best

    def forget(self, name: str) -> None:
        """There is no such name any more."""
        self._after.pop(name, None)
        for row in self._after.values():
            row.pop(name, None)
        if self._last == name:
            self._last = None
