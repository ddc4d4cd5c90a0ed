"""Numbers as arguments: what argparse takes as `type`, with the bounds told in one way."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

__all__ = ["number", "whole"]


def whole(least: int = 1, most: int = 10**9) -> Callable[[str], int]:
    """Reads a whole number within bounds, both of them included."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text[:80]!r}: expected a whole number from {least} to {most}")
        return int(text)

    return read


def number(most: float, what: str = "a number", *, zero: bool = True) -> Callable[[str], float]:
    """Reads a number from 0 to `most`.

    Args:
        most: is allowed too.
        what: it is, for the message: "seconds".
        zero: whether 0 is allowed.
    """

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not (0 <= found <= most) or (found == 0 and not zero):
            bounds = f"from 0 to {most:g}" if zero else f"above 0, up to {most:g}"
            raise argparse.ArgumentTypeError(f"{text[:80]!r}: expected {what} {bounds}")
        return found

    return read
