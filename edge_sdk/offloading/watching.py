"""Looks after the endpoints of a session while its requests do not: idle links are probed, lost ones found again."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Watching"]

EVERY_S = 1.0


class Watching:
    """Calls something every so often, in a thread of its own, until it is stopped.

    Args:
        look: what is called; it must not raise.
        every_s: between the end of one call and the next.
    """

    def __init__(self, look: Callable[[], None], every_s: float = EVERY_S) -> None:
        self._look, self._every_s = look, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-sdk-watch", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """No further call begins. Idempotent."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            self._look()
