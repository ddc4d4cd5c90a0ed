"""Whether a manifest holds together: names, paths, hashes, and mappings that fit the signature."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from edge_sdk.bundle.manifest import BundleFile, Cascade, Cut, Manifest, Variant
from edge_sdk.bundle.paths import check_distinct, check_path, shortened
from edge_sdk.errors import InvalidManifest
from edge_sdk.signature import LogicalTensor, TensorMapping

__all__ = ["MANIFEST", "check_consistency", "check_sha256"]

MANIFEST = "manifest.json"
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_NAME = 200


def check_consistency(manifest: Manifest, where: str) -> None:
    """Checks what types alone do not say.

    Raises:
        InvalidManifest: a contradiction; the message names the key.
        UnsafePath: a path leads out of the bundle, or two paths collide.
    """
    check_sha256(manifest.digest, f"{where}: digest")
    if manifest.parent_digest is not None:
        check_sha256(manifest.parent_digest, f"{where}: parent_digest")
    _check_name(manifest.name, f"{where}: name")
    if manifest.release < 1:
        raise InvalidManifest(f"{where}: release is {manifest.release}; expected 1 or more")
    if not manifest.variants:
        raise InvalidManifest(f"{where}: variants is empty; expected at least one")
    _check_unique((v.name for v in manifest.variants), f"{where}: variants")
    _check_unique((t.name for t in manifest.signature.inputs), f"{where}: signature.inputs")
    _check_unique((t.name for t in manifest.signature.outputs), f"{where}: signature.outputs")
    _check_unique((f"{c.variant}/{c.id}" for c in manifest.cuts), f"{where}: cuts")
    _check_files(manifest, where)
    for index, variant in enumerate(manifest.variants):
        _check_variant(variant, manifest, f"{where}: variants[{index}]")
    names = {variant.name for variant in manifest.variants}
    for index, cut in enumerate(manifest.cuts):
        _check_known(cut.variant, names, f"{where}: cuts[{index}].variant")
        _check_cut(cut, f"{where}: cuts[{index}]")
    outputs = {tensor.name for tensor in manifest.signature.outputs}
    for index, cascade in enumerate(manifest.cascades):
        place = f"{where}: cascades[{index}]"
        _check_known(cascade.small, names, f"{place}.small")
        _check_known(cascade.big, names, f"{place}.big")
        _check_known(cascade.output, outputs, f"{place}.output")
        _check_cascade(cascade, place)
    for index, sample in enumerate(manifest.golden):
        for output in sample.outputs:
            _check_known(output.variant, names, f"{where}: golden[{index}].outputs")
            if not (output.tolerance >= 0 and math.isfinite(output.tolerance)):
                raise InvalidManifest(
                    f"{where}: golden[{index}].outputs: tolerance is {output.tolerance}; expected 0 or more"
                )


def check_sha256(text: str, where: str) -> None:
    """Raises `InvalidManifest` where `text` is no hash."""
    if not _SHA256.fullmatch(text):
        raise InvalidManifest(f"{where} is {shortened(text)}; expected 64 hexadecimal digits in lower case")


def _check_files(manifest: Manifest, where: str) -> None:
    known: dict[str, BundleFile] = {}
    for place, file in _places(manifest):
        check_path(file.path, f"{where}: {place}")
        check_sha256(file.sha256, f"{where}: {place}: sha256")
        if file.size_bytes < 0:
            raise InvalidManifest(f"{where}: {place}: size_bytes is {file.size_bytes}; expected 0 or more")
        other = known.setdefault(file.path, file)
        if (other.sha256, other.size_bytes) != (file.sha256, file.size_bytes):
            raise InvalidManifest(f"{where}: {place}: {shortened(file.path)} is listed twice with different hashes")
    check_distinct([MANIFEST, *known], where)


def _places(manifest: Manifest) -> Iterable[tuple[str, BundleFile]]:
    for index, variant in enumerate(manifest.variants):
        yield from ((f"variants[{index}]", file) for file in variant.files)
    for index, sample in enumerate(manifest.golden):
        yield f"golden[{index}].inputs", sample.inputs
        yield from ((f"golden[{index}].outputs", output.file) for output in sample.outputs)


def _check_variant(variant: Variant, manifest: Manifest, where: str) -> None:
    _check_name(variant.name, f"{where}.name")
    folder = variant.file.rpartition("/")[0]
    for file in variant.external_files:
        if folder and not file.path.startswith(f"{folder}/"):
            raise InvalidManifest(
                f"{where}.external_files: {shortened(file.path)} does not lie in the folder of"
                f" {shortened(variant.file)}; expected it there, since the model refers to it from its own folder"
            )
    for key, count in (("macs", variant.macs), ("parameters", variant.parameters)):
        if count is not None and count < 0:
            raise InvalidManifest(f"{where}.{key} is {count}; expected 0 or more")
    _check_mapping(variant.mapping.inputs, manifest.signature.inputs, f"{where}.mapping.inputs")
    _check_mapping(variant.mapping.outputs, manifest.signature.outputs, f"{where}.mapping.outputs")


def _check_cut(cut: Cut, where: str) -> None:
    if not cut.tensors:
        raise InvalidManifest(f"{where}.tensors is empty; expected what travels")
    for key in ("wire_bytes", "head_ops", "tail_ops", "head_macs", "tail_macs"):
        if (count := getattr(cut, key)) is not None and count < 0:
            raise InvalidManifest(f"{where}.{key} is {count}; expected 0 or more")

    if cut.leakage is not None and not 0 <= cut.leakage <= 1:
        raise InvalidManifest(f"{where}.leakage is {cut.leakage}; expected a share from 0 to 1")
    for index, way in enumerate(cut.codecs):
        if not (way.wire_bytes >= 0 and math.isfinite(way.wire_bytes)):
            raise InvalidManifest(f"{where}.codecs[{index}].wire_bytes is {way.wire_bytes}; expected 0 or more")


def _check_cascade(cascade: Cascade, where: str) -> None:
    if (cascade.small == cascade.big) != bool(cascade.exit):
        raise InvalidManifest(
            f"{where}: small is {shortened(cascade.small)} and big {shortened(cascade.big)}; expected two variants, or"
            " one with its exit"
        )
    if not math.isfinite(cascade.threshold):
        raise InvalidManifest(f"{where}.threshold is {cascade.threshold}; expected a finite number")
    for key in ("accuracy", "small_accuracy", "big_accuracy", "escalated_share", "risk", "max_drop"):
        if not 0 <= (share := getattr(cascade, key)) <= 1:
            raise InvalidManifest(f"{where}.{key} is {share}; expected a share from 0 to 1")


def _check_mapping(mapped: Sequence[TensorMapping], logical: Sequence[LogicalTensor], where: str) -> None:
    _check_unique((m.name for m in mapped), where)
    tensors = {tensor.name: tensor for tensor in logical}
    for mapping in mapped:
        _check_known(mapping.name, set(tensors), where)
        shape, axes = tensors[mapping.name].shape, mapping.transpose
        if axes is not None and sorted(axes) != list(range(len(axes if shape is None else shape))):
            raise InvalidManifest(
                f"{where}: transpose of {shortened(mapping.name)} is {list(axes)};"
                f" expected each axis of {'the tensor' if shape is None else list(shape)} once"
            )
        if mapping.shape is not None and (min(mapping.shape, default=0) < -1 or mapping.shape.count(-1) > 1):
            raise InvalidManifest(
                f"{where}: shape of {shortened(mapping.name)} is {list(mapping.shape)}; expected sizes, -1 at most once"
            )
        if mapping.scale is not None and not (mapping.scale > 0 and math.isfinite(mapping.scale)):
            raise InvalidManifest(
                f"{where}: scale of {shortened(mapping.name)} is {mapping.scale}; expected more than 0"
            )


def _check_name(name: str, where: str) -> None:
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidManifest(f"{where} is {shortened(name)}; expected 1 to {_MAX_NAME} printable characters")


def _check_unique(names: Iterable[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidManifest(f"{where}: {shortened(name)} occurs twice; expected each name once")
        seen.add(name)


def _check_known(name: str, known: set[str], where: str) -> None:
    if name not in known:
        choice = ", ".join(shortened(k) for k in sorted(known)[:10]) or "nothing"
        raise InvalidManifest(f"{where}: {shortened(name)} is not known; expected one of {choice}")
