"""The endpoint as a process: sockets, TLS, signals and the end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cloud_offload.repository import listed
from cloud_offload.settings import ServeSettings
from edge_sdk.errors import InputError, MissingExtra, StorageError

if TYPE_CHECKING:
    import uvicorn

__all__ = ["serve"]

_LOG = logging.getLogger("cloud_offload")


def serve(settings: ServeSettings) -> None:
    """Serves until SIGTERM or SIGINT; then takes no new request, and ends when those in progress are answered.

    Raises:
        MissingExtra: the extra `serve` is not installed.
        InputError: the repository, or a file for tokens or TLS, cannot be read.
        StorageError: the address cannot be listened on.
    """
    try:
        import uvicorn

        from cloud_offload.app import Application
        from cloud_offload.direct_body import DirectProtocol
    except ImportError as error:
        raise MissingExtra(f'{error.name} is not installed; pip install "edge-sdk[serve]"') from None
    listed(settings.repository)
    application = Application(settings)
    config = uvicorn.Config(
        application,
        http=DirectProtocol,  # type: ignore[arg-type]  # the loop takes protocols of both kinds
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever asks from this machine could name any other address, and so have no limit.
        proxy_headers=False,
        timeout_graceful_shutdown=max(int(settings.drain_s), 1),
        timeout_keep_alive=75,
        **_tls(settings),
    )
    _check_tls(config)
    with _listening(settings) as sock, _logging(), _ended_by_sigterm():
        host, port = sock.getsockname()[:2]
        url = f"http{'s' if config.is_ssl else ''}://{f'[{host}]' if ':' in host else host}:{port}"
        _announcing(uvicorn.Server)(config, url).run(sockets=[sock])
    if application.still_computing:
        # Python would wait for these threads without end, and engines cannot be interrupted.
        sys.stderr.flush()
        os._exit(0)


@contextmanager
def _logging() -> Iterator[None]:
    """One JSON object a line on stderr while this is entered."""
    from cloud_offload.observing import JsonLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    loggers = (_LOG, logging.getLogger("uvicorn.error"))
    for logger, level in zip(loggers, (logging.INFO, logging.ERROR), strict=True):
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM an ordinary end: uvicorn raises the signal once more when it has drained."""

    def end(number: int, frame: object) -> None:
        raise _Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Ended:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


class _Ended(BaseException):
    pass


def _announcing(base: type[uvicorn.Server]) -> type[Any]:
    class Announcing(base):  # type: ignore[misc,valid-type]
        """Tells in the log when requests are taken, so that whoever started it need not guess."""

        def __init__(self, config: uvicorn.Config, url: str) -> None:
            super().__init__(config)
            self._url = url

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _LOG.info("listening", extra={"fields": {"url": self._url, "pid": os.getpid()}})

    return Announcing


def _listening(settings: ServeSettings) -> socket.socket:
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


def _tls(settings: ServeSettings) -> dict[str, Any]:
    if settings.tls_cert is None:
        if settings.tls_key is not None or settings.client_ca is not None:
            raise InputError("--tls-key and --client-ca need --tls-cert")
        return {}
    told: dict[str, Any] = {"ssl_certfile": str(settings.tls_cert)}
    if settings.tls_key is not None:
        told["ssl_keyfile"] = str(settings.tls_key)
    if settings.client_ca is not None:
        told |= {"ssl_ca_certs": str(settings.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return told


def _check_tls(config: uvicorn.Config) -> None:
    try:
        config.load()
    except OSError as error:
        raise InputError(f"{config.ssl_certfile}: certificates cannot be read: {error.strerror or error}") from None
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
