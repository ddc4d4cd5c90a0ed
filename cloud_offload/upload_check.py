"""Whether an upload is a bundle that may be served: the hash of all, every hash inside, and its golden requests."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cloud_offload.refusals import Refusal
from cloud_offload.upload_files import Upload, no_room
from edge_sdk.errors import EdgeError, EngineNotInstalled, StorageError

__all__ = ["check_upload"]


def check_upload(path: Path, upload: Upload, most_bytes: int) -> None:
    """Checks what came. Takes a while: not for the event loop's thread.

    Args:
        path: where it lies.
        upload: what it should be.
        most_bytes: how far it may expand.

    Raises:
        Refusal: 400 with what is wrong, 507 where there is no room to unpack it.
        OSError: the disk failed.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != upload.sha256:
        raise Refusal(
            400,
            f"upload of {upload.name!r}: what came has the sha256 {found[:12]}…, expected {upload.sha256[:12]}…;"
            " it was damaged on the way or changed meanwhile: send it again",
        )
    try:
        _check_bundle(path, most_bytes)
    except StorageError as error:
        raise no_room(f"it could not be unpacked: {' '.join(str(error.__cause__ or error).split())}") from None
    except EdgeError as error:
        # The client knows its bundle by its own name, and nothing of the folders here.
        told = str(error).replace(str(path), f"{upload.name}.edge").replace(path.name, f"{upload.name}.edge")
        raise Refusal(400, f"upload of {upload.name!r}: {told}") from None


def _check_bundle(path: Path, most_bytes: int) -> None:
    import edge_sdk
    from edge_sdk import bundle

    # What it expands to lies on this disk too.
    limits = bundle.Limits(max_total_bytes=min(bundle.Limits().max_total_bytes, most_bytes))
    missing: EngineNotInstalled | None = None
    ran = 0
    with bundle.open(path, limits=limits) as opened:
        opened.verify()
        for variant in opened.variants:
            try:
                # Damaged files are refused, unknown ones tried in a process of their own, golden requests compared.
                edge_sdk.load(opened, variant=variant.name, plan_budget_s=0).close()
                ran += 1
            except EngineNotInstalled as error:
                missing = error
    if not ran and missing is not None:
        raise missing
