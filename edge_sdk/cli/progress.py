"""A bar with a rate on a terminal, and nothing elsewhere.

Bars are drawn on stderr, so that results on stdout stay what a program reads, and only where stderr is a terminal.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.plain import plain

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress", "Stages", "Steps"]


def _bar(total: int | None, form: str) -> tqdm[Any]:
    from tqdm import tqdm

    return tqdm(total=total, file=sys.stderr, leave=False, dynamic_ncols=True, bar_format=form)


class Progress:
    """Shows how far work on many inputs is. A context manager.

    Args:
        total: how many inputs there are; one has no bar.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Progress:
        if self._total > 1 and sys.stderr.isatty():
            self._bar = _bar(self._total, "{bar} {n_fmt}/{total_fmt}  {rate_fmt}  {remaining} left")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """One more input is done."""
        if self._bar is not None:
            self._bar.update()

    def show(self, text: str) -> None:
        """Prints a result on stdout, above the bar where both are on the same terminal."""
        if self._bar is not None and sys.stdout.isatty():
            self._bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def complain(self, text: str) -> None:
        """Prints one line on stderr."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)


class Steps:
    """Shows which step of long work is under way. A context manager.

    An instance is called with what is done now, how many steps are done and how many there are.
    """

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Steps:
        if sys.stderr.isatty():
            self._bar = _bar(None, "{desc}  {bar} {n_fmt}/{total_fmt}  {elapsed}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.total, self._bar.n = total, done
            self._bar.set_description_str(plain(what))


class Stages:
    """Shows what is being done where nobody knows how many steps there are. A context manager."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Stages:
        if sys.stderr.isatty():
            self._bar = _bar(None, "{desc}  {elapsed}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, stage: str, share: float | None) -> None:
        """Shows what is being done, and how much of it is (from 0 to 1, or None)."""
        if self._bar is not None:
            self._bar.set_description_str(plain(stage) + ("" if share is None else f" ({share:.0%})"))
