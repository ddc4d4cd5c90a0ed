"""The parts of a manifest together with the files behind them: names made from content, facts read from the models."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.bundle.arrays import pack_arrays
from edge_sdk.bundle.content import Content, file_chunks
from edge_sdk.bundle.manifest import BundleFile, GoldenFiles, GoldenOutputs, Variant
from edge_sdk.bundle.paths import check_path, shortened
from edge_sdk.bundle.reading import Bundle, Golden
from edge_sdk.bundle.storing import Piece
from edge_sdk.errors import BundleError, ModelNotFound
from edge_sdk.formats import open_model
from edge_sdk.signature import Signature

__all__ = ["ModelSource", "golden_pieces", "kept_golden", "kept_pieces", "variant_pieces"]

ModelSource = str | os.PathLike[str] | bytes


def variant_pieces(variant: Variant, source: ModelSource) -> tuple[Variant, list[Piece]]:
    """The variant with what its file tells, and its files under names made from their content."""
    with open_model(source) as model:
        info = model.describe()
        main = f"model.{model.format}"
        sources: dict[str, ModelSource] = {main: source if model.path is None else model.path}
        if info.external_files and model.path is None:
            raise BundleError(
                f"{variant.name}: its weights lie in {shortened(info.external_files[0])}, which bytes in memory cannot"
                " tell the place of; expected the path of the model file"
            )
        for name in info.external_files:
            assert model.path is not None
            sources[check_path(name, f"{model.name}: external data")] = model.path.parent / name
        described = [_described(inner, content) for inner, content in sources.items()]
        folder = _content_folder(variant.name, described)
        placed = [msgspec.structs.replace(file, path=f"{folder}/{file.path}") for file in described]
        pieces = [Piece(file, _chunks(content)) for file, content in zip(placed, sources.values(), strict=True)]
        filled = msgspec.structs.replace(
            variant,
            format=model.format,
            precision=variant.precision or info.precision,
            file=placed[0].path,
            sha256=placed[0].sha256,
            size_bytes=placed[0].size_bytes,
            external_files=tuple(placed[1:]),
            parameters=info.parameters if variant.parameters is None else variant.parameters,
        )
    return filled, pieces


def kept_pieces(variant: Variant, bundle: Bundle) -> tuple[Variant, list[Piece]]:
    """The variant with the files it has in the bundle, whatever it says of them."""
    try:
        old = bundle.variant(variant.name)
    except ModelNotFound:
        raise BundleError(
            f"{bundle.name}: variant {shortened(variant.name)} is new; expected its model file in files"
        ) from None
    kept = {name: getattr(old, name) for name in ("format", "file", "sha256", "size_bytes", "external_files")}
    pieces = [Piece(file, partial(bundle.content.chunks, file.path)) for file in old.files]
    return msgspec.structs.replace(variant, **kept), pieces


def kept_golden(sample: GoldenFiles, variants: set[str], content: Content) -> tuple[GoldenFiles, list[Piece]]:
    outputs = tuple(output for output in sample.outputs if output.variant in variants)
    files = [sample.inputs, *(output.file for output in outputs)]
    pieces = [Piece(file, partial(content.chunks, file.path)) for file in files]
    return msgspec.structs.replace(sample, outputs=outputs), pieces


def golden_pieces(
    sample: Golden, signature: Signature, variants: set[str], where: Path
) -> tuple[GoldenFiles, list[Piece]]:
    known_inputs = {tensor.name for tensor in signature.inputs}
    known_outputs = {tensor.name for tensor in signature.outputs}
    _check_names(sample.feeds, known_inputs, f"{where}: golden feeds")
    inputs = _arrays_piece(sample.feeds)
    outputs, pieces = [], [inputs]
    for name, answer in sample.answers.items():
        if name not in variants:
            raise BundleError(f"{where}: golden answers name {shortened(name)}, which is none of the variants")
        _check_names(answer.outputs, known_outputs, f"{where}: golden answers of {shortened(name)}")
        piece = _arrays_piece(answer.outputs)
        pieces.append(piece)
        outputs.append(
            GoldenOutputs(
                variant=name, file=piece.file, tolerance=answer.tolerance, engine=answer.engine, isa=answer.isa
            )
        )
    return GoldenFiles(inputs=inputs.file, outputs=tuple(outputs)), pieces


def _check_names(arrays: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in arrays:
        if name not in known:
            choice = ", ".join(sorted(known)) or "nothing"
            raise BundleError(f"{where}: {shortened(name)} is not in the signature; expected {choice}")


def _arrays_piece(arrays: Mapping[str, Any]) -> Piece:
    content = pack_arrays(arrays)
    sha256 = hashlib.sha256(content).hexdigest()
    file = BundleFile(path=f"golden/{sha256[:32]}.npz", sha256=sha256, size_bytes=len(content))
    return Piece(file, _chunks(content))


def _described(path: str, source: ModelSource) -> BundleFile:
    try:
        digest, size = hashlib.sha256(), 0
        for chunk in _chunks(source)():
            digest.update(chunk)
            size += len(chunk)
        return BundleFile(path=path, sha256=digest.hexdigest(), size_bytes=size)
    except OSError as error:
        raise ModelNotFound(f"{source!r}: cannot be read: {error.strerror or error}") from None


def _chunks(source: ModelSource) -> Callable[[], Iterable[bytes]]:
    if isinstance(source, (str, os.PathLike)):
        return partial(file_chunks, Path(source))
    return lambda: (source,)


def _content_folder(name: str, files: Sequence[BundleFile]) -> str:
    """A folder that no other content shares: the variant's name for people, a hash over its files for sure."""
    readable = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip(".-")[:60] or "variant"
    key = hashlib.sha256("\n".join(f"{file.path} {file.sha256}" for file in files).encode()).hexdigest()
    return f"variants/{readable}-{key[:16]}"
