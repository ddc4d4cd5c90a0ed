"""Hashes of files that have not changed since they were hashed: a model of 50 MB costs a tenth of a second each time.

A file counts as the same when path, device, inode, size and both times of last change are; the time of the inode's last
change cannot be set by a program. A file that changed less than two seconds before is hashed again: a clock tick may
hide another change. Beside the hash stand the names of the external files, which only parsing the model would tell.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Annotated

import msgspec

from edge_sdk.errors import StorageError
from edge_sdk.storage import cache_folder, write_whole

__all__ = ["KnownHash", "keep_hash", "known_hash"]

_SETTLED_NS = 2_000_000_000


class KnownHash(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a file: its hash, and the external files that hold its weights (None where not looked for)."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    external_files: tuple[str, ...] | None = None


def _place(path: Path, state: os.stat_result) -> Path:
    facts = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    text = f"{path.resolve()} {facts}"
    return cache_folder("hashes") / hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


def known_hash(path: Path, state: os.stat_result) -> KnownHash | None:
    """What was kept for a file in this state; None where there is nothing."""
    try:
        return msgspec.json.decode(_place(path, state).read_bytes(), type=KnownHash)
    except (OSError, StorageError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def keep_hash(path: Path, state: os.stat_result, known: KnownHash) -> None:
    """Keeps a hash for the next process, unless the file changed a moment ago or nothing can be kept."""
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) < _SETTLED_NS:
        return
    try:
        write_whole(_place(path, state), msgspec.json.encode(known))
    except (OSError, StorageError):
        pass  # hashed again next time
