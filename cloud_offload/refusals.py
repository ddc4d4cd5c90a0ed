"""Answers that are no inference: an HTTP status and one line that says why."""

from __future__ import annotations

__all__ = ["Refusal", "busy", "late", "unknown_model"]


class Refusal(Exception):
    """Ends a request with an error.

    Attributes:
        status: HTTP status.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def unknown_model(name: str, version: str = "") -> Refusal:
    """404 for a model, or a version of it, that is not there."""
    told = f"version {version[:40]!r} of model {name[:100]!r}" if version else f"model {name[:100]!r}"
    return Refusal(404, f"{told} is not here; see /v2/repository/index")


def busy(status: int, message: str, retry_after_s: int = 1) -> Refusal:
    """429 or 503 with the time after which another try is welcome."""
    return Refusal(status, message, ((b"retry-after", str(retry_after_s).encode()),))


def late(where: str) -> Refusal:
    """504 for a request whose deadline has passed."""
    return Refusal(504, f"{where}: the deadline passed before the answer")
