"""A bundle sent to an endpoint, once, so that its tails can be made there."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from edge_sdk.bundle import Bundle
from edge_sdk.errors import BundleError, EndpointRefused
from edge_sdk.wire.blobs import Blob, Progress, send_blob
from edge_sdk.wire.endpoint import BUNDLE
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.metadata import read_metadata

__all__ = ["Uploaded", "upload"]

ASK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an upload did.

    Attributes:
        name: of the model at the endpoint.
        digest: of the bundle.
        already_there: whether the endpoint had it, so that nothing was sent.
        size_bytes: of the bundle as one file; 0 where that was not needed.
        sent_bytes: that travelled now.
        resumed_bytes: that had travelled at an earlier, interrupted time.
    """

    name: str
    digest: str
    already_there: bool
    size_bytes: int = 0
    sent_bytes: int = 0
    resumed_bytes: int = 0


def upload(
    source: Bundle | str | os.PathLike[str],
    endpoint: HttpEndpoint,
    *,
    name: str | None = None,
    replace: bool = False,
    patience_s: float = 30.0,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Uploaded:
    """Sends a bundle to an endpoint that does not have it, and waits until it is served there.

    An interrupted upload goes on at the byte where it stopped, whoever was interrupted: this process, the link, or the
    endpoint. A folder travels as the one file that it would be as an archive.

    Args:
        source: the bundle, or its path.
        endpoint: where to; it must have been told to take uploads (`edge-sdk serve --upload-mb`).
        name: of the model there; that of the bundle's file without suffix where None.
        replace: whether it may take the place of a bundle of that name with other content.
        patience_s: how long to go on trying while nothing arrives there.
        progress: told how many bytes are there, and of how many.
        stop: once set, ends it after the piece that is on its way; a later call goes on.

    Raises:
        BundleError, ModelNotFound: the bundle cannot be read.
        EndpointRefused: the endpoint takes no uploads, has no room, has another model of that name, or found the bundle
            wrong.
        EndpointError, DeadlineExceeded: as the last try ended.
    """
    with _opened(source) as bundle:
        where = name or Path(bundle.name).stem
        if _is_there(endpoint, where, bundle.digest):
            return Uploaded(where, bundle.digest, already_there=True)
        with _as_one_file(bundle) as path, Blob(path) as blob:
            sent = send_blob(
                endpoint,
                f"/v2/repository/models/{quote(where, safe='')}/uploads",
                blob,
                query="replace=true" if replace else "",
                patience_s=patience_s,
                progress=progress,
                stop=stop,
            )
            return Uploaded(
                where, bundle.digest, sent.resumed_bytes == blob.size_bytes and not sent.sent_bytes, blob.size_bytes,
                sent.sent_bytes, sent.resumed_bytes,
            )  # fmt: skip


@contextmanager
def _opened(source: Bundle | str | os.PathLike[str]) -> Iterator[Bundle]:
    from edge_sdk import bundle

    if isinstance(source, Bundle):
        yield source
        return
    with bundle.open(source) as opened:
        yield opened


def _is_there(endpoint: HttpEndpoint, name: str, digest: str) -> bool:
    # Not as inference asks: that an endpoint is too slow for that just now says nothing about uploads.
    where = f"{endpoint.name}: model {name!r}"
    try:
        reply = endpoint.call("GET", f"/v2/models/{quote(name, safe='')}", {}, (), ASK_TIMEOUT_S, where)
    except EndpointRefused as error:
        if error.status == 404:
            return False
        raise
    return read_metadata(reply.body, where).parameters.get(BUNDLE) == digest


@contextmanager
def _as_one_file(bundle: Bundle) -> Iterator[Path]:
    """The archive itself, or one made of the folder: byte for byte the same each time, so that it can be resumed."""
    from edge_sdk.bundle import copy

    if bundle.path is None:
        raise BundleError(f"{bundle.name}: is in memory only; write it to a file to upload it")
    if bundle.path.is_file():
        yield bundle.path
        return
    with tempfile.TemporaryDirectory(prefix="edge-sdk-upload-") as folder:
        path = Path(folder, bundle.path.name)
        copy(bundle, path, as_zip=True).close()
        yield path
