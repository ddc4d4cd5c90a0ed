"""Heads and tails kept on disk: made and compared once, then read. A file that was altered is made again."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_sdk.engines.graph_cache import isa_key
from edge_sdk.engines.registry import engine_versions
from edge_sdk.errors import StorageError
from edge_sdk.formats import ModelFile
from edge_sdk.graph.codec import Scale, coding_text
from edge_sdk.graph.flow import Cut
from edge_sdk.graph.view import Graph
from edge_sdk.offload.parts import Parts, made_parts
from edge_sdk.storage import cache_folder, write_whole

__all__ = ["kept_parts"]

_log = logging.getLogger(__name__)
_FORM = 3
"""Rises when head and tail of the same cut come out otherwise than before, or are written otherwise."""
_HASH_BYTES = 32
MAX_TOTAL_BYTES = 512 * 2**20


def kept_parts(
    model: ModelFile,
    cut: Cut,
    *,
    codec: str = "none",
    samples: Sequence[Mapping[str, Any]] = (),
    scales: Sequence[Scale] = (),
    graph: Graph | None = None,
) -> Parts:
    """As `made_parts`, but head and tail of an earlier call on this machine are taken where they were kept.

    They are made again for another file, cut, codec, engine version, instruction set, or other samples or scales.

    Raises:
        EdgeError: as `made_parts`.
    """
    path = _path(model, cut, coding_text(codec, scales), samples)
    kept = _read(path) if path is not None else None
    if kept is not None:
        return kept
    made = made_parts(model, cut, codec=codec, samples=samples, scales=scales, graph=graph)
    if path is not None:
        _keep(path, made)
    return made


def _path(model: ModelFile, cut: Cut, coding: str, samples: Sequence[Mapping[str, Any]]) -> Path | None:
    digest = hashlib.sha256()
    key = (_FORM, model.fingerprint, asdict(cut), coding, sorted(engine_versions().items()), isa_key(), len(samples))
    digest.update(msgspec.json.encode(key))
    for sample in samples:
        for name in sorted(sample):
            array = np.ascontiguousarray(sample[name])
            digest.update(msgspec.json.encode((name, str(array.dtype), array.shape)))
            digest.update(array.tobytes())
    try:
        return cache_folder("splits") / f"{digest.hexdigest()[:_HASH_BYTES]}.split"
    except StorageError as error:
        _log.info("heads and tails are not kept: %s", error)
        return None


def _keep(path: Path, made: Parts) -> None:
    content = msgspec.msgpack.encode(made)
    if len(content) > MAX_TOTAL_BYTES:
        return
    try:
        write_whole(path, hashlib.sha256(content).digest() + content)
        _prune(path)
    except (StorageError, OSError) as error:
        _log.info("head and tail are not kept: %s", error)


def _prune(newest: Path) -> None:
    """Drops what was used longest ago until all that is kept stays below the limit."""
    entries = sorted(((file.stat(), file) for file in newest.parent.glob("*.split")), key=lambda e: e[0].st_mtime_ns)
    total = sum(status.st_size for status, _ in entries)
    for status, file in entries:
        if total <= MAX_TOTAL_BYTES or file == newest:
            break
        file.unlink(missing_ok=True)
        total -= status.st_size


def _read(path: Path) -> Parts | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body = memoryview(content)[_HASH_BYTES:]
    if hashlib.sha256(body).digest() != content[:_HASH_BYTES]:
        _log.warning("%s: a kept head and tail were altered; they are made again", path)
        return None
    try:
        kept = msgspec.msgpack.decode(body, type=Parts)
        os.utime(path)
    except (msgspec.MsgspecError, OSError):
        return None
    return kept
