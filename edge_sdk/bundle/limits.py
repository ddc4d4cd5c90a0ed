"""How far an archive may expand."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What reading a bundle may cost.

    Trained weights hardly compress: to 0.9 of their size, with 95 % zeros to an eighth, with 99 % to a thirtieth.
    Deflate itself ends at 1032:1. So 100:1 tells a file made to fill the disk from every honest model; `create` stores
    what would compress further as it is, so that what it writes is never refused.

    Attributes:
        max_total_bytes: of all files together, expanded.
        max_ratio: expanded to compressed size of one file.
        free_bytes: files that expand to no more than this are not judged by their ratio.
        max_entries: files and folders in an archive.
    """

    max_total_bytes: int = 8 * 2**30
    max_ratio: float = 100.0
    free_bytes: int = 64 * 2**10
    max_entries: int = 10_000
