"""What one request took at the endpoint, told in its answer: its client learns the link apart from the endpoint."""

from __future__ import annotations

from time import perf_counter

from cloud_offload.arrival import Arrival
from edge_sdk.wire.passage import COMPUTE, QUEUE

__all__ = ["Times"]


class Times:
    """Of one request.

    Args:
        arrival: of the request, whose body is there.

    Attributes:
        queue_s: waited for a thread.
    """

    __slots__ = ("_arrival", "queue_s")

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self.queue_s = 0.0

    def computed(self) -> tuple[float, float]:
        """The outputs are there: seconds waited, and seconds of everything else since the body was there."""
        return self.queue_s, max(perf_counter() - self._arrival.whole_s - self.queue_s, 0.0)

    def told(self) -> dict[str, float]:
        """As parameters of the answer."""
        queue_s, compute_s = self.computed()
        told = {QUEUE: round(queue_s * 1e3, 3), COMPUTE: round(compute_s * 1e3, 3)}
        return {**self._arrival.told(), **told}
