"""Some samples of many, still read from disk one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

from edge_sdk.tensors import Array

__all__ = ["Picked", "spread"]

Feeds = Mapping[str, Array]


class Picked(Sequence[Feeds]):
    """The samples of a sequence at some places, in that order.

    Args:
        feeds: all samples; each is read anew when asked for, where they are lazy.
        places: which of them.
    """

    def __init__(self, feeds: Sequence[Feeds], places: Sequence[int]) -> None:
        self._feeds, self._places = feeds, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Feeds: ...

    @overload
    def __getitem__(self, place: slice) -> Picked: ...

    def __getitem__(self, place: int | slice) -> Feeds | Picked:
        if isinstance(place, slice):
            return Picked(self._feeds, self._places[place])
        return self._feeds[self._places[place]]


def spread(feeds: Sequence[Feeds], most: int) -> Sequence[Feeds]:
    """At most so many samples, evenly over the whole: data are often sorted by class."""
    if len(feeds) <= most:
        return feeds
    return Picked(feeds, [place * len(feeds) // most for place in range(most)])
