"""Heads and tails kept on disk: made and compared once, then read. A file that was altered is made again.

A file holds the SHA-256 of what follows, the size of a msgpack record, that record (`Parts` without the two contents),
then head and tail as they are: so a tail can be left there until it is needed.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_sdk.engines.graph_cache import isa_key
from edge_sdk.engines.registry import engine_versions
from edge_sdk.errors import StorageError
from edge_sdk.formats import ModelFile
from edge_sdk.graph.codec import Scales, coding_text
from edge_sdk.graph.flow import Cut
from edge_sdk.graph.view import Graph
from edge_sdk.offload.parts import Parts, made_parts
from edge_sdk.storage import cache_folder, drop_oldest, write_whole

__all__ = ["kept_parts", "kept_parts_and_tail"]

_log = logging.getLogger(__name__)
_FORM = 7
"""Rises when head and tail of the same cut come out otherwise than before, or are written otherwise."""
_HASH_BYTES, _SIZE_BYTES = 32, 8
MAX_TOTAL_BYTES = 512 * 2**20


class _Record(msgspec.Struct, frozen=True):
    """What stands before head and tail."""

    parts: Parts
    head_bytes: int
    tail_digest: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tail is kept."""

    path: Path
    digest: bytes


def kept_parts(
    model: ModelFile,
    cut: Cut,
    *,
    codec: str = "none",
    samples: Sequence[Mapping[str, Any]] = (),
    scales: Sequence[Scales] = (),
    graph: Graph | None = None,
) -> Parts:
    """As `made_parts`, but head and tail of an earlier call on this machine are taken where they were kept.

    They are made again for another file, cut, codec, engine version, instruction set, or other samples or scales.

    Raises:
        EdgeError: as `made_parts`.
    """
    return _parts(model, cut, codec, samples, scales, graph)[0]


def kept_parts_and_tail(
    model: ModelFile,
    cut: Cut,
    *,
    codec: str = "none",
    samples: Sequence[Mapping[str, Any]] = (),
    scales: Sequence[Scales] = (),
    graph: Graph | None = None,
) -> tuple[Parts, Callable[[], bytes]]:
    """As `kept_parts`, with a way to read the tail again from where it is kept, so that nobody need hold it in memory.

    That raises `StorageError` where the file was altered meanwhile. Where nothing can be kept it holds the tail.
    """
    parts, place = _parts(model, cut, codec, samples, scales, graph)
    tail = parts.split.tail
    return parts, (_tail_on_disk(place, len(tail)) if place is not None else None) or (lambda: tail)


def _parts(
    model: ModelFile,
    cut: Cut,
    codec: str,
    samples: Sequence[Mapping[str, Any]],
    scales: Sequence[Scales],
    graph: Graph | None,
) -> tuple[Parts, _Place | None]:
    path = _path(model, cut, coding_text(codec, scales), samples)
    kept = _read(path) if path is not None else None
    if path is not None and kept is not None:
        return kept[0], _Place(path, kept[1])
    made = made_parts(model, cut, codec=codec, samples=samples, scales=scales, graph=graph)
    return made, None if path is None else _keep(path, made)


def _tail_on_disk(kept: _Place, size: int) -> Callable[[], bytes] | None:
    """Reads the tail at the end of a kept file; None where it is not there. The open file outlives its removal."""
    path = kept.path
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - it is closed with what holds it
        place = os.fstat(file.fileno()).st_size - size
    except OSError:
        return None

    def read() -> bytes:
        try:
            content = os.pread(file.fileno(), size, place) if place > 0 else b""
        except OSError as error:
            raise StorageError(
                f"{path}: the kept tail cannot be read: {error.strerror}; load the model again"
            ) from None
        if hashlib.sha256(content).digest() != kept.digest:
            raise StorageError(f"{path}: the kept tail was altered while it was in use; load the model again")
        return content

    return read


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


def _keep(path: Path, made: Parts) -> _Place | None:
    split, digest = made.split, hashlib.sha256(made.split.tail).digest()
    parts = replace(made, split=replace(split, head=b"", tail=b""))
    record = msgspec.msgpack.encode(_Record(parts, len(split.head), digest))
    content = b"".join((len(record).to_bytes(_SIZE_BYTES, "big"), record, split.head, split.tail))
    if len(content) > MAX_TOTAL_BYTES:
        return None
    try:
        write_whole(path, hashlib.sha256(content).digest() + content)
        drop_oldest(path, MAX_TOTAL_BYTES)
    except (StorageError, OSError) as error:
        _log.info("head and tail are not kept: %s", error)
        return None
    return _Place(path, digest)


def _read(path: Path) -> tuple[Parts, bytes] | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body = memoryview(content)[_HASH_BYTES:]
    if hashlib.sha256(body).digest() != content[:_HASH_BYTES]:
        _log.warning("%s: a kept head and tail were altered; they are made again", path)
        return None
    record_end = _SIZE_BYTES + int.from_bytes(body[:_SIZE_BYTES], "big")
    try:
        kept = msgspec.msgpack.decode(body[_SIZE_BYTES:record_end], type=_Record)
        os.utime(path)
    except (msgspec.MsgspecError, OSError):
        return None
    head_end = record_end + kept.head_bytes
    head, tail = bytes(body[record_end:head_end]), bytes(body[head_end:])
    return replace(kept.parts, split=replace(kept.parts.split, head=head, tail=tail)), kept.tail_digest
