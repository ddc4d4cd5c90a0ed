"""The largest flow through a network of capacities, and the least cut that bounds it.

Source: E. A. Dinic, "Algorithm for solution of a problem of maximum flow in networks with power estimation", 1970.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Network"]


class Network:
    """Places joined by one-way edges of whole capacities. Capacities are integers, so that the result is exact.

    Args:
        places: how many; they are numbered from 0.
    """

    def __init__(self, places: int) -> None:
        self._edges: list[list[int]] = [[] for _ in range(places)]
        self._ends: list[int] = []
        self._room: list[int] = []

    def join(self, start: int, end: int, capacity: int) -> None:
        """Adds an edge."""
        for place, other, room in ((start, end, capacity), (end, start, 0)):
            self._edges[place].append(len(self._ends))
            self._ends.append(other)
            self._room.append(room)

    def least_cut(self, source: int, sink: int) -> list[bool]:
        """Fills the network; tells for each place whether it lies on the source's side of the least cut.

        Of several least cuts it is the one with the most places on that side.
        """
        while True:
            levels = self._levels(source)
            if levels[sink] < 0:
                return self._kept_from(sink)
            tried = [0] * len(self._edges)
            while self._push(source, sink, levels, tried):
                pass

    def _levels(self, source: int) -> list[int]:
        """By place, its distance from the source along edges with room; -1 where there is no way."""
        levels = [-1] * len(self._edges)
        levels[source] = 0
        waiting = deque([source])
        while waiting:
            place = waiting.popleft()
            for edge in self._edges[place]:
                end = self._ends[edge]
                if self._room[edge] and levels[end] < 0:
                    levels[end] = levels[place] + 1
                    waiting.append(end)
        return levels

    def _kept_from(self, sink: int) -> list[bool]:
        """By place, whether no edges with room lead from there to the sink."""
        kept = [True] * len(self._edges)
        kept[sink] = False
        waiting = deque([sink])
        while waiting:
            for edge in self._edges[waiting.popleft()]:
                start = self._ends[edge]
                if self._room[edge ^ 1] and kept[start]:
                    kept[start] = False
                    waiting.append(start)
        return kept

    def _push(self, source: int, sink: int, levels: list[int], tried: list[int]) -> bool:
        """Fills one way of rising levels; False where there is none left."""
        way: list[int] = []
        place = source
        while place != sink:
            edges = self._edges[place]
            while tried[place] < len(edges):
                edge = edges[tried[place]]
                if self._room[edge] and levels[self._ends[edge]] == levels[place] + 1:
                    break
                tried[place] += 1
            else:
                if not way:
                    return False
                place = self._ends[way.pop() ^ 1]
                tried[place] += 1
                continue
            way.append(edge)
            place = self._ends[edge]
        flow = min(self._room[edge] for edge in way)
        for edge in way:
            self._room[edge] -= flow
            self._room[edge ^ 1] += flow
        return True
