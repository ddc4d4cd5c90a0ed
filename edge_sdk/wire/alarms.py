"""Whether one request that took far too long may be believed at once: learnt from those before it.

On a link that moves through a mobile network the first slow request nearly always means that the next will be slow too;
on a steady one that loses a packet now and then it never does. So each alarm is judged by the request after it, and a
single one counts once more of them were right than wrong of late.
"""

from __future__ import annotations

__all__ = ["Alarms"]

AT_FIRST_RIGHT, AT_FIRST_WRONG = 1.0, 2.0
"""As if so many had been right and wrong before the first: nothing is believed unseen."""
KEPT = 0.9
"""What each judgement leaves of those before it."""
JUDGED_WITHIN_S = 3.0
"""A request that comes later says nothing of the alarm: the link may have changed again."""


class Alarms:
    """The alarms of one link. Not for several threads at once.

    Attributes:
        believed: whether a single one is.
    """

    def __init__(self) -> None:
        self._right, self._wrong = AT_FIRST_RIGHT, AT_FIRST_WRONG
        self._raised_s: float | None = None
        self._heeded = False

    @property
    def believed(self) -> bool:
        """Whether more were right than wrong of late."""
        return self._right > self._wrong

    def raised(self, now_s: float, heeded: bool) -> None:
        """A request took far longer than expected.

        Args:
            now_s: when it ended.
            heeded: whether the link is taken to have changed: then the next one shows whether that is so.
        """
        self._raised_s, self._heeded = now_s, heeded

    def judge(self, off: int, now_s: float) -> None:
        """The request after an alarm; nothing where there was none.

        Args:
            off: above 0 where it took longer than expected now, below where it took less.
            now_s: when it ended.
        """
        raised_s, self._raised_s = self._raised_s, None
        if raised_s is None or now_s - raised_s > JUDGED_WITHIN_S:
            return
        right = off >= 0 if self._heeded else off > 0
        self._right, self._wrong = self._right * KEPT + right, self._wrong * KEPT + (not right)
