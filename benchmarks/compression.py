"""What compressing brings and costs, beside onnxruntime.quantization with its defaults: time and accuracy in one run.

    python benchmarks/compression.py [--quick] [--json]

Times are those of one thread, source and variant in turn; every figure is the ratio within pairs. Accuracy is that of
networks that read handwritten digits, on digits that neither the network nor the calibration has seen. All networks are
made on the spot; the shared ones join where they are there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edge_sdk
from benchmarks import zoo
from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.onnx_calibration import SampleReader
from edge_sdk.errors import EdgeError
from edge_sdk.measuring import compare

ASSETS = Path(__file__).resolve().parents[1].parent / "shared" / "assets"
SPEED = ("mobilenet_v2_224", "efficientnet_lite0_192", "resnet18_112", "vgg_64", "unet_128")
SPEED_FULL = (
    *SPEED,
    "mobilenet_v1_224",
    "mobilenet_v2_050_160",
    "resnet20_32",
    "squeezenet_224",
    "ssd_160",
    "inception_128",
)
WANTED_SPEEDUP = 1.5
WANTED_DROP = 0.01
Array = np.ndarray[Any, np.dtype[Any]]
Row = dict[str, Any]


# --- making and measuring ---


def ours(source: Path, name: str, folder: Path, data: Data) -> tuple[Path | None, str]:
    """A variant by this package, or the reason why there is none."""
    from edge_sdk.compress.variants import make

    try:
        made = make(source, name, folder / source.stem, data, Guard(source, data, WANTED_DROP))
    except EdgeError as error:
        return None, str(error)
    return Path(made.file), "; ".join(f"{key}: {value}" for key, value in made.recipe.items())


def peer(source: Path, name: str, folder: Path, data: Data) -> Path:
    """A variant by onnxruntime.quantization as its documentation shows it, with its defaults."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"peer_{source.stem}_{name}.onnx"
    if name == "int8-dynamic":
        quantization.quantize_dynamic(source, made)
    else:
        prepared = folder / f"prepared_{source.name}"
        quant_pre_process(str(source), str(prepared))
        quantization.quantize_static(str(prepared), str(made), SampleReader(data.feeds[:128]))
    return made


def speedup(source: Path, variant: Path, feeds: Mapping[str, Array], seconds: float) -> Row:
    """Times of both on one thread, and how often the variant's fits into the source's."""
    with (
        edge_sdk.load(source, threads=1, trusted=True) as first,
        edge_sdk.load(variant, threads=1, trusted=True) as second,
    ):
        found = compare(lambda: first.run(feeds), lambda: second.run(feeds), seconds, margin=0.01)
    if found is None:
        return {}
    return {"source_ms": found.first_ms, "variant_ms": found.second_ms, "speedup": 1 / found.ratio}


def accuracy(model: Path, data: Data) -> float:
    """Share of samples whose best score is the label's."""
    assert data.labels is not None
    with edge_sdk.load(model, threads=1, trusted=True) as session:
        best = [int(np.argmax(next(iter(session.run(feed).values())))) for feed in data.feeds]
    return float(np.mean(np.array(best) == np.array(data.labels)))


# --- the networks and their data ---


def noise(name: str, samples: int) -> Data:
    """What a network of the zoo is calibrated on: the kind of pictures its normalisations were measured on."""
    net = zoo.build(name)
    return Data(f"smooth noise for {name}", [net.feeds(1, seed) for seed in range(samples)])


def npz(path: Path) -> Data:
    """Digits from a file of the zoo, one sample each."""
    with np.load(path) as arrays:
        return _digits(path.stem, "image", arrays["image"], arrays["labels"])


def mnist(quick: bool) -> tuple[Data, Data]:
    """500 of MNIST's 10,000 test pictures to calibrate on, and the others, or every fifth of them."""
    folder = ASSETS / "datasets" / "mnist_t10k" / "data"
    raw = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    image = raw.reshape(-1, 1, 28, 28).astype(np.float32)
    calibration = _digits("MNIST, 500 test pictures", "Input3", image[:500], labels[:500])
    step = 5 if quick else 1
    return calibration, _digits("MNIST, others", "Input3", image[500::step], labels[500::step])


