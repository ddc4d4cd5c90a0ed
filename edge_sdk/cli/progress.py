"""A bar with a rate on a terminal, and nothing elsewhere.

Bars are drawn on stderr, so that results on stdout stay what a program reads, and only where stderr is a terminal.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from edge_sdk.cli.plain import plain

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress", "Stages", "Steps"]


class _Shown:
    """What draws a bar from its beginning to its end where it makes sense. A context manager."""

    def __init__(self, form: str, total: int | None = None, sensible: bool = True) -> None:
        self._form, self._total, self._sensible = form, total, sensible
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        if self._sensible and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, file=sys.stderr, leave=False, dynamic_ncols=True, bar_format=self._form)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


class Progress(_Shown):
    """Shows how far work on many inputs is. A context manager.

    Args:
        total: how many inputs there are; one has no bar.
    """

    def __init__(self, total: int) -> None:
        super().__init__("{bar} {n_fmt}/{total_fmt}  {rate_fmt}  {remaining} left", total, total > 1)

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


class Steps(_Shown):
    """Shows which step of long work is under way. A context manager.

    An instance is called with what is done now, how many steps are done and how many there are.
    """

    def __init__(self) -> None:
        super().__init__("{desc}  {bar} {n_fmt}/{total_fmt}  {elapsed}")

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.total, self._bar.n = total, done
            self._bar.set_description_str(plain(what))


class Stages(_Shown):
    """Shows what is being done where nobody knows how many steps there are. A context manager."""

    def __init__(self) -> None:
        super().__init__("{desc}  {elapsed}")

    def show(self, stage: str, share: float | None) -> None:
        """Shows what is being done, and how much of it is (from 0 to 1, or None)."""
        if self._bar is not None:
            self._bar.set_description_str(plain(stage) + ("" if share is None else f" ({share:.0%})"))
