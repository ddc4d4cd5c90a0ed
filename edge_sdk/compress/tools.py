"""Packages that only building needs: imported on use, kept quiet, their errors in one line."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from edge_sdk.errors import MissingExtra

__all__ = ["needed", "one_line", "quiet"]

_LONGEST = 300


def needed(module: str, extra: str = "build") -> Any:
    """Imports what only building needs.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise MissingExtra(
            f"making variants needs the package {package} ({error}); install it with pip install 'edge-sdk[{extra}]'"
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what the quantizers print and say to the root logger from the user's terminal; errors come as
    exceptions."""
    root = logging.getLogger()

    def not_theirs(record: logging.LogRecord) -> bool:
        return record.name != "root" or record.levelno >= logging.ERROR

    root.addFilter(not_theirs)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(not_theirs)


def one_line(error: object) -> str:
    """What an error of somebody else's says, on one line of bearable length."""
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__