def _digits(name: str, key: str, image: Array, labels: Array) -> Data:
    return Data(
        name, [{key: image[index : index + 1]} for index in range(len(image))], [int(label) for label in labels]
    )


# --- the four questions ---


def int8_speed(folder: Path, names: Sequence[str], seconds: float, samples: int) -> list[Row]:
    """Static int8 against the source."""
    cases = [(zoo.write(folder, [name])[name], noise(name, samples)) for name in names]
    detector = ASSETS / "models" / "ultraface_rfb320.onnx"
    if detector.exists():
        random = np.random.default_rng(0)
        feeds = [{"input": random.uniform(-1, 1, (1, 3, 240, 320)).astype(np.float32)} for _ in range(samples)]
        cases.append((detector, Data("noise", feeds)))
    rows = []
    for source, data in cases:
        row: Row = {"model": source.stem}
        variant, row["recipe"] = ours(source, "int8-static", folder / "ours", data)
        if variant is not None:
            row |= speedup(source, variant, data.feeds[0], seconds)
        row["peer_speedup"] = speedup(source, peer(source, "int8-static", folder, data), data.feeds[0], seconds)[
            "speedup"
        ]
        rows.append(row)
    return rows


def int8_accuracy(folder: Path, trained: zoo.Trained, quick: bool) -> list[Row]:
    """int8 on networks that read digits."""
    cases = [(trained.models[name], npz(trained.calibration), npz(trained.held_out)) for name in PLAIN_DIGITS]
    shared = ASSETS / "models" / "mnist_cnn.onnx"
    if shared.exists():
        cases.append((shared, *mnist(quick)))
    rows = []
    for source, calibration, held_out in cases:
        before = accuracy(source, held_out)
        for name in ("int8-static", "int8-dynamic"):
            row: Row = {"model": source.stem, "variant": name, "samples": len(held_out.feeds), "source": before}
            variant, row["recipe"] = ours(source, name, folder / "ours", calibration)
            if variant is not None:
                row["accuracy"] = accuracy(variant, held_out)
                row["drop"] = before - row["accuracy"]
            row["peer"] = accuracy(peer(source, name, folder, calibration), held_out)
            rows.append(row)
    return rows


PLAIN_DIGITS = ("digits_plain", "digits_depthwise")
FRAGILE = "fragile_depthwise"


def fragile(folder: Path, trained: zoo.Trained, seconds: float) -> Row:
    """Whether the guard catches what per-tensor dynamic int8 does to a fragile network, and what can be had instead."""
    source, calibration, held_out = trained.models[FRAGILE], npz(trained.calibration), npz(trained.held_out)
    ruined = peer(source, "int8-dynamic", folder, calibration)
    guard = Guard(source, calibration, WANTED_DROP)
    verdict = guard.judge(ruined)
    found: Row = {
        "source": accuracy(source, held_out),
        "per_tensor_dynamic_int8": accuracy(ruined, held_out),
        "caught": not verdict.passed,
        "why": verdict.why,
        "worst_layers": [f"{layer.name}: {layer.error:.2g}" for layer in guard.layers(ruined)[:3]],
        "ours": [],
    }
    for name in ("int8-dynamic", "int8-static", "int8-mixed"):
        found["ours"].append(_judged(source, name, folder / "ours", calibration, held_out, seconds))
    found["rescued"] = any(row.get("drop", 1) <= WANTED_DROP for row in found["ours"])
    return found


def pruning(folder: Path, trained: zoo.Trained, seconds: float) -> list[Row]:
    """Half of the channels less: how much faster, how accurate; or the guard's refusal."""
    calibration, held_out = npz(trained.calibration), npz(trained.held_out)
    return [
        {"model": name} | _judged(trained.models[name], "pruned-50", folder / "ours", calibration, held_out, seconds)
        for name in trained.models
    ]


