"""`create`, `update` and `copy`: from a manifest's parts and files to a bundle on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.bundle.archive import ArchiveContent
from edge_sdk.bundle.consistency import MANIFEST
from edge_sdk.bundle.content import Content, FolderContent
from edge_sdk.bundle.limits import Limits
from edge_sdk.bundle.manifest import FORMAT_MAJOR, FORMAT_MINOR, Cascade, Cut, Format, Manifest, Variant
from edge_sdk.bundle.manifest_json import encode_manifest
from edge_sdk.bundle.paths import shortened
from edge_sdk.bundle.pieces import ModelSource, golden_pieces, kept_golden, kept_pieces, variant_pieces
from edge_sdk.bundle.reading import Bundle, Golden, open_bundle
from edge_sdk.bundle.storing import CONTENT_FOLDERS, Piece, store_archive, store_folder, sweep
from edge_sdk.errors import BundleError, EdgeError
from edge_sdk.signature import Signature
from edge_sdk.storage import Files

__all__ = ["copy", "create", "update"]

_FILES = Files()


def create(
    path: str | os.PathLike[str],
    *,
    name: str,
    signature: Signature,
    variants: Sequence[Variant],
    files: Mapping[str, ModelSource],
    golden: Sequence[Golden] = (),
    cuts: Sequence[Cut] = (),
    cascades: Sequence[Cascade] = (),
    recipe: Mapping[str, str] | None = None,
    update_plan: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    release: int | None = None,
    as_zip: bool | None = None,
    storage: Files = _FILES,
) -> Bundle:
    """Writes a bundle, over an older one where there is one at `path`; stopped at any moment, it leaves the old or new.

    Args:
        path: where; NAME.edge by custom.
        name: what people call the model.
        signature: what all variants answer to.
        variants: with their figures; what the model file tells is filled in.
        files: by name of the variant its model file. External weights beside an ONNX file come along.
        golden: requests with known answers.
        cuts, cascades, recipe, update_plan, extra: see `Manifest`.
        release: 1, or one more than that of the bundle at `path`, where None.
        as_zip: one zip archive rather than a folder; as the bundle at `path` is, otherwise a folder, where None.
        storage: the file operations to use.

    Returns:
        The new bundle, open.

    Raises:
        StorageError: it could not be written; what was there still stands.
        BundleError: something else is at `path`; `release` does not rise; parts contradict each other
            (`InvalidManifest`, `UnsafePath`).
        ModelError: a model file cannot be read.
    """
    target = Path(os.fspath(path))
    before = _standing(target)
    if release is None:
        release = before.release + 1
    elif release <= before.release:
        raise BundleError(
            f"{target}: release is {release}; expected more than {before.release}, which is there already"
        )
    parts = [variant_pieces(v, _source_of(v, files, target)) for v in variants]
    _refuse_unused(files, {v.name for v in variants}, target)
    golden_parts = [golden_pieces(sample, signature, {v.name for v in variants}, target) for sample in golden]
    manifest = Manifest(
        format=Format(major=FORMAT_MAJOR, minor=FORMAT_MINOR),
        digest="",
        name=name,
        release=release,
        parent_digest=before.digest,
        signature=signature,
        variants=tuple(variant for variant, _ in parts),
        cuts=tuple(cuts),
        cascades=tuple(cascades),
        golden=tuple(sample for sample, _ in golden_parts),
        recipe=dict(recipe or {}),
        update_plan=dict(update_plan or {}),
        extra=dict(extra or {}),
    )
    pieces = _distinct(piece for _, some in (*parts, *golden_parts) for piece in some)
    _store(target, manifest, pieces, before, as_zip, storage)
    return open_bundle(target)


def update(
    bundle: Bundle | str | os.PathLike[str],
    *,
    variants: Sequence[Variant] | None = None,
    files: Mapping[str, ModelSource] | None = None,
    golden: Sequence[Golden] | None = None,
    storage: Files = _FILES,
    **changes: Any,
) -> Bundle:
    """Writes the next release of a bundle in its place: `release` rises by one, `parent_digest` names the one before.

    Args:
        bundle: the bundle, or its path. A bundle that was opened earlier must still be the one on disk.
        variants: all variants of the new release; those without an entry in `files` keep their files. None: as they
            are.
        files: model files of variants that are new or replaced.
        golden: replaces all golden requests. None: they stay, without answers of variants that are gone or replaced.
        storage: the file operations to use.
        changes: other fields of the `Manifest`: `name`, `signature`, `cuts`, `cascades`, `recipe`,
            `update_plan`, `extra`.

    Returns:
        The new bundle, open. `bundle` stays as it is and usable until it is closed.

    Raises:
        StorageError: it could not be written; the old bundle stands.
        BundleError: another writer was faster, or the parts contradict each other.
        ModelError: a model file cannot be read.
        TypeError: a field of `changes` is none that can be changed.
    """
    unknown = changes.keys() - {"name", "signature", "cuts", "cascades", "recipe", "update_plan", "extra"}
    if unknown:
        raise TypeError(f"update() got an unexpected keyword argument {sorted(unknown)[0]!r}")
    if isinstance(bundle, Bundle):
        return open_bundle(_updated(bundle, variants, files or {}, golden, changes, storage))
    with open_bundle(bundle) as opened:
        path = _updated(opened, variants, files or {}, golden, changes, storage)
    sweep(path)  # what was held open by this call itself could not go before
    return open_bundle(path)


def copy(
    bundle: Bundle, path: str | os.PathLike[str], *, as_zip: bool | None = None, storage: Files = _FILES
) -> Bundle:
    """Writes the same bundle, digest and all, to another place: a folder as one archive, or the other way round.

    Args:
        bundle: the bundle.
        path: where; nothing may be there yet.
        as_zip: one zip archive rather than a folder; as `bundle` is where None.
        storage: the file operations to use.

    Raises:
        StorageError: it could not be written.
        BundleError: something is at `path` already, or a file is not the one that was written.
    """
    target = Path(os.fspath(path))
    before = _standing(target)
    if before.digest is not None:
        raise BundleError(f"{target}: is there already; expected a new place")
    if as_zip is None:
        as_zip = isinstance(bundle.content, ArchiveContent)
    pieces = [Piece(file, partial(bundle.content.chunks, file.path)) for file in bundle.manifest.files]
    content = bundle.content.manifest_bytes()
    (store_archive if as_zip else store_folder)(target, pieces, content, lambda: None, storage)
    return open_bundle(target)


def _updated(
    bundle: Bundle,
    variants: Sequence[Variant] | None,
    files: Mapping[str, ModelSource],
    golden: Sequence[Golden] | None,
    changes: dict[str, Any],
    storage: Files,
) -> Path:
    """Writes the next release and returns where; arguments as of `update`."""
    if bundle.path is None:
        raise BundleError(f"{bundle.name}: lies in memory and has no place to be written to; use create with a path")
    old = bundle.manifest
    wanted = old.variants if variants is None else tuple(variants)
    names = {variant.name for variant in wanted}
    _refuse_unused(files, names, bundle.path)
    parts = [
        variant_pieces(v, files[v.name]) if v.name in files else kept_pieces(v, bundle) for v in wanted
    ]  # fmt: skip
    signature = changes.get("signature", old.signature)
    if golden is None:
        same = {v.name for v in old.variants} & names - files.keys()
        golden_parts = [kept_golden(sample, same, bundle.content) for sample in old.golden]
    else:
        golden_parts = [golden_pieces(sample, signature, names, bundle.path) for sample in golden]
    if "cuts" not in changes:
        changes["cuts"] = tuple(cut for cut in old.cuts if cut.variant in names - files.keys())
    if "cascades" not in changes:
        same = names - files.keys()
        changes["cascades"] = tuple(c for c in old.cascades if {c.small, c.big} <= same)
    manifest = msgspec.structs.replace(
        old,
        format=Format(major=FORMAT_MAJOR, minor=FORMAT_MINOR, extra=old.format.extra),
        release=old.release + 1,
        parent_digest=old.digest,
        variants=tuple(variant for variant, _ in parts),
        golden=tuple(sample for sample, _ in golden_parts),
        **changes,
    )
    pieces = _distinct(piece for _, some in (*parts, *golden_parts) for piece in some)
    standing = _Standing(old.release, old.digest, isinstance(bundle.content, ArchiveContent))
    _store(bundle.path, manifest, pieces, standing, None, storage)
    return bundle.path


def _distinct(pieces: Iterable[Piece]) -> list[Piece]:
    """Each file once: golden answers that are alike share one."""
    return list({piece.file.path: piece for piece in pieces}.values())


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is at a path before writing: release 0 and no digest where there is no bundle yet."""

    release: int
    digest: str | None
    is_archive: bool | None


