"""Calibrated rates on disk, by the fingerprint of their device; read without numpy by whoever only shows a device."""

from __future__ import annotations

import msgspec

from edge_sdk.errors import StorageError
from edge_sdk.storage import cache_folder, write_whole

__all__ = ["keep_rates", "kept_rates"]

VERSION = 1
"""Of the rates' meaning: what was kept by another version is not used."""


class _Kept(msgspec.Struct, frozen=True):
    version: int
    rates: dict[str, float]


def kept_rates(fingerprint: str) -> dict[str, float] | None:
    """The rates kept for a device; None where there are none that can be read."""
    try:
        content = (cache_folder("rates") / f"{fingerprint}.json").read_bytes()
        kept = msgspec.json.decode(content, type=_Kept)
    except (OSError, StorageError, msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return None
    return kept.rates if kept.version == VERSION else None


def keep_rates(fingerprint: str, rates: dict[str, float]) -> None:
    """Keeps the rates of a device for `kept_rates`.

    Raises:
        StorageError: the cache folder cannot be written.
    """
    write_whole(cache_folder("rates") / f"{fingerprint}.json", msgspec.json.encode(_Kept(VERSION, rates)))
