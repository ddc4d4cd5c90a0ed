"""What one answered request showed of its way: bytes, and the times that device and endpoint took by their own clocks.

    device    ├─ sends ──────────┐                                      ┌──── reads ─┤
    endpoint        head ├── receive ──┤── queue ──┤── compute ──┤ sends ─┘
                         (receive_bytes)                                  (answer_bytes in answer_ms)

No clock is compared with another: each span begins and ends on one machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["COMPUTE", "QUEUE", "RECEIVE", "RECEIVE_BYTES", "Passage", "told_ms"]

RECEIVE, RECEIVE_BYTES = "edge_receive_ms", "edge_receive_bytes"
QUEUE, COMPUTE = "edge_queue_ms", "edge_compute_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One answered request.

    Attributes:
        up_bytes: sent, everything counted.
        down_bytes: received, everything counted.
        duration_ms: from the first byte sent to the last one received.
        up_head_bytes: of those sent, what is no tensor: HTTP and JSON.
        down_head_bytes: of those received.
        receive_ms: at the endpoint, from the request's head to its last byte; None where it does not tell.
        receive_bytes: of the request, those that came in this time; the others came with the head.
        queue_ms: waited at the endpoint; 0 where it does not tell.
        compute_ms: computed there, decoding and encoding included; 0 where it does not tell.
        answer_ms: here, from the first piece of the answer's body to its last byte.
        answer_bytes: of the answer, those that came in this time.
        packets: that the request was sent in; 0 where the system does not tell.
        resent: of them, those that were lost and sent again.
    """

    up_bytes: int
    duration_ms: float
    down_bytes: int = 0
    up_head_bytes: int = 0
    down_head_bytes: int = 0
    receive_ms: float | None = None
    receive_bytes: int = 0
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    answer_ms: float = 0.0
    answer_bytes: int = 0
    packets: int = 0
    resent: int = 0

    @property
    def content_bytes(self) -> int:
        """Of the tensors, both ways."""
        return self.up_bytes - self.up_head_bytes + self.down_bytes - self.down_head_bytes


def told_ms(parameters: Mapping[str, Any], key: str, most_ms: float = math.inf) -> float | None:
    """A time (or count) that an endpoint tells in its parameters; None where it tells none, or one that cannot be.

    Args:
        parameters: of an answer or of metadata.
        key: of the parameter.
        most_ms: more than this cannot be.
    """
    value = parameters.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= most_ms and value < math.inf else None
