"""What a folder of models holds: plain models in Triton's layout, and bundles.

    REPOSITORY/NAME/1/model.onnx    a version of a plain model (also model.tflite, or model.edge for a bundle)
    REPOSITORY/NAME/config.pbtxt    Triton's configuration of it, if any
    REPOSITORY/NAME.edge            a bundle, as one file or a folder: version 1
    REPOSITORY/NAME/manifest.json   the same, as a folder without the suffix

Names in requests are only ever compared with names that were listed, so none of them can lead out of the folder.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cloud_offload.triton_config import CONFIG
from edge_sdk.errors import UnreadableInput

__all__ = ["ModelFiles", "is_name", "listed"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_FILES = {"model.onnx": "onnxruntime_onnx", "model.tflite": "litert_tflite", "model.edge": "edge_bundle"}
_BUNDLE = "edge_bundle"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One version of a model on disk.

    Attributes:
        platform: "onnxruntime_onnx", "litert_tflite" or "edge_bundle".
        stamp: changes when the file does, or the configuration beside it.
    """

    name: str
    version: int
    path: Path
    platform: str
    stamp: tuple[int, ...]


def is_name(name: str) -> bool:
    """Whether a model may be called so: no name of this form leads out of the folder, or is hidden in it."""
    return _NAME.fullmatch(name) is not None


def listed(repository: Path) -> dict[str, dict[int, ModelFiles]]:
    """All models by name and version, versions rising. Entries that are no model, or have no plain name, are left out.

    Raises:
        UnreadableInput: the folder cannot be read.
    """
    found: dict[str, dict[int, ModelFiles]] = {}
    try:
        entries = sorted(repository.iterdir())
    except OSError as error:
        raise UnreadableInput(f"{repository}: the repository cannot be read: {error.strerror}") from None
    for entry in entries:
        name = entry.name.removesuffix(".edge")
        if not is_name(name):
            continue
        versions = _bundle(name, entry) or _versions(name, entry)
        if versions:
            # NAME/1/… and NAME.edge may stand side by side: numbered versions go first.
            found[name] = dict(sorted({**versions, **found.get(name, {})}.items()))
    return found


def _bundle(name: str, entry: Path) -> dict[int, ModelFiles]:
    content = entry / "manifest.json" if entry.is_dir() else entry
    if (entry.is_dir() or entry.name.endswith(".edge")) and (stamp := _stamp(content)) is not None:
        return {1: ModelFiles(name, 1, entry, _BUNDLE, stamp)}
    return {}


def _versions(name: str, entry: Path) -> dict[int, ModelFiles]:
    try:
        numbers = sorted(int(f.name) for f in entry.iterdir() if _VERSION.fullmatch(f.name))
    except OSError:
        return {}
    versions = {}
    config = _stamp(entry / CONFIG) or ()
    for number in numbers:
        for file, platform in _FILES.items():
            path = entry / str(number) / file
            content = path / "manifest.json" if path.is_dir() else path
            if (stamp := _stamp(content)) is not None:
                versions[number] = ModelFiles(name, number, path, platform, stamp + config)
                break
    return versions


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if path.is_file() else None
