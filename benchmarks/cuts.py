"""Head then tail beside the whole: every kind of cut of every model that is here.

    python benchmarks/cuts.py [--quick] [--json] [--zoo] [--only NAME…]

For each model all cuts of one tensor, all of the Pareto set and 200 random ones of several tensors are made, run and
compared with the whole on noise. TFLite must be equal bit for bit, and so must int8 ONNX, whose cuts lie at outputs of
QuantizeLinear; float ONNX must be within 1e-5 of an output's largest value. `moved` counts tensors of int8 models that
cannot be cut themselves: between DequantizeLinear and QuantizeLinear a cut goes to the nearest QuantizeLinear.

Models: the shared ones, ONNX's light models where they were fetched, and int8 forms of some, made on the spot; or with
`--zoo` the made-up networks of `benchmarks/zoo.py` and the int8 form of each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import zoo
from edge_sdk.compress.onnx_calibration import SampleReader
from edge_sdk.engines.base import LoadOptions, Runner
from edge_sdk.engines.registry import engines_for
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.errors import EdgeError, UnsupportedOp
from edge_sdk.formats import ModelFile, open_model, without_initializer_inputs
from edge_sdk.graph import Graph, open_graph
from edge_sdk.graph.cuts import Cut, cuts_of, random_cuts, single_cuts
from edge_sdk.graph.cuts_nearest import movable
from edge_sdk.graph.cuts_pareto import pareto_cuts
from edge_sdk.graph.splitting import FLOAT_TOLERANCE, check_split, split_model

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT.parent / "shared" / "assets" / "models"
LIGHT = Path(os.environ.get("EDGE_SDK_LIGHT", ROOT / ".cache" / "onnx-backend" / "light"))
INT8_OF = ("mnist_cnn", "ultraface_rfb320", "light_squeezenet", "light_resnet50")
RANDOM = 200
QUICK = ("mnist_cnn", "mnist_cnn int8", "mobilenet_v1_025_128_int8", "resnet8_cifar10_fp32", "resnet8_cifar10_int8",
         "ultraface_rfb320", "ultraface_rfb320 int8", "silero_vad_16k")  # fmt: skip
QUICK_SHARE, QUICK_RANDOM = 5, 8


@dataclass
class Row:
    """What one model gave.

    Attributes:
        single, pareto, several: cuts of each kind that were compared; one that is of two kinds counts in the first.
        exact: how many were equal bit for bit.
        within: how many were within what the format must hold.
        worst: the largest relative difference.
        failed: cuts that could not be made or run, or differed by more; each with its reason.
        moved: tensors of an int8 model where a cut goes to a QuantizeLinear instead.
        enumerated, complete: how many cuts `cuts_of` lists with its default limit, and whether these are all.
        enumerate_ms, split_ms: what listing takes, and the median of making head and tail of one cut.
        seconds: all of it.
        refused: why the model cannot be cut at all.
    """

    model: str
    format: str = ""
    single: int = 0
    pareto: int = 0
    several: int = 0
    exact: int = 0
    within: int = 0
    worst: float = 0.0
    moved: int = 0
    enumerated: int = 0
    complete: bool = False
    enumerate_ms: float = 0.0
    split_ms: float = 0.0
    seconds: float = 0.0
    refused: str = ""
    failed: tuple[str, ...] = ()


def networks(folder: Path, only: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Made-up networks by name, each with its int8 form; a file stays in `folder` until the next one is asked for."""
    for name in (name for name in zoo.NAMES if not only or name in only):
        path = zoo.write(folder, [name])[name]
        yield name, path
        int8 = quantised(path, folder / f"{name}_int8.onnx")
        yield f"{name} int8", int8
        for file in folder.iterdir():
            file.unlink()


def models(folder: Path, only: tuple[str, ...]) -> dict[str, Path]:
    """Files by name: those that are here, and int8 forms written into `folder`."""
    paths = [*MODELS.glob("*.onnx"), *MODELS.glob("*.tflite"), *LIGHT.glob("*.onnx")]
    found = {}
    for path in sorted(paths):
        if path.stem == "must_fail_custom_op":
            continue  # no engine runs it
        found[path.stem + (".tflite" if path.stem in found else "")] = path
        name = f"{path.stem} int8"
        if path.suffix == ".onnx" and path.stem in INT8_OF and (not only or name in only):
            found[name] = quantised(path, folder / f"{path.stem}_int8.onnx")
    return {name: path for name, path in found.items() if not only or name.removesuffix(".tflite") in only}


def quantised(source: Path, target: Path) -> Path:
    """The static int8 form that ONNX Runtime's quantizer makes, calibrated on noise."""
    import onnx
    from onnxruntime.quantization import QuantFormat, quantize_static

    proto = onnx.ModelProto.FromString(without_initializer_inputs(source.read_bytes())[0])
    plain = target.with_suffix(".plain.onnx")
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    onnx.save(proto if opset >= 13 else onnx.version_converter.convert_version(proto, 13), plain)

    with open_model(source) as model:
        info = model.describe()
    inputs = [spec for spec in info.inputs if spec.name not in info.initializer_inputs]
    quantize_static(plain, target, SampleReader([made_up_feeds(inputs)]), quant_format=QuantFormat.QDQ)
    return target


