"""ONNX models shaped like real architectures, made on the spot with made-up weights: name, MACs and size of each.

    python benchmarks/zoo.py [--out FOLDER] [--only NAME…]

Shapes, ops and costs are those of the architectures; answers mean nothing (for answers that do, see `write_trained`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.architectures import attention, dense_prediction, digits, mobile, residual, sequences
from benchmarks.architectures.writer import Writer

Build = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the zoo.

    Attributes:
        family: which architecture; models of one family differ in size only, so hold out whole families.
        build: adds its layers to a writer.
        folded: whether batch normalisations are folded into convolutions in the file.
        batch: first dimension of the inputs; a name makes it dynamic.
    """

    family: str
    build: Build
    folded: bool = False
    batch: int | str = 1


def _entry(family: str, build: Build, *, folded: bool = False, batch: int | str = 1, **sizes: Any) -> Entry:
    return Entry(family, partial(build, **sizes), folded, batch)


ENTRIES: dict[str, Entry] = {
    "mobilenet_v1_224": _entry("mobilenet_v1", mobile.mobilenet_v1, folded=True),
    "mobilenet_v1_050_160": _entry("mobilenet_v1", mobile.mobilenet_v1, size=160, width=0.5),
    "mobilenet_v1_025_96": _entry("mobilenet_v1", mobile.mobilenet_v1, size=96, width=0.25, classes=2),
    "mobilenet_v2_224": _entry("mobilenet_v2", mobile.mobilenet_v2, folded=True),
    "mobilenet_v2_050_160": _entry("mobilenet_v2", mobile.mobilenet_v2, size=160, width=0.5, batch="batch"),
    "mobilenet_v2_035_96": _entry("mobilenet_v2", mobile.mobilenet_v2, size=96, width=0.35),
    "mobilenet_v3_small_224": _entry("mobilenet_v3", mobile.mobilenet_v3, folded=True),
    "mobilenet_v3_small_128": _entry("mobilenet_v3", mobile.mobilenet_v3, size=128, width=0.75),
    "mobilenet_v3_large_192": _entry("mobilenet_v3", mobile.mobilenet_v3, size=192, large=True, folded=True),
    "efficientnet_lite0_192": _entry("efficientnet_lite", mobile.efficientnet, size=192, lite=True, folded=True),
    "efficientnet_b0_160": _entry("efficientnet", mobile.efficientnet, size=160, folded=True),
    "efficientnet_b0_050_96": _entry("efficientnet", mobile.efficientnet, size=96, width=0.5),
    "shufflenet_v1_160": _entry("shufflenet_v1", mobile.shufflenet_v1, size=160),
    "shufflenet_v2_224": _entry("shufflenet_v2", mobile.shufflenet_v2, folded=True),
    "shufflenet_v2_050_128": _entry("shufflenet_v2", mobile.shufflenet_v2, size=128, channels=(48, 96, 192)),
    "ghostnet_160": _entry("ghostnet", mobile.ghostnet, folded=True),
    "vgg_64": _entry("vgg", residual.vgg),
    "vgg_narrow_48": _entry("vgg", residual.vgg, size=48, plan=(16, 32, 64)),
    "resnet18_224": _entry("resnet", residual.resnet, folded=True),
    "resnet18_112": _entry("resnet", residual.resnet, size=112, first=32, batch="batch"),
    "resnet26_bottleneck_128": _entry("resnet_bottleneck", residual.resnet, size=128, first=32, groups=1, folded=True),
    "resnext_128": _entry("resnext", residual.resnet, size=128, first=32, repeats=(1, 2, 2, 1), groups=8),
    "resnet20_32": _entry("resnet_small", residual.resnet_small),
    "resnet8_32": _entry("resnet_small", residual.resnet_small, repeats=1, folded=True),
    "squeezenet_224": _entry("squeezenet", residual.squeezenet),
    "squeezenet_96": _entry("squeezenet", residual.squeezenet, size=96, classes=100),
    "densenet_112": _entry("densenet", residual.densenet),
    "densenet_wide_160": _entry("densenet", residual.densenet, size=160, growth=24, repeats=(4, 8, 12)),
    "inception_128": _entry("inception", residual.inception, folded=True),
    "unet_128": _entry("unet", dense_prediction.unet),
    "unet_resize_96": _entry("unet_resize", dense_prediction.unet, size=96, first=12, transposed=False, folded=True),
    "yolo_silu_160": _entry("yolo", dense_prediction.yolo, folded=True),
    "yolo_silu_320": _entry("yolo", dense_prediction.yolo, size=320, folded=True),
    "yolo_leaky_128": _entry("yolo", dense_prediction.yolo, size=128, first=8, activation="leaky"),
    "ssd_160": _entry("ssd", dense_prediction.ssd, folded=True),
    "segmenter_128": _entry("segmenter", dense_prediction.segmenter),
    "conv_autoencoder_96": _entry("conv_autoencoder", dense_prediction.conv_autoencoder),
    "super_resolution_96": _entry("super_resolution", dense_prediction.super_resolution),
    "vit_96": _entry("vit", attention.vit),
    "vit_wide_128": _entry("vit", attention.vit, size=128, width=256, depth=6, heads=4),
    "text_64": _entry("text", attention.text),
    "text_128": _entry("text", attention.text, tokens=128, width=256, depth=4, heads=4),
    "mobilevit_128": _entry("mobilevit", attention.mobilevit, folded=True),
    "convnext_96": _entry("convnext", attention.convnext),
    "mixer_96": _entry("mixer", attention.mixer),
    "lstm_64": _entry("lstm", sequences.recurrent_net),
    "lstm_wide_both_ways": _entry("lstm", sequences.recurrent_net, steps=100, hidden=128, both_ways=True),
    "gru_64": _entry("gru", sequences.recurrent_net, kind="GRU"),
    "gru_wide": _entry("gru", sequences.recurrent_net, kind="GRU", steps=80, hidden=192),
    "temporal_128": _entry("temporal", sequences.temporal),
    "temporal_wide_512": _entry("temporal", sequences.temporal, steps=512, width=64, blocks=5, folded=True),
    "wave_8000": _entry("wave", sequences.wave, folded=True),
    "keywords_64": _entry("keywords", sequences.keywords, folded=True),
    "keywords_wide": _entry("keywords", sequences.keywords, width=172, blocks=5),
    "crnn_128": _entry("crnn", sequences.crnn),
    "mlp_64": _entry("mlp", sequences.mlp),
    "mlp_wide": _entry("mlp", sequences.mlp, features=512, widths=(1024, 1024, 512)),
    "autoencoder_640": _entry("autoencoder", sequences.autoencoder),
    "points_512": _entry("points", sequences.points, folded=True),
}

