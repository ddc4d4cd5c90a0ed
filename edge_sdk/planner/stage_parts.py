"""The parts of a model that is cut in stages, made once and kept on disk.

A file holds the SHA-256 of what follows, then the parts as a msgpack list.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_sdk.errors import StorageError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.cuts import cut_at
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.splitting import split_model
from edge_sdk.graph.view import Graph
from edge_sdk.storage import cache_folder, drop_oldest, write_whole

__all__ = ["stage_parts"]

_log = logging.getLogger(__name__)
_FORM = 1
"""Rises when parts of the same cuts come out otherwise than before, or are written otherwise."""
_HASH_BYTES = 32
MAX_TOTAL_BYTES = 512 * 2**20

Cuts = Sequence[Sequence[str]]


def stage_parts(model: ModelFile, cuts: Cuts, graph: Graph | None = None) -> tuple[ModelFile, ...]:
    """The parts of a model, first to last: each an open model file of the whole's format.

    Args:
        model: an ONNX or TFLite file; stays open.
        cuts: names of the tensors of each cut, from front to back; each cut's head holds those before it.
        graph: of the file, where it is already open.

    Raises:
        ModelError: it cannot be cut so.
        UnsupportedOp: the graph holds control flow, or ops that keep state.
        MissingExtra: a package for cutting is not installed.
    """
    path = _path(model, cuts)
    contents = _read(path) if path is not None else None
    if contents is None:
        contents = _made(model, cuts, graph)
        if path is not None:
            _keep(path, contents)
    return tuple(
        open_model(content, name=f"{model.name} (stage {number} of {len(contents)})")
        for number, content in enumerate(contents, 1)
    )


def _made(model: ModelFile, cuts: Cuts, graph: Graph | None) -> list[bytes]:
    found, rest, last = [], model, b""
    for tensors in cuts:
        graph = open_graph(rest) if graph is None else graph
        split = split_model(rest, cut_at(graph, tensors, where=model.name), graph=graph)
        found.append(split.head)
        last, graph = split.tail, None
        rest = open_model(last, name=model.name)
    return [*found, last]


def _path(model: ModelFile, cuts: Cuts) -> Path | None:
    key = msgspec.json.encode((_FORM, model.fingerprint, cuts))
    try:
        return cache_folder("stages") / f"{hashlib.sha256(key).hexdigest()[:_HASH_BYTES]}.parts"
    except StorageError as error:
        _log.info("parts of models are not kept: %s", error)
        return None


def _keep(path: Path, contents: list[bytes]) -> None:
    """A disk that is full costs the next start some time, never this one its answer."""
    content = msgspec.msgpack.encode(contents)
    if len(content) > MAX_TOTAL_BYTES:
        return
    try:
        write_whole(path, hashlib.sha256(content).digest() + content)
        drop_oldest(path, MAX_TOTAL_BYTES)
    except (StorageError, OSError) as error:
        _log.info("parts of a model are not kept: %s", error)


def _read(path: Path) -> list[bytes] | None:
    try:
        content = path.read_bytes()
        body = memoryview(content)[_HASH_BYTES:]
        if hashlib.sha256(body).digest() != content[:_HASH_BYTES]:
            _log.warning("%s: kept parts of a model were altered; they are made again", path)
            return None
        os.utime(path)  # the oldest use goes first when room is needed
        return msgspec.msgpack.decode(body, type=list[bytes])
    except (OSError, msgspec.MsgspecError):
        return None
