"""Connections to one endpoint, kept alive between requests."""

from __future__ import annotations

import os
import re
import ssl
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge_sdk.errors import InputError
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.dialling import Dialler

if TYPE_CHECKING:
    import socket

    from urllib3.connection import HTTPConnection

__all__ = ["Address", "Connection", "Connections", "TlsFiles"]

_USER = re.compile(r"://.*@", re.DOTALL)
"""Name and password before a host, which no message may repeat."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Whom to trust, and who this device is.

    Attributes:
        ca: file of certificates to trust instead of the system's.
        certificate: file of this device's certificate, with its chain.
        key: file of its key; None where that is in `certificate`.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext:
        """The context of all connections: host names are checked, TLS 1.2 or newer.

        Raises:
            InputError: a file is missing or holds no certificate.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                # An empty pass phrase: without one OpenSSL would ask for it at the terminal, and wait.
                context.load_cert_chain(self.certificate, self.key, password="")
        except OSError as error:
            files = ", ".join(name for name in (self.ca, self.certificate, self.key) if name)
            raise InputError(f"{files}: certificates cannot be read: {error.strerror or error}") from None
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint listens.

    Attributes:
        path: what stands before `/v2`, without a slash at its end.
    """

    host: str
    port: int
    tls: bool
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Reads `http://host:port/path` or `https://…`.

        Raises:
            InputError: it is none, or holds a user name, a query or characters that no address has.
        """
        expected = "expected http://HOST:PORT or https://HOST:PORT"
        told = _USER.sub("://…@", url)
        if any(ord(c) <= 32 or ord(c) >= 127 for c in url):
            raise InputError(f"endpoint {told!r}: holds spaces, control or non-ASCII characters; {expected}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError(f"endpoint {told!r}: {error}; {expected}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"endpoint {told!r}: {expected}")
        if parts.username is not None or parts.query or parts.fragment:
            raise InputError(
                f"endpoint {told!r}: no user name, query or fragment may stand there; give the token apart"
            )
        tls = parts.scheme == "https"
        return cls(parts.hostname, port if port is not None else (443 if tls else 80), tls, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclass(slots=True)
class Connection:
    """One connection.

    Attributes:
        sock: the connected socket, blocking.
        tls: whether it is encrypted.
        used: how often it was put back for the next request.
        reusable: whether everything that was sent on it was answered and read.
        verified: models that were found to be the right ones on it, to when (seconds by the monotonic clock). Behind
            one connection stands one process, so what was found true stays so, apart from reloading.
        packets: sent on it and counted so far, and of these sent again.
    """

    raw: HTTPConnection
    sock: socket.socket
    tls: bool
    used: int = 0
    reusable: bool = True
    verified: dict[tuple[object, ...], float] = field(default_factory=dict)
    packets: tuple[int, int] = (0, 0)

    def close(self) -> None:
        """Closes it. Idempotent."""
        self.raw.close()


class Connections:
    """A pool: the latest used connection first, so that those a burst left behind grow old and are closed.

    Args:
        address: where to connect to.
        tls: for an https address.
        connect_timeout_s: how long connecting may take.
        kept: how many idle connections are kept.
    """

    def __init__(self, address: Address, tls: TlsFiles, connect_timeout_s: float, kept: int) -> None:
        self._address = address
        context = tls.context() if address.tls else None
        self._dialler = Dialler(address.host, address.port, context, connect_timeout_s, self._connection, self.give)
        self._kept = kept
        self._lock = threading.Lock()
        self._idle: deque[Connection] = deque()
        self._closed = False
        self._process = os.getpid()

    def take(self, deadline: Deadline, fresh: bool = False) -> Connection:
        """An idle connection that the endpoint has not closed, or a new one.

        Raises:
            EndpointUnreachable: connecting failed.
            DeadlineExceeded: it was not done in time.
        """
        if self._process != os.getpid():  # after a fork, the other process goes on using these
            self._process, self._idle = os.getpid(), deque()
        while not fresh:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            if connection.raw.is_connected:
                return connection
            connection.close()
        return self._dialler.dial(deadline)

    def give(self, connection: Connection) -> None:
        """Puts back a connection on which everything asked for was received."""
        old = connection
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                if len(self._idle) <= self._kept:
                    return
                old = self._idle.popleft()
        old.close()

    def close(self) -> None:
        """Closes the idle ones now and the others as they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()

    def _connection(self, raw: HTTPConnection) -> Connection:
        return Connection(raw, raw.sock, self._address.tls)
