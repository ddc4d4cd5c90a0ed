"""The endpoint as a process: sockets, TLS, signals and the end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from cloud_offload.listening import address, listening
from cloud_offload.repository import listed
from cloud_offload.settings import ServeSettings
from edge_sdk.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import uvicorn

    from cloud_offload.worker import Siblings

__all__ = ["serve"]

_LOG = logging.getLogger("cloud_offload")


def serve(settings: ServeSettings, siblings: Siblings | None = None) -> None:
    """Serves until SIGTERM or SIGINT; then takes no new request, and ends when those in progress are answered.

    Args:
        settings: of the endpoint.
        siblings: where this is one of several processes, the others; they listen already.

    Raises:
        MissingExtra: the extra `serve` is not installed.
        InputError: the repository, or a file for tokens or TLS, cannot be read.
        StorageError: the address cannot be listened on.
    """
    try:
        import uvicorn

        from cloud_offload.app import Application
        from cloud_offload.direct_body import DirectProtocol
        from cloud_offload.observing import logging_json
    except ImportError as error:
        raise MissingExtra(f'{error.name} is not installed; pip install "edge-sdk[serve]"') from None
    listed(settings.repository)
    application = Application(settings, siblings)
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
    if siblings is not None:
        with logging_json(worker=siblings.worker), _ended_by_sigterm():
            _sibling_server(uvicorn.Server)(config, siblings).run(sockets=[])
    else:
        with listening(settings) as sock, logging_json(), _ended_by_sigterm():
            _announcing(uvicorn.Server)(config, address(sock, settings)).run(sockets=[sock])
    if application.still_computing:
        # Python would wait for these threads without end, and engines cannot be interrupted.
        sys.stderr.flush()
        os._exit(0)


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


def _sibling_server(base: type[uvicorn.Server]) -> type[Any]:
    class SiblingServer(base):  # type: ignore[misc,valid-type]
        """Takes connections in turns with its siblings, and tells the parent when it does."""

        def __init__(self, config: uvicorn.Config, siblings: Siblings) -> None:
            super().__init__(config)
            self._siblings = siblings

        def _protocol(self) -> asyncio.Protocol:
            made: Any = self.config.http_protocol_class
            return cast(
                asyncio.Protocol,
                made(config=self.config, server_state=self.server_state, app_state=self.lifespan.state),
            )

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                held = self.server_state.connections
                self._siblings.turns.begin(self._protocol, self.config.ssl, lambda: len(held))
                await self._siblings.ready()

        async def on_tick(self, counter: int) -> bool:
            self._siblings.turns.count()
            return bool(await super().on_tick(counter))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            self._siblings.turns.close()
            await super().shutdown(sockets)

    return SiblingServer


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