def _standing(path: Path) -> _Standing:
    """Reads no more than is needed to write over it: also a damaged bundle may be replaced.

    Raises:
        BundleError: what is there is no bundle.
    """
    content: Content
    if path.is_dir():
        foreign = sorted(p.name for p in path.iterdir() if p.name not in CONTENT_FOLDERS and not _is_ours(p.name))
        if not (path / MANIFEST).is_file():
            if foreign:
                raise BundleError(
                    f"{path}: is a folder that holds {shortened(foreign[0])} and no bundle; expected a new path"
                )
            return _Standing(0, None, False)
        content = FolderContent(path)
    elif path.exists():
        if not path.is_file() or not _begins_as_archive(path):
            raise BundleError(f"{path}: is there and is no bundle; expected a new path")
        try:
            content = ArchiveContent(path, Limits(), str(path))
        except BundleError:
            return _Standing(0, None, True)
    else:
        return _Standing(0, None, None)
    try:
        raw = msgspec.json.decode(content.manifest_bytes())
        release, digest = raw["release"], raw["digest"]
        if type(release) is int and release > 0 and re.fullmatch("[0-9a-f]{64}", digest):
            return _Standing(release, digest, isinstance(content, ArchiveContent))
    except (EdgeError, msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError):
        pass
    finally:
        content.close()
    return _Standing(0, None, isinstance(content, ArchiveContent))


