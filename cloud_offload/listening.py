"""The socket that an endpoint listens on, and its address."""

from __future__ import annotations

import socket

from cloud_offload.settings import ServeSettings
from edge_sdk.errors import StorageError

__all__ = ["address", "listening"]


def listening(settings: ServeSettings) -> socket.socket:
    """A socket that listens where `settings` say.

    Raises:
        StorageError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
        sock.setblocking(False)
        sock.set_inheritable(True)
        sock.listen(1024)
    except (OSError, OverflowError) as error:
        sock.close()
        raise StorageError(f"{settings.host}:{settings.port}: cannot be listened on: {error}") from None
    return sock


def address(sock: socket.socket, settings: ServeSettings) -> str:
    """Where clients reach `sock`, as a URL."""
    host, port = sock.getsockname()[:2]
    return f"http{'' if settings.tls_cert is None else 's'}://{f'[{host}]' if ':' in host else host}:{port}"
