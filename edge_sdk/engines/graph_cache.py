"""Optimised graphs kept for the next start: what an engine folded and fused, keyed by model, engine, ISA and options.

The content is checked against its hash, once in each process and again when the file has changed: a file that an ailing
SD card altered is dropped, not loaded. Weights may lie in a file of their own, as the kernels want them, for the engine
to map: they then take memory that the kernel can have back, and nothing is copied to load them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import platform
import shutil
from pathlib import Path

from edge_sdk.errors import StorageError
from edge_sdk.storage import cache_folder, move_whole, write_whole

__all__ = ["GraphCache", "isa_key"]

_log = logging.getLogger(__name__)
MAX_TOTAL_BYTES = 2**30
MAX_FILE_BYTES = 256 * 2**20
WEIGHTS = ".weights"


@functools.cache
def isa_key() -> str:
    """A short key of the instruction set this process runs on: what an optimiser may have chosen a layout for."""
    features = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.lower().startswith(("flags", "features")):
                    features = line.partition(":")[2].strip()
                    break
    except OSError:
        pass
    digest = hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()
    return f"{platform.machine()}-{digest[:12]}"


class GraphCache:
    """Optimised graphs of one engine version on this machine.

    Args:
        engine: name and version, part of the key.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def key(self, model_sha256: str, options: str) -> str:
        """The key of one model loaded with one set of options."""
        text = "\n".join((model_sha256, self._engine, isa_key(), options))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def find(self, key: str) -> Path | None:
        """The file of the kept graph, or None where there is none or it was altered."""
        try:
            folder = cache_folder("graphs")
            kept = folder / f"{key}.onnx"
            expected = json.loads((folder / f"{key}.json").read_text())
            found = {"sha256": _hash_of(kept)}
            if "weights" in expected:
                found["weights"] = _hash_of(kept.with_suffix(WEIGHTS))
        except (OSError, StorageError, ValueError, TypeError):
            return None
        if found != expected:
            _log.warning("optimised graph %s was altered on disk and is made again", key)
            self.drop(key)
            return None
        try:
            os.utime(folder / f"{key}.json")  # the oldest use goes first when room is needed
        except OSError:
            pass
        return kept

    def workspace(self, key: str) -> Path | None:
        """Where the engine may write a graph before `keep`, in a folder of its own, with weights beside it where they
        are to be mapped; None where there is no room to write."""
        try:
            folder = cache_folder("graphs") / f".{key}.{os.getpid()}.{os.urandom(4).hex()}"
            folder.mkdir()
        except (OSError, StorageError) as error:
            _log.info("optimised graphs are not kept: %s", error)
            return None
        return folder / f"{key}.onnx"

    def keep(self, key: str, made: Path) -> None:
        """Takes over the file `made` in a workspace under `key`, and the weights beside it; the workspace is gone then.
        A disk that is full costs the cache, never the request."""
        try:
            folder = made.parent.parent
            weights = made.with_suffix(WEIGHTS)
            if not made.is_file() or _bytes_of(made) > MAX_FILE_BYTES:
                return
            hashes = {"sha256": _hash_of(made)}
            if weights.is_file():
                hashes["weights"] = _hash_of(weights)
                move_whole(weights, folder / weights.name)
            move_whole(made, folder / made.name)
            write_whole(folder / f"{key}.json", json.dumps(hashes).encode())
            self._make_room(folder)
        except (OSError, StorageError) as error:
            _log.info("optimised graph is not kept: %s", error)
        finally:
            self.give_up(made)

    def give_up(self, made: Path) -> None:
        """Removes a workspace."""
        shutil.rmtree(made.parent, ignore_errors=True)

    def drop(self, key: str) -> None:
        """Removes what is kept under `key`; who has it mapped keeps it."""
        try:
            folder = cache_folder("graphs")
        except StorageError:
            return
        for suffix in (".json", ".onnx", WEIGHTS):
            (folder / f"{key}{suffix}").unlink(missing_ok=True)

    def _make_room(self, folder: Path) -> None:
        kept = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
        total = 0
        for index in kept:
            total += _bytes_of(index.with_suffix(".onnx"))
            if total > MAX_TOTAL_BYTES:
                self.drop(index.stem)


def _bytes_of(graph: Path) -> int:
    return sum(path.stat().st_size for path in (graph, graph.with_suffix(WEIGHTS)) if path.is_file())


def _hash_of(path: Path) -> str:
    status = path.stat()
    return _hash_of_content(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _hash_of_content(path: Path, inode: int, size: int, mtime_ns: int) -> str:
    """Once in a process for each content: a model that is unloaded and loaded in turn is not read for it each time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