def _begins_as_archive(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}; expected a new path") from None


def _is_ours(name: str) -> bool:
    return name == MANIFEST or (name.startswith(f".{MANIFEST}.") and name.endswith(".part"))


def _store(
    path: Path, manifest: Manifest, pieces: Sequence[Piece], before: _Standing, as_zip: bool | None, storage: Files
) -> None:
    if before.is_archive is not None and as_zip not in (None, before.is_archive):
        kind = "an archive" if before.is_archive else "a folder"
        raise BundleError(f"{path}: is {kind} already; write it as one too, or elsewhere")
    manifest, content = encode_manifest(manifest, f"{path}: {MANIFEST}")
    as_zip = bool(before.is_archive if as_zip is None else as_zip)

    def is_current() -> None:
        if _standing(path).digest != before.digest:
            raise BundleError(f"{path}: another writer changed it meanwhile; open it again and repeat the change")

    (store_archive if as_zip else store_folder)(path, pieces, content, is_current, storage)


def _source_of(variant: Variant, files: Mapping[str, ModelSource], where: Path) -> ModelSource:
    if variant.name not in files:
        raise BundleError(f"{where}: variant {shortened(variant.name)} has no model file; expected one in files")
    return files[variant.name]


def _refuse_unused(files: Mapping[str, ModelSource], names: set[str], where: Path) -> None:
    for name in files:
        if name not in names:
            raise BundleError(f"{where}: files names {shortened(name)}, which is none of the variants")
