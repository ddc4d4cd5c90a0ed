"""Text from files and models, made fit for a terminal."""

from __future__ import annotations

__all__ = ["plain"]


def plain(text: str) -> str:
    """Replaces what cannot be printed: control characters would steer the terminal, lone surrogates stop `print`."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
