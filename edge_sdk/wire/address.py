"""How a user names an endpoint: where it listens, and what this device shows it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_sdk.errors import InputError, InputValueError

if TYPE_CHECKING:
    from edge_sdk.wire.connections import TlsFiles
    from edge_sdk.wire.http import HttpEndpoint

__all__ = ["EndpointAddress", "read_token"]

_MAX_TOKEN_FILE_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """An endpoint that `load` opens and closes with its session.

    Attributes:
        url: `http://HOST:PORT` or `https://…`.
        token: bearer token; no text form of this object holds it.
        ca: file of certificates to trust instead of the system's, PEM.
        cert: file of this device's certificate with its chain, PEM.
        key: file of its key, without a pass phrase; None where that is in `cert`.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None

    @property
    def encrypted(self) -> bool:
        """Whether what travels there is encrypted.

        Raises:
            InputError: the address cannot be used.
        """
        from edge_sdk.wire.connections import Address

        return Address.of(self.url).tls

    def tls(self) -> TlsFiles:
        """The files, for a client of another kind than `open` gives.

        Raises:
            InputError: they do not go together, or with the address.
        """
        from edge_sdk.wire.connections import Address, TlsFiles

        address = Address.of(self.url)
        files = [os.fspath(path) if path is not None else None for path in (self.ca, self.cert, self.key)]
        if any(files) and not address.tls:
            raise InputError(f"endpoint {address.authority}: certificates are for https, its address begins with http:")
        if self.key is not None and self.cert is None:
            raise InputError(f"endpoint {address.authority}: a key is given without its certificate")
        return TlsFiles(*files)

    def open(self) -> HttpEndpoint:
        """A client of it; nothing is sent yet.

        Raises:
            InputError: address, token or files cannot be used.
        """
        from edge_sdk.wire.http import HttpEndpoint

        return HttpEndpoint(self.url, token=self.token, tls=self.tls())


def read_token(path: str | os.PathLike[str]) -> str:
    """The one token that a file holds; empty lines and those that begin with # are left out.

    Raises:
        UnreadableInput: it cannot be read.
        InputValueError: it holds none, or several.
    """
    from edge_sdk.storage import read_whole

    lines = (line.strip() for line in read_whole(path, _MAX_TOKEN_FILE_BYTES).splitlines())
    tokens = [line for line in lines if line and not line.startswith(b"#")]
    if len(tokens) != 1:
        raise InputValueError(f"{os.fspath(path)}: holds {len(tokens)} tokens; expected one, on a line of its own")
    return tokens[0].decode("latin-1")