NAMES = tuple(ENTRIES)
"""Every model of the zoo."""

FAMILIES = {name: entry.family for name, entry in ENTRIES.items()}
"""The architecture of each model."""


def build(name: str, seed: int = 0, batch: int | str | None = None) -> Writer:
    """The layers of one model, not yet written; `batch` in the place of its own first dimension."""
    entry = ENTRIES[name]
    first = entry.batch if batch is None else batch
    net = Writer(name, seed + NAMES.index(name), folded=entry.folded, batch=first)
    entry.build(net)
    return net


def write(
    folder: str | Path, names: Iterable[str] | None = None, seed: int = 0, batch: int | str | None = None
) -> dict[str, Path]:
    """Writes models as FOLDER/NAME.onnx; one that is there already is left as it is.

    Args:
        folder: made where it is missing.
        names: some of `NAMES`; None for all.
        seed: of the weights; only a fresh folder takes a new one.
        batch: first dimension of the inputs, in the place of each one's own; likewise.

    Returns:
        The path of each model by its name.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name in NAMES if names is None else names:
        paths[name] = folder / f"{name}.onnx"
        if not paths[name].exists():
            unfinished = folder / f".{name}.unfinished"
            unfinished.write_bytes(build(name, seed, batch).model().SerializeToString())
            unfinished.replace(paths[name])
    return paths


@dataclass(frozen=True, slots=True)
class Trained:
    """Networks that read digits, with the pictures to judge them by.

    Attributes:
        models: paths of "digits_plain", "digits_depthwise" and "fragile_depthwise" (the same function as
            "digits_depthwise", its channels spread over three decades).
        calibration: NPZ of 256 pictures that the networks learned from: `image`, `labels`.
        held_out: NPZ of 600 pictures that they did not: `image`, `labels`.
    """

    models: dict[str, Path]
    calibration: Path
    held_out: Path


def write_trained(folder: str | Path, seed: int = 0) -> Trained:
    """Writes networks that read handwritten digits, and the digits; takes some seconds."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    learn, held_out = digits.load_pictures()
    depthwise = digits.trained(digits.depthwise, "digits_depthwise", learn, seed)
    made = {
        "digits_plain": digits.trained(digits.plain, "digits_plain", learn, seed),
        "digits_depthwise": depthwise,
        "fragile_depthwise": digits.spread(depthwise, seed),
    }
    models = {name: folder / f"{name}.onnx" for name in made}
    for name, path in models.items():
        path.write_bytes(made[name].SerializeToString())
    trained = Trained(models, folder / "digits_calibration.npz", folder / "digits_held_out.npz")
    np.savez_compressed(trained.calibration, image=learn.image[:256], labels=learn.labels[:256])
    np.savez_compressed(trained.held_out, image=held_out.image, labels=held_out.labels)
    return trained


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder to keep the models in (otherwise they are thrown away)")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help="some of them")
    parser.add_argument("--quick", action="store_true", help="the seven smallest ones where --only names none")
    parser.add_argument("--json", action="store_true", help="figures by name")
    arguments = parser.parse_args()
    quick = ("mobilenet_v2_035_96", "resnet8_32", "vit_96", "text_64", "lstm_64", "keywords_64", "mlp_64")
    names = arguments.only or (quick if arguments.quick else NAMES)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as throw_away:
        folder = arguments.out or Path(throw_away)
        for name in names:
            path = write(folder, [name])[name]
            rows[name] = {"family": FAMILIES[name], "macs": build(name).macs, "bytes": path.stat().st_size}
            if not arguments.json:
                row = rows[name]
                print(f"{name:<26}{row['family']:<20}{row['macs'] / 1e6:>10.2f} M MACs{row['bytes'] / 1e6:>9.2f} MB")
    if arguments.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
