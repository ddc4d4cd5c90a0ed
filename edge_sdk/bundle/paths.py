"""Paths inside a bundle: relative, plain, and the same on every file system."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from edge_sdk.errors import UnsafePath

__all__ = ["check_distinct", "check_path", "folded"]

_MAX_PATH_BYTES, _MAX_PART_BYTES = 1024, 255
_DRIVE = ":"


def check_path(path: str, where: str) -> str:
    """Returns `path` if it stays below the bundle's root wherever the bundle is unpacked.

    Args:
        path: as the manifest, the archive or a model file gives it.
        where: what the message calls the place it was found at.

    Raises:
        UnsafePath: it is absolute, climbs with "..", or holds a backslash, a colon, a control character or an empty
            part.
    """
    fault = _fault(path)
    if fault:
        raise UnsafePath(
            f"{where}: path {shortened(path)} {fault}; expected a path below the bundle such as"
            " 'variants/a/model.onnx'; do not use this bundle: its writer is broken or hostile"
        )
    return path


def _fault(path: str) -> str:
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    if "\\" in path:
        return "holds a backslash"
    if _DRIVE in path:
        return "holds a colon"
    if any(unicodedata.category(character)[0] == "C" for character in path):
        return "holds a control character"
    parts = path.split("/")
    if ".." in parts:
        return "leads out of the bundle by '..'"
    if "" in parts or "." in parts:
        return "has an empty part or a part '.'"
    if len(path.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        return f"is longer than {_MAX_PATH_BYTES} bytes, or a part of it than {_MAX_PART_BYTES}"
    return ""


def shortened(text: str) -> str:
    """`text` in quotes, with escapes, cut to what fits a message."""
    return repr(text if len(text) <= 80 else text[:77] + "…")


def folded(path: str) -> str:
    """What two paths have in common that some file system holds for one."""
    return unicodedata.normalize("NFC", path).casefold()


def check_distinct(paths: Iterable[str], where: str) -> None:
    """Refuses paths that collide on a file system that ignores case, and a file that is another's folder.

    Raises:
        UnsafePath: two of `paths` collide.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        key = folded(path)
        other = seen.get(key) or folders.get(key)
        parts = key.split("/")
        parents = ["/".join(parts[:n]) for n in range(1, len(parts))]
        other = other or next((seen[parent] for parent in parents if parent in seen), None)
        if other is not None:
            raise UnsafePath(
                f"{where}: paths {shortened(other)} and {shortened(path)} are one place on some file systems;"
                " expected paths that differ by more than case"
            )
        seen[key] = path
        folders |= dict.fromkeys(parents, path)
