"""Bundles for the tests of this room: two variants of one small network, golden requests, and ways to alter them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk import bundle
from edge_sdk.bundle import Accuracy, Answer, Bundle, Cascade, Golden, Variant
from edge_sdk.signature import LogicalTensor, Signature
from tests import models

SIGNATURE = Signature(
    inputs=(LogicalTensor(name="x", dtype="float32", shape=("batch", 8)),),
    outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),),
    labels=("no", "on", "12:30", "é"),
    preprocessing={"layout": "NCHW"},
)
SMALL, LARGE = models.onnx_mlp(8, 4, 4), models.onnx_mlp(8, 64, 4)

CASCADE = Cascade(
    small="small", big="large", output="y", score="margin", form="logits", threshold=0.4, metric="top-1", max_drop=0.01,
    risk=0.05, accuracy=0.9, small_accuracy=0.8, big_accuracy=0.905, escalated_share=0.2, samples=500, held_out=480,
)  # fmt: skip


def variants(*names: str) -> tuple[Variant, ...]:
    """Variants with one figure each."""
    return tuple(
        Variant(name=name, accuracy=(Accuracy(metric="top-1", value=0.9, data="digits", samples=100),))
        for name in names
    )


def golden(*names: str, value: float = 1.0) -> Golden:
    """A request to which each of the variants answered `value`."""
    answer = Answer({"y": np.full((1, 4), value, np.float32)}, 0.01, "onnxruntime 1", "x86_64")
    return Golden({"x": np.arange(8, dtype=np.float32)[None]}, dict.fromkeys(names, answer))


def make(path: Path, as_zip: bool = False, **changes: Any) -> Bundle:
    """A bundle of the variants "small" and "large" with a golden request."""
    parts: dict[str, Any] = {
        "name": "mlp",
        "signature": SIGNATURE,
        "variants": variants("small", "large"),
        "files": {"small": SMALL, "large": LARGE},
        "golden": [golden("small", "large")],
        "as_zip": as_zip,
    }
    return bundle.create(path, **(parts | changes))


def alter_manifest(path: Path, change: Callable[[dict[str, Any]], None], resign: bool = True) -> None:
    """Changes the manifest of a folder or archive by hand; with `resign` under a digest that fits again."""
    raw = json.loads(member(path, "manifest.json"))
    before = raw["digest"]
    change(raw)
    if resign and raw.get("digest") == before:
        raw["digest"] = "0" * 64
        raw["digest"] = hashlib.sha256(json.dumps(raw).encode()).hexdigest()
    replace_member(path, "manifest.json", json.dumps(raw).encode())


def member(path: Path, name: str) -> bytes:
    """Content of one file of a folder or archive."""
    if path.is_dir():
        return (path / name).read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def replace_member(path: Path, name: str, content: bytes | None) -> None:
    """Puts another content in the place of one file, or takes it out where None."""
    if path.is_dir():
        if content is None:
            (path / name).unlink()
        else:
            (path / name).write_bytes(content)
        return
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for other, kept in members.items():
            if other != name:
                archive.writestr(other, kept)
        if content is not None:
            archive.writestr(name, content)


def everything(opened: Bundle) -> dict[str, Any]:
    """All that can be read of a bundle, after comparing every hash: for "the same as before, or the new one"."""
    opened.verify()
    files = {}
    for variant in opened.variants:
        with opened.open_variant(variant.name) as file:
            files[variant.name] = bytes(file.content())
    requests = [{name: array.tolist() for name, array in sample.feeds.items()} for sample in opened.golden()]
    return {"digest": opened.digest, "release": opened.manifest.release, "files": files, "golden": requests}
