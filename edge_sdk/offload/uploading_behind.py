"""Uploads beside a session: its bundle travels to endpoints that do not have it, while everything runs here."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence

from edge_sdk.bundle import Bundle, is_bundle
from edge_sdk.errors import EdgeError, EndpointError, EndpointRefused, InputError
from edge_sdk.offload.uploading import upload
from edge_sdk.wire.endpoint import Endpoint
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.retry import BUSY, Retry

__all__ = ["UploadsBehind"]

_log = logging.getLogger(__name__)
_NO_ROOM = 507
LATER = Retry(first_pause_s=60.0, longest_pause_s=600.0)
"""Between tries of an endpoint that is away or full."""


class UploadsBehind:
    """Sends one bundle to some endpoints, one after the other, in a thread of its own. Made, then started.

    Args:
        source: path of the bundle, or the open bundle, whose path counts.
        endpoints: where to; those that are not reached over HTTP are left out.
        name: of the model there; that of the bundle's file without suffix where None.
        tell: takes one line for each endpoint, once it has the bundle or has refused it.
        later: pauses between tries.
        patience_s: how long one try goes on while nothing arrives.

    Raises:
        InputError: it is no bundle on a disk.
    """

    def __init__(
        self,
        source: object,
        endpoints: Sequence[Endpoint],
        name: str | None,
        tell: Callable[[str], None],
        later: Retry = LATER,
        patience_s: float = 30.0,
    ) -> None:
        path = source.path if isinstance(source, Bundle) else source
        if not isinstance(path, str | os.PathLike) or not is_bundle(path):
            raise InputError("upload sends bundles: expected the path of one, NAME.edge; make it with edge-sdk build")
        self._path = os.fspath(path)
        self._endpoints = [endpoint for endpoint in endpoints if isinstance(endpoint, HttpEndpoint)]
        self._name, self._tell = name, tell
        self._later, self._patience_s = later, patience_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-sdk-upload", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it after the piece that is on its way; another time goes on from there. Idempotent."""
        self._stop.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for the end; returns whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        left, attempt = self._endpoints, 0
        while left and not self._stop.is_set():
            left = [endpoint for endpoint in left if not self._sent(endpoint)]
            if left and self._stop.wait(self._later.pause_s(attempt)):
                return
            attempt += 1

    def _sent(self, endpoint: HttpEndpoint) -> bool:
        """Whether there is nothing left to do for this endpoint."""
        try:
            done = upload(self._path, endpoint, name=self._name, patience_s=self._patience_s, stop=self._stop)
        except Exception as error:  # noqa: BLE001
            if not isinstance(error, EdgeError):
                # A thread that just ends tells nobody.
                _log.exception("upload to %s failed", endpoint.name)
            if self._stop.is_set():
                return True
            told = f"not uploaded to {endpoint.name}: {error}"
            away = isinstance(error, EndpointError | TimeoutError) and not isinstance(error, EndpointRefused)
            if away or (isinstance(error, EndpointRefused) and error.status in BUSY | {_NO_ROOM}):
                _log.info("%s; tried again later", told)
                return False
        else:
            told = f"{'there already' if done.already_there else 'uploaded'}: {done.name!r} at {endpoint.name}"
        _log.info("%s", told)
        self._tell(told)
        return True