def _judged(source: Path, name: str, folder: Path, calibration: Data, held_out: Data, seconds: float) -> Row:
    row: Row = {"variant": name, "source": accuracy(source, held_out)}
    variant, row["recipe"] = ours(source, name, folder, calibration)
    if variant is None:
        return row | {"made": False}
    verdict = Guard(source, calibration, WANTED_DROP).judge(variant)
    row |= {"made": True, "guard_passed": verdict.passed, "why": verdict.why}
    row["accuracy"] = accuracy(variant, held_out)
    row["drop"] = row["source"] - row["accuracy"]
    return row | speedup(source, variant, held_out.feeds[0], seconds)


def measure(quick: bool) -> Row:
    """All figures."""
    seconds, samples = (0.8, 8) if quick else (4.0, 32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = zoo.write_trained(folder)
        figures: Row = {
            "int8_speed": int8_speed(folder, SPEED if quick else SPEED_FULL, seconds, samples),
            "int8_accuracy": int8_accuracy(folder, trained, quick),
            "fragile": fragile(folder, trained, seconds),
            "pruning": pruning(folder, trained, seconds),
        }
    fast = [row for row in figures["int8_speed"] if row.get("speedup", 0) >= WANTED_SPEEDUP]
    static = [row for row in figures["int8_accuracy"] if row["variant"] == "int8-static"]
    figures["int8_fast_enough"] = len(fast)
    figures["int8_within_1_point"] = sum(row.get("drop", 1) <= WANTED_DROP for row in static)
    figures["int8_networks"] = len(static)
    return figures


# --- showing ---


def show(figures: Row) -> None:
    """The tables."""
    print(f"{'static int8, 1 thread':<26}{'fp32 ms':>10}{'int8 ms':>10}{'faster':>9}{'peer':>8}")
    for row in figures["int8_speed"]:
        times = f"{_number(row, 'source_ms', '.2f'):>10}{_number(row, 'variant_ms', '.2f'):>10}"
        print(f"{row['model']:<26}{times}{_number(row, 'speedup', '.2f'):>8}×{row['peer_speedup']:>7.2f}×")
    print(f"at least {WANTED_SPEEDUP} times faster: {figures['int8_fast_enough']} of {len(figures['int8_speed'])}\n")
    print(f"{'digits':<20}{'variant':<14}{'samples':>8}{'fp32 %':>9}{'ours %':>9}{'peer %':>9}")
    for row in figures["int8_accuracy"]:
        shares = f"{row['source'] * 100:>9.2f}{_number(row, 'accuracy', '.2%'):>9}{row['peer'] * 100:>9.2f}"
        print(f"{row['model']:<20}{row['variant']:<14}{row['samples']:>8}{shares}")
    print(f"static int8 within one point: {figures['int8_within_1_point']} of {figures['int8_networks']}\n")
    found = figures["fragile"]
    print(f"fragile network: {found['source']:.2%}; per-tensor dynamic int8 {found['per_tensor_dynamic_int8']:.2%}")
    print(f"  guard: {'caught' if found['caught'] else 'NOT CAUGHT'}: {found['why']}")
    print(f"  worst layers: {', '.join(found['worst_layers']) or 'none named'}")
    for row in found["ours"]:
        _show_variant("  ", row)
    print("\nhalf of the channels")
    for row in figures["pruning"]:
        _show_variant(f"  {row['model']:<20}", row)


def _show_variant(start: str, row: Row) -> None:
    if not row["made"]:
        print(f"{start}{row['variant']:<14}not made: {row['recipe']}")
        return
    judged = "guard: passed" if row["guard_passed"] else f"guard: refused: {row['why']}"
    figures = f"{row['accuracy']:>8.2%} of {row['source']:.2%}{_number(row, 'speedup', '.2f'):>8}× faster"
    print(f"{start}{row['variant']:<14}{figures}   {judged}")
    print(f"{start}{'':<14}{row['recipe']}")


def _number(row: Row, key: str, form: str) -> str:
    return format(row[key], form) if key in row else "–"


def _silence_peer() -> None:
    import onnxruntime

    # Its advice was followed (models are prepared first); it is given on every call nevertheless.
    logging.getLogger().setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", action="store_true", help="figures by name")
    arguments = parser.parse_args()
    _silence_peer()
    figures = measure(arguments.quick)
    print(json.dumps(figures, indent=1)) if arguments.json else show(figures)


if __name__ == "__main__":
    main()
