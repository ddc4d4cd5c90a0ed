"""Head and local tail of a split: what of it is on this device, for one runner or several that differ in packing."""

from __future__ import annotations

import threading

from edge_sdk.engines.base import Runner
from edge_sdk.errors import SessionClosed
from edge_sdk.offload.local import Compute, LocalTail, computing
from edge_sdk.wire.recent import Recent

__all__ = ["Halves"]

HEAD_TIMES, WOKEN_LATE = 15, 64


class Halves:
    """Held by each runner that goes with them, and freed with the last. Any number of threads may take and let go.

    Args:
        head: computes the head; a `Runner` is closed with the last holder.
        local: the local tail; closed with the last holder.

    Attributes:
        compute_head: feeds of the model in, what the head gives out.
        head_times: what the latest heads took, without packing what travels.
        woken_late: how late the latest local tails began, for want of a processor.
    """

    def __init__(self, head: Runner | Compute, local: LocalTail) -> None:
        self.head, self.local, self.compute_head = head, local, computing(head)
        self.head_times, self.woken_late = Recent(HEAD_TIMES), Recent(WOKEN_LATE)
        self._holders, self._lock = 1, threading.Lock()

    def taken(self) -> Halves:
        """These, with one more holder.

        Raises:
            SessionClosed: the last one let go of them.
        """
        with self._lock:
            if self._holders == 0:
                raise SessionClosed("head and local tail were closed before another runner could take them")
            self._holders += 1
        return self

    def let_go(self) -> None:
        """One holder less."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            if isinstance(self.head, Runner):
                self.head.close()
            self.local.close()
