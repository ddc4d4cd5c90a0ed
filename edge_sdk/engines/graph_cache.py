"""Optimised graphs kept for the next start: what an engine folded and fused, keyed by model, engine, ISA and options.

The content is checked against its hash on every use: a file that an ailing SD card altered is dropped, not loaded.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import platform
from pathlib import Path

from edge_sdk.errors import StorageError
from edge_sdk.storage import cache_folder, write_whole

__all__ = ["GraphCache", "isa_key"]

_log = logging.getLogger(__name__)
MAX_TOTAL_BYTES = 512 * 2**20
MAX_FILE_BYTES = 256 * 2**20


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

    def find(self, key: str) -> bytes | None:
        """The kept graph, or None where there is none or it was altered."""
        try:
            folder = cache_folder("graphs")
            expected = json.loads((folder / f"{key}.json").read_text())["sha256"]
            content = (folder / f"{key}.onnx").read_bytes()
        except (OSError, StorageError, ValueError, KeyError, TypeError):
            return None
        if hashlib.sha256(content).hexdigest() != expected:
            _log.warning("optimised graph %s was altered on disk and is made again", key)
            self.drop(key)
            return None
        try:
            os.utime(folder / f"{key}.json")  # the oldest use goes first when room is needed
        except OSError:
            pass
        return content

    def workspace(self, key: str) -> Path | None:
        """Where the engine may write a graph before `keep`; None where there is no room to write."""
        try:
            return cache_folder("graphs") / f".{key}.{os.getpid()}.{os.urandom(4).hex()}.onnx"
        except StorageError as error:
            _log.info("optimised graphs are not kept: %s", error)
            return None

    def keep(self, key: str, made: Path) -> None:
        """Takes over the file `made` under `key`. A disk that is full costs the cache, never the request."""
        try:
            if not made.is_file() or made.stat().st_size > MAX_FILE_BYTES:
                return
            content = made.read_bytes()
            folder = made.parent
            write_whole(folder / f"{key}.onnx", content)
            write_whole(folder / f"{key}.json", json.dumps({"sha256": hashlib.sha256(content).hexdigest()}).encode())
            self._make_room(folder)
        except (OSError, StorageError) as error:
            _log.info("optimised graph is not kept: %s", error)
        finally:
            made.unlink(missing_ok=True)

    def drop(self, key: str) -> None:
        """Removes what is kept under `key`."""
        try:
            folder = cache_folder("graphs")
        except StorageError:
            return
        for suffix in (".json", ".onnx"):
            (folder / f"{key}{suffix}").unlink(missing_ok=True)

    def _make_room(self, folder: Path) -> None:
        kept = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
        total = 0
        for index in kept:
            graph = index.with_suffix(".onnx")
            total += graph.stat().st_size if graph.is_file() else 0
            if total > MAX_TOTAL_BYTES:
                self.drop(index.stem)
