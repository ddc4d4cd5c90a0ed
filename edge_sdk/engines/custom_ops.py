"""Libraries of custom ops: native code, so only a file whose hash was stated is loaded into the process."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edge_sdk.engines.base import CustomOps
from edge_sdk.errors import EngineError

__all__ = ["checked_library"]


def checked_library(library: CustomOps) -> str:
    """The path of a custom-op library whose content has the stated hash.

    Raises:
        EngineError: the file is missing or its hash differs.
    """
    try:
        with open(library.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EngineError(f"{library.path}: custom-op library cannot be read: {error.strerror}") from error
    if digest != library.sha256.lower():
        raise EngineError(
            f"{library.path}: custom-op library has sha256 {digest}, expected {library.sha256}; it is not loaded:"
            " check where it came from, then state its present hash"
        )
    return str(Path(library.path).resolve())
