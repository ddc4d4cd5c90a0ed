"""`manifest.json` to `Manifest` and back: which formats are read, which keys are refused, and the digest.

A manifest of a newer major format is refused before anything else is looked at. Of a newer minor one unknown keys are
ignored with a `BundleWarning`, unless `requires` lists what is not known here. Keys that begin with `x-` are free.
"""

from __future__ import annotations

import functools
import hashlib
import json
import typing
import warnings
from collections.abc import Iterator
from typing import Any

import msgspec

from edge_sdk.bundle.consistency import check_consistency
from edge_sdk.bundle.manifest import FORMAT_MAJOR, FORMAT_MINOR, KNOWN_FEATURES, Manifest
from edge_sdk.bundle.paths import shortened
from edge_sdk.errors import BundleDamaged, InvalidManifest, UnknownFeature, UnsupportedBundle

__all__ = ["MAX_MANIFEST_BYTES", "BundleWarning", "decode_manifest", "encode_manifest"]

MAX_MANIFEST_BYTES = 8 * 2**20
_MAX_DEPTH = 32
_NO_DIGEST = "0" * 64
_FREE = "x-"


class BundleWarning(UserWarning):
    """A bundle was made by a newer version: what is not known here is ignored; the message names it."""


def decode_manifest(content: bytes, where: str) -> Manifest:
    """Reads a manifest.

    Args:
        content: of `manifest.json`.
        where: what messages call it.

    Raises:
        UnsupportedBundle: it is of a newer major format.
        InvalidManifest: it is no JSON, holds an unknown key or a value of the wrong type, or contradicts itself.
        UnknownFeature: it requires a feature that is not known here.
        UnsafePath: it names a file outside the bundle.
        BundleDamaged: it was changed after it was written.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise InvalidManifest(
            f"{where}: has {len(content)} bytes; expected at most {MAX_MANIFEST_BYTES}; leave long tables out of it"
        )
    raw = _parsed(content, where)
    minor = _checked_format(raw, where)
    _check_requires(raw.get("requires"), where)
    unknown: list[str] = []
    _lift(raw, Manifest, "", unknown)
    if unknown and minor <= FORMAT_MINOR:
        raise InvalidManifest(
            f"{where}: key {shortened(unknown[0])} is none of format {FORMAT_MAJOR}.{minor};"
            f" correct it, or begin its name with {_FREE!r} if it is your own"
        )
    manifest = _converted(raw, where)
    check_consistency(manifest, where)
    if _digest_of(content, manifest.digest) != manifest.digest:
        raise BundleDamaged(
            f"{where}: was changed after it was written (its digest differs); expected the manifest as it was written;"
            " fetch the bundle again, or change it with edge_sdk.bundle.update"
        )
    if unknown:
        warnings.warn(
            f"{where}: is of format {FORMAT_MAJOR}.{minor}, newer than {FORMAT_MAJOR}.{FORMAT_MINOR} which is known"
            f" here; ignored: {', '.join(shortened(key) for key in unknown[:10])}{', …' * (len(unknown) > 10)}",
            BundleWarning,
            stacklevel=3,
        )
    return manifest


def encode_manifest(manifest: Manifest, where: str) -> tuple[Manifest, bytes]:
    """Writes a manifest with its digest, whatever digest it had, and reads it back to be sure.

    Returns:
        The manifest with its digest, and the bytes of `manifest.json`.

    Raises:
        InvalidManifest: it contradicts itself, or holds what JSON has no form for.
        UnsafePath: it names a file outside the bundle.
    """
    bare = msgspec.structs.replace(manifest, digest=_NO_DIGEST)
    try:
        raw = _lowered(msgspec.to_builtins(bare), Manifest)
        # The standard library's encoder refuses NaN and infinity, which msgspec would write as null.
        content = json.dumps(raw, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidManifest(f"{where}: holds what JSON has no form for: {error}") from None
    digest = hashlib.sha256(content).hexdigest()
    # `format` and `digest` stand first, so the first 64 zeros are the digest's place.
    content = content.replace(_NO_DIGEST.encode(), digest.encode(), 1)
    return decode_manifest(content, where), content


def _digest_of(content: bytes, digest: str) -> str:
    return hashlib.sha256(content.replace(digest.encode(), _NO_DIGEST.encode(), 1)).hexdigest()


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    try:
        raw = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidManifest(f"{where}: is no JSON: {error}; fetch the bundle again") from None
    except RecursionError:
        raw = None
        deep = True
    else:
        deep = _deeper_than(raw, _MAX_DEPTH)
    if deep:
        raise InvalidManifest(f"{where}: is nested deeper than {_MAX_DEPTH} levels; expected a flat manifest")
    if not isinstance(raw, dict):
        raise InvalidManifest(f"{where}: expected a JSON object; fetch the bundle again")
    return raw


def _deeper_than(raw: Any, levels: int) -> bool:
    layer = [raw]
    for _ in range(levels):
        inner: list[Any] = []
        for value in layer:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        layer = inner
        if not layer:
            return False
    return True


def _checked_format(raw: dict[str, Any], where: str) -> int:
    """Minor version of a manifest whose major is known here."""
    version = raw.get("format")
    numbers: list[Any] = [version.get("major"), version.get("minor")] if isinstance(version, dict) else []
    if not numbers or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise InvalidManifest(
            f'{where}: has no format version; expected "format": {{"major": {FORMAT_MAJOR}, "minor": {FORMAT_MINOR}}}'
        )
    major, minor = numbers
    if major > FORMAT_MAJOR:
        raise UnsupportedBundle(
            f"{where}: is of bundle format {major}.{minor}; this version of edge-sdk reads {FORMAT_MAJOR}.x;"
            " update edge-sdk, or build the bundle with an older one"
        )
    if major < FORMAT_MAJOR:
        raise UnsupportedBundle(
            f"{where}: is of bundle format {major}.{minor}, which never was; expected {FORMAT_MAJOR}.x"
        )
    return int(minor)


def _check_requires(requires: Any, where: str) -> None:
    """Before the other keys are looked at: a feature may change what they mean."""
    if not isinstance(requires, list):
        return
    unknown = [feature for feature in requires if isinstance(feature, str) and feature not in KNOWN_FEATURES]
    if unknown:
        known = ", ".join(sorted(KNOWN_FEATURES)) or "none"
        raise UnknownFeature(
            f"{where}: requires {', '.join(shortened(f) for f in unknown[:5])}, which this version of edge-sdk does not"
            f" know (known: {known}); update edge-sdk",
            unknown,
        )


def _converted(raw: dict[str, Any], where: str) -> Manifest:
    try:
        return msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        # "Expected `str`, got `int` - at `$.variants[0].name`"
        problem, _, place = str(error).partition(" - at `$")
        key = place.rstrip("`").lstrip(".") or "the whole"
        raise InvalidManifest(
            f"{where}: {key}: {problem.replace('`', '')}; correct it or fetch the bundle again"
        ) from None


def _lift(raw: Any, kind: Any, path: str, unknown: list[str]) -> None:
    """Moves the `x-…` keys of each object into its `extra`, and takes keys out that its struct does not have."""
    for struct, value, place in _objects(raw, kind, path):
        fields = _fields(struct)
        free = {key: value.pop(key) for key in list(value) if key.startswith(_FREE)}
        for key in [key for key in value if key not in fields]:
            unknown.append(f"{place}.{key}".lstrip("."))
            del value[key]
        if free:
            value["extra"] = free
        for key, inner in fields.items():
            if key in value:
                _lift(value[key], inner, f"{place}.{key}".lstrip("."), unknown)


def _lowered(raw: Any, kind: Any) -> Any:
    """The way back: `extra` of each object among its other keys."""
    for struct, value, _ in _objects(raw, kind, ""):
        for key, inner in _fields(struct).items():
            if key in value:
                _lowered(value[key], inner)
        for key, free in value.pop("extra", {}).items():
            if not key.startswith(_FREE):
                raise ValueError(f"extra key {shortened(key)} does not begin with {_FREE!r}")
            value[key] = free
    return raw


@functools.cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The keys that a struct has in JSON, and their types; `extra` is none of them."""
    return {field.name: field.type for field in msgspec.structs.fields(struct) if field.name != "extra"}


def _objects(raw: Any, kind: Any, path: str) -> Iterator[tuple[type[msgspec.Struct], dict[str, Any], str]]:
    """The objects at one place that `kind` (a struct, or a tuple of one kind) describes, each with its path."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if isinstance(raw, dict):
            yield kind, raw, path
    elif typing.get_origin(kind) is tuple and isinstance(raw, (list, tuple)):
        for index, item in enumerate(raw):
            yield from _objects(item, typing.get_args(kind)[0], f"{path}[{index}]")
