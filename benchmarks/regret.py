"""How much is lost by trusting the planner: the candidate it chose against the best of an exhaustive run.

    python benchmarks/regret.py [--quick] [--json] [--only NAME…]

Every model becomes a bundle of variants where it can (float, int8, both formats where there are two files), so that
the planner has something to choose from. It chooses within its budget. Then every feasible candidate is compared with
the chosen one in pairs, at length; the fastest of them and the chosen one are loaded afresh and compared once more, and
only that last comparison is the regret: otherwise the least of many noisy figures would flatter. The peer beside us is
what a person gets who loads the source file with the engine's defaults: what that loses against the choice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edge_sdk
from benchmarks import zoo
from edge_sdk.measuring import back_to_back, compare_blocks
from edge_sdk.planner import Candidate, Plan, plan

ASSETS = Path(__file__).resolve().parents[1].parent / "shared" / "assets" / "models"
LIGHT = Path(__file__).resolve().parents[1] / ".cache" / "onnx-backend"
BUDGET_S = 9.0
ZOO = (
    "mobilenet_v2_050_160",
    "mobilenet_v3_small_224",
    "efficientnet_b0_160",
    "resnet20_32",
    "shufflenet_v2_050_128",
    "vit_96",
    "mobilevit_128",
    "convnext_96",
    "lstm_64",
    "gru_64",
    "keywords_64",
    "text_64",
    "mlp_64",
    "yolo_leaky_128",
    "unet_resize_96",
)
QUICK = ("mobilenet_v3_small_224", "lstm_64", "keywords_64", "ultraface")
LIGHT_MODELS = ("squeezenet", "shufflenet")


@dataclass(frozen=True)
class Row:
    """One model: what was chosen, what was best, and what the choice lost."""

    model: str
    candidates: int
    chosen: str
    best: str
    default_ms: float
    chosen_ms: float
    best_ms: float
    regret: float
    default_loses: float
    choose_s: float
    cached_ms: float


def sources(only: tuple[str, ...]) -> Iterator[tuple[str, Path, tuple[Path, ...]]]:
    """Name, model file and twins of every model, as they are wanted."""

    def wanted(name: str) -> bool:
        return not only or name in only

    folder = Path(tempfile.mkdtemp(prefix="edge-sdk-zoo-"))
    names = [name for name in ZOO if wanted(name)]
    for name, path in zoo.write(folder, names).items():
        yield name, path, ()
    shared = {
        "ultraface": ("ultraface_rfb320.onnx", ("ultraface_rfb320.tflite",)),
        "resnet8": ("resnet8_cifar10_fp32.tflite", ()),
        "mobilenet_v2_int8": ("mobilenet_v2_224_int8.tflite", ()),
        "mobilenet_v1_025_int8": ("mobilenet_v1_025_128_int8.tflite", ()),
        "silero_vad": ("silero_vad_16k.onnx", ()),
        "mnist_cnn": ("mnist_cnn.onnx", ()),
    }
    for name, (file, twins) in shared.items():
        if wanted(name) and (ASSETS / file).is_file():
            yield name, ASSETS / file, tuple(ASSETS / twin for twin in twins)
    for name in LIGHT_MODELS:
        found = sorted(LIGHT.glob(f"**/light_{name}.onnx")) if wanted(f"light_{name}") else []
        if found:
            yield f"light_{name}", found[0], ()


def bundle_of(name: str, source: Path, twins: tuple[Path, ...], folder: Path) -> Path:
    """The model with the variants that this machine can make of it; the file itself where none can be made.

    The samples are noise and the guard lets every variant pass: speed is asked for here, not accuracy.
    """
    from edge_sdk.building import build
    from edge_sdk.compress.data import Data
    from edge_sdk.engines.samples import made_up_feeds
    from edge_sdk.errors import EdgeError
    from edge_sdk.formats import open_model

    out = folder / f"{name}.edge"
    info = open_model(source).describe()
    fixed = [spec for spec in info.inputs if spec.name not in info.initializer_inputs]
    generator = np.random.default_rng(0)
    feeds = []
    for _ in range(4):
        made = made_up_feeds(fixed)
        for spec in fixed:
            if made[spec.name].dtype == np.float32:
                made[spec.name] = generator.standard_normal(made[spec.name].shape).astype(np.float32)
        feeds.append(made)
    variants = ("fp32", "int8-dynamic", "int8-static")
    try:
        build(
            source,
            out,
            calibration=Data("noise", feeds),
            variants=variants,
            max_drop=1.0,
            keep=True,
            twins=twins,
            measure_s=0,
        )
    except EdgeError as error:
        print(f"{name}: no bundle: {error}", file=sys.stderr)
        return source
    return out


def opened(model: Path, candidate: Candidate) -> edge_sdk.Session:
    """A candidate as it stands in the table, loaded afresh."""
    placement = candidate.placement
    return edge_sdk.load(
        model,
        engine=candidate.engine,
        variant=candidate.variant if model.suffix == ".edge" else None,
        threads=placement.threads,
        cpus=placement.cpus,
        plan_budget_s=0,
        power_mode="balanced",
    )


def request(session: edge_sdk.Session) -> Callable[[], object]:
    """The request that planning measured with: made-up inputs, grown until the model takes them."""
    from edge_sdk.engines.samples import OPEN_SIZES, made_up_feeds
    from edge_sdk.errors import EdgeError

    for size in OPEN_SIZES:
        feeds = made_up_feeds(session.inputs, open_size=size)
        try:
            session.run(feeds)
        except EdgeError:
            if size == OPEN_SIZES[-1]:
                raise
        else:
            break
    return lambda: session.run(feeds)


def ratio(model: Path, first: Candidate, second: Candidate, seconds: float) -> tuple[float, float, float]:
    """Latency of the second over the first, and both medians, in pairs of fresh sessions."""
    with opened(model, first) as one, opened(model, second) as two:
        blocks = (back_to_back(request(one)), back_to_back(request(two)))
        found = compare_blocks(*blocks, seconds, max_pairs=60, within=0.01)
    assert found is not None
    return found.ratio, found.first_ms, found.second_ms


def exhaustive(model: Path, made: Plan, chosen: Candidate, seconds: float) -> Candidate:
    """The candidate that is fastest against the chosen one, each compared at length."""
    best, least = chosen, 1.0
    for candidate in made.candidates:
        if candidate is chosen or not candidate.feasible:
            continue
        found, _, _ = ratio(model, chosen, candidate, seconds)
        if found < least:
            best, least = candidate, found
    return best


def measure(name: str, model: Path, quick: bool) -> Row:
    """Chooses, tries everything, and compares afresh."""
    began = time.perf_counter()
    made = plan(model, budget_s=BUDGET_S, use_cache=False)
    choose_s = time.perf_counter() - began
    kept = []
    for _ in range(5):
        began = time.perf_counter()
        again = plan(model, budget_s=BUDGET_S)
        kept.append((time.perf_counter() - began) * 1e3)
        assert again.cached
    way = (made.variant, made.engine, made.accelerator)
    chosen = next(c for c in made.candidates if c.way == way and c.placement == made.placement)
    best = exhaustive(model, made, chosen, 0.4 if quick else 1.5)
    seconds = 1.0 if quick else 4.0
    lost, chosen_ms, best_ms = ratio(model, chosen, best, seconds) if best is not chosen else (1.0, 0.0, 0.0)
    default = next(c for c in made.candidates if c.feasible)
    source = next((c for c in made.candidates if c.variant in ("fp32", "source", default.variant)), default)
    gained, seen_ms, default_ms = ratio(model, chosen, source, seconds)
    return Row(
        model=name,
        candidates=sum(c.feasible for c in made.candidates),
        chosen=told(chosen),
        best=told(best),
        default_ms=default_ms,
        chosen_ms=chosen_ms or seen_ms,
        best_ms=best_ms or seen_ms,
        regret=max(0.0, 1 / lost - 1),
        default_loses=gained - 1,
        choose_s=choose_s,
        cached_ms=statistics.median(kept),
    )


def told(candidate: Candidate) -> str:
    """A candidate in a few characters."""
    threads = "default" if candidate.placement.threads is None else f"{candidate.placement.threads}t"
    return f"{candidate.variant}/{candidate.engine}/{threads}"


def summary(rows: list[Row]) -> dict[str, Any]:
    """The figures by name."""
    return {
        "models": len(rows),
        "mean_regret": statistics.mean(row.regret for row in rows),
        "worst_regret": max(row.regret for row in rows),
        "mean_default_loses": statistics.mean(row.default_loses for row in rows),
        "choose_s": max(row.choose_s for row in rows),
        "cached_ms": max(row.cached_ms for row in rows),
        "rows": [asdict(row) for row in rows],
    }


def main() -> None:
    """Prints the table, or the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few models, shorter comparisons")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--only", nargs="*", default=(), help="names of models")
    arguments = parser.parse_args()
    only = tuple(arguments.only) or (QUICK if arguments.quick else ())
    folder = Path(tempfile.mkdtemp(prefix="edge-sdk-regret-"))
    os.environ["EDGE_SDK_CACHE"] = str(folder / "cache")
    rows: list[Row] = []
    try:
        for name, source, twins in sources(only):
            row = measure(name, bundle_of(name, source, twins, folder), arguments.quick)
            rows.append(row)
            if not arguments.json:
                print(
                    f"{row.model:24} {row.candidates:3} ways  chose {row.chosen:38} best {row.best:38}"
                    f" {row.chosen_ms:8.3f} {row.best_ms:8.3f} ms  regret {row.regret:6.1%}"
                    f"  default loses {row.default_loses:6.1%}  {row.choose_s:5.1f} s  cached {row.cached_ms:.1f} ms",
                    flush=True,
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = summary(rows)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print(
            f"{figures['models']} models: mean regret {figures['mean_regret']:.1%},"
            f" worst {figures['worst_regret']:.1%};"
            f" choosing at most {figures['choose_s']:.1f} s, from cache {figures['cached_ms']:.1f} ms;"
            f" without choosing {figures['mean_default_loses']:.1%} lost"
        )


if __name__ == "__main__":
    main()