def measure(name: str, path: Path, quick: bool) -> Row:
    """Compares the cuts of one model."""
    began = time.perf_counter()
    with open_model(path) as model:
        graph = open_graph(model)
        row = Row(name, graph.format)
        try:
            started = time.perf_counter()
            listed = cuts_of(graph)
            row.enumerate_ms = 1e3 * (time.perf_counter() - started)
        except UnsupportedOp as error:
            row.refused = str(error)
            return row
        row.enumerated, row.complete, row.moved = len(listed), listed.complete, len(movable(graph))
        _compare(row, model, graph, _chosen(row, graph, quick))
    row.seconds = time.perf_counter() - began
    return row


def _chosen(row: Row, graph: Graph, quick: bool) -> list[Cut]:
    step, count = (QUICK_SHARE, QUICK_RANDOM) if quick else (1, RANDOM)
    single = dict.fromkeys(single_cuts(graph)[::step])
    pareto = dict.fromkeys(cut for cut in tuple(pareto_cuts(graph))[::step] if cut not in single)
    several = [cut for cut in random_cuts(graph, count) if cut not in pareto]
    row.single, row.pareto, row.several = len(single), len(pareto), len(several)
    return [*single, *pareto, *several]


def _compare(row: Row, model: ModelFile, graph: Graph, cuts: list[Cut]) -> None:
    allowed = 0.0 if row.format == "tflite" or row.moved else FLOAT_TOLERANCE
    split_ms, failed = [], []
    with _loaded(model) as whole:
        request = made_up_feeds(whole.inputs, whole.optional_inputs)
        expected = whole.run(request)
        for cut in cuts:
            try:
                started = time.perf_counter()
                split = split_model(model, cut, graph=graph)
                split_ms.append(1e3 * (time.perf_counter() - started))
                with _loaded(open_model(split.head)) as head, _loaded(open_model(split.tail)) as tail:
                    found = check_split(
                        split, lambda _: expected, _run(head), _run(tail), [request], tolerance=sys.float_info.max
                    )
            except EdgeError as error:
                failed.append(f"{cut.id} {cut.tensors[:3]}: {error}")
                continue
            row.exact += found.exact
            row.worst = max(row.worst, found.relative)
            if found.relative <= allowed:
                row.within += 1
            else:
                failed.append(f"{cut.id} {cut.tensors[:3]}: differs by {found.relative:.2g}")
    row.split_ms, row.failed = statistics.median(split_ms or [0.0]), tuple(failed)


def _loaded(model: ModelFile) -> closing[Runner]:
    model.check()
    return closing(engines_for(model.format)[0].load(model, LoadOptions(threads=1, spin=False, cache=False)))


def _run(runner: Runner) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    names = {spec.name for spec in runner.inputs}
    return lambda feeds: runner.run({name: array for name, array in feeds.items() if name in names})


def table(rows: list[Row]) -> str:
    """A line a model."""
    titles = ("single", "pareto", "random", "exact", "within", "worst", "moved", "listed", "list ms", "split ms", "s")
    lines = [f"{'model':28} " + " ".join(f"{title:>8}" for title in titles)]
    for row in rows:
        if row.refused:
            lines.append(f"{row.model:28} refused: {row.refused}")
            continue
        figures = (row.single, row.pareto, row.several, row.exact, row.within, f"{row.worst:.1e}", row.moved,
                   f"{row.enumerated}{'' if row.complete else '+'}", f"{row.enumerate_ms:.1f}", f"{row.split_ms:.1f}",
                   f"{row.seconds:.1f}")  # fmt: skip
        lines.append(f"{row.model:28} " + " ".join(f"{figure:>8}" for figure in figures))
        lines += [f"    FAILED {reason}" for reason in row.failed[:5]]
    cuts = sum(row.single + row.pareto + row.several for row in rows)
    good, exact = sum(row.within for row in rows), sum(row.exact for row in rows)
    lines.append(f"{cuts} cuts of {len(rows)} models: {exact} exact, {good} within bounds ({good / max(cuts, 1):.1%})")
    return "\n".join(lines)


def main() -> int:
    """Runs the benchmark; 1 where a cut did not hold its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer models and cuts, under a minute")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--zoo", action="store_true", help="made-up networks of every family instead")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    only = tuple(arguments.only) or (QUICK if arguments.quick and not arguments.zoo else ())
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        here = Path(folder)
        for name, path in networks(here, only) if arguments.zoo else models(here, only).items():
            rows.append(measure(name, path, arguments.quick))
            if sys.stderr.isatty():
                print(f"{name}: {rows[-1].seconds:.1f} s", file=sys.stderr)
    print(json.dumps({"rows": [asdict(row) for row in rows]}) if arguments.json else table(rows))
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
