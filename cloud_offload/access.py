"""Who may ask, and how much at once."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_offload.refusals import Refusal, busy
from edge_sdk.errors import InputValueError
from edge_sdk.storage import read_whole

__all__ = ["ClientLimit", "Tokens"]

_MAX_BYTES = 2**20


class Tokens:
    """Accepted bearer tokens, kept as hashes: comparing takes the same time whatever is wrong.

    Args:
        path: file with one token a line; empty lines and those that begin with # are left out.

    Raises:
        UnreadableInput: it cannot be read.
        InputValueError: it holds no token, so nobody could ever ask.
    """

    def __init__(self, path: Path) -> None:
        lines = (line.strip() for line in read_whole(path, _MAX_BYTES).splitlines())
        self._hashes = [hashlib.sha256(line).digest() for line in lines if line and not line.startswith(b"#")]
        if not self._hashes:
            raise InputValueError(f"{path}: holds no token; write one a line")

    def check(self, authorization: str) -> str:
        """Returns a name for the client that sent `Authorization: authorization`.

        Raises:
            Refusal: 401 for none or an unknown token.
        """
        scheme, _, token = authorization.partition(" ")
        given = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        known = [hmac.compare_digest(given, kept) for kept in self._hashes]
        if scheme.lower() != "bearer" or not any(known):
            raise Refusal(401, "a known bearer token is needed", ((b"www-authenticate", b"Bearer"),))
        return given.hex()


class ClientLimit:
    """Requests that one client may have in progress."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now: Counter[str] = Counter()

    @contextmanager
    def holding(self, client: str) -> Iterator[None]:
        """One more request of `client` while this is entered.

        Raises:
            Refusal: 429 where it has too many.
        """
        if self._now[client] >= self._most:
            raise busy(429, f"{self._most} requests of this client are in progress already; try again later")
        self._now[client] += 1
        try:
            yield
        finally:
            self._now[client] -= 1
            if not self._now[client]:
                del self._now[client]
