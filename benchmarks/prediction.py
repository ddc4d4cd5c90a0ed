"""How well latencies are predicted: at other placements, of models never run, and on published boards.

    python benchmarks/prediction.py [--quick] [--json]

(a) Placements: a model is profiled once on one thread; its latency on two threads follows by prediction.
(b) Models never run: the cost model knows only the synthetic networks of the calibration; every model here is an
    architecture held out. The engine runs them only to know the truth.
(c) Published boards: rank correlation per board, beside that of MACs × int8 factor ÷ threads^0.8. Each figure is
    predicted by rates fitted without its board and without its network.

The machine is calibrated and the truth measured in turn, several times over; what counts is the median of the ratios of
predicted to true within a pass, both told at the same pace of the machine (a probe runs before and behind every
timing, and runs that were interrupted do not count). `floor` tells how well the truth of one pass agrees with that of
another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import zoo
from benchmarks.published_boards import PUBLISHED, compared
from benchmarks.published_boards import QUICK as QUICK_BOARDS
from edge_sdk.device import probe
from edge_sdk.device.facts import Device
from edge_sdk.engines.registry import engine_versions
from edge_sdk.formats.onnx_wire import without_initializer_inputs
from edge_sdk.graph import open_graph
from edge_sdk.graph.view import Graph
from edge_sdk.planner import calibration_litert as litert
from edge_sdk.planner import calibration_onnxruntime as onnxruntime
from edge_sdk.planner.calibration import BUDGET_S, calibrate, places_of
from edge_sdk.planner.calibration_networks import probe_network
from edge_sdk.planner.calibration_profile import KernelTime, class_of_event
from edge_sdk.planner.calibration_stand import Opener, Stand, in_turn, totals_us
from edge_sdk.planner.calibration_tflite import tflite_probe
from edge_sdk.planner.calibration_timing import NEAR, Delays, good_pairs
from edge_sdk.planner.cost import CostModel, Profile
from edge_sdk.planner.rates import Rates, probe_key

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT.parent / "shared" / "assets"
LIGHT = ROOT / ".cache" / "onnx-backend" / "light"
NOT_HERE = ("must_fail_custom_op", "silero_vad_16k")
"""Shared models that no engine runs, or whose made-up inputs mean nothing."""
LEAST_MS = 0.2
PASSES = 3
TRIES = 3
CALM = 0.5
"""A calibration with fewer undisturbed timings is made again."""
LEAST_SAMPLES = 3
PROFILED_SHARE = 0.3
QUICK = ("mobilenet_v2_035_96", "resnet20_32", "squeezenet_96", "vit_96", "text_64", "densenet_112", "unet_resize_96",
         "yolo_silu_160", "keywords_wide", "shufflenet_v2_050_128", "resnet18_112", "convnext_96")  # fmt: skip


def onnx_models(folder: Path, quick: bool) -> dict[str, bytes]:
    """Architectures of the zoo, ONNX's light models, and the shared ones where they are there, by name."""
    found = {name: path.read_bytes() for name, path in zoo.write(folder, QUICK if quick else None).items()}
    paths = [] if quick else sorted(LIGHT.glob("*.onnx"))
    for path in [*paths, *_shared("*.onnx")]:
        found[path.stem] = bytes(without_initializer_inputs(path.read_bytes())[0])
    return found


def tflite_models() -> dict[str, bytes]:
    """The shared ones, by name."""
    return {f"{path.stem}.tflite": path.read_bytes() for path in _shared("*.tflite")}


def _shared(pattern: str) -> list[Path]:
    return sorted(path for path in (ASSETS / "models").glob(pattern) if path.stem not in NOT_HERE)


@dataclass(frozen=True)
class Bench:
    """What an engine needs to be timed.

    Attributes:
        engine: its name.
        opener: loads a file.
        probe: its file that tells the machine's pace.
        profiles: whether the engine tells times of kernels.
        contents: file by name.
        graphs: the same as graphs.
    """

    engine: str
    opener: Opener
    probe: bytes
    profiles: bool
    contents: Mapping[str, bytes]
    graphs: Mapping[str, Graph]


def benches(quick: bool) -> list[Bench]:
    """ONNX Runtime, and LiteRT where it is installed and there are models for it."""
    with tempfile.TemporaryDirectory() as folder:
        contents = onnx_models(Path(folder), quick)
    found = [Bench("onnxruntime", onnxruntime.opened, probe_network().content, True, contents, _graphs(contents))]
    contents = tflite_models()
    if contents and "litert" in engine_versions():
        found.append(Bench("litert", litert.opened, tflite_probe(), False, contents, _graphs(contents)))
    return found


def _graphs(contents: Mapping[str, bytes]) -> dict[str, Graph]:
    return {name: open_graph(content) for name, content in contents.items()}


def calibrated(device: Device, engines: Sequence[str], budget_s: float) -> dict[str, float]:
    """Rates from a calibration that was not disturbed too much; of several the least disturbed one."""
    tried = []
    for number in range(TRIES):
        values = calibrate(device, engines, budget_s)
        share = min(value for key, value in values.items() if key.endswith(".undisturbed"))
        tried.append((share, number, values))
        if share >= CALM:
            break
        print(f"calibration {number + 1}: {share:.0%} of the timings undisturbed", file=sys.stderr)
    return max(tried)[2]


class Pass:
    """One calibration and the truth measured right after it.

    Args:
        found: engines with their models.
        calibrate_s: budget of the calibration.
        truth_s: for each model and engine about so long.
    """

    def __init__(self, found: Sequence[Bench], calibrate_s: float, truth_s: float) -> None:
        device = probe(engines=engine_versions())
        values = calibrated(device, [bench.engine for bench in found], calibrate_s)
        clusters = MappingProxyType({cluster.id: cluster.cpus for cluster in device.clusters})
        self.rates = Rates("calibrated", MappingProxyType(values), clusters, device.usable_cpus)
        self.places = places_of(device)
        self.models: dict[str, CostModel] = {}
        self.profiles: dict[str, Profile] = {}
        self.truth_ms: dict[int, dict[str, float]] = {place.threads: {} for place, _ in self.places}
        for bench in found:
            self._measure(bench, truth_s * len(bench.contents))

    def unseen(self, name: str, threads: int) -> float:
        """Predicted over true, of a model never run."""
        return self.models[name].predict(threads).latency_ms / self.truth_ms[threads][name]

    def elsewhere(self, name: str, threads: int) -> float:
        """Predicted over true, at a placement where the profiled model was never run."""
        return self.models[name].predict(threads, self.profiles[name]).latency_ms / self.truth_ms[threads][name]

    def _measure(self, bench: Bench, truth_s: float) -> None:
        delays, began = Delays(), time.perf_counter()
        kernels = self._profiled(bench, began + truth_s * PROFILED_SHARE, delays) if bench.profiles else {}
        stands = [Stand(*place, bench.opener, bench.probe, delays) for place in self.places]
        in_turn(stands, bench.contents, began + truth_s)
        delays.close()
        paces_ms = [self.rates.values[probe_key(bench.engine, stand.place)] for stand in stands]
        for number, (stand, found) in enumerate(zip(stands, totals_us(stands, paces_ms), strict=True)):
            known = {name for name in found if self._is_known(stands[0], stand, name, paces_ms[0], paces_ms[number])}
            self.truth_ms[stand.place.threads] |= {name: found[name] / 1e3 for name in known}
        for name in self.truth_ms[1].keys() & bench.contents.keys():
            model = self.models[name] = CostModel(bench.graphs[name], bench.engine, self.rates)
            latency_ms = self.truth_ms[1][name]
            self.profiles[name] = model.measured(1, latency_ms)
            if name in kernels:
                found = onnxruntime.without_profiler(kernels[name], latency_ms * 1e3)
                classes = tuple((class_of_event(kernel), time_us) for kernel, time_us in found)
                self.profiles[name] = Profile(1, latency_ms, classes)

    def _is_known(self, first: Stand, stand: Stand, name: str, first_pace_ms: float, pace_ms: float) -> bool:
        """Whether enough timings were undisturbed and at calibration's pace."""
        pairs = good_pairs(first.subjects[name].samples, stand.subjects[name].samples, first_pace_ms, pace_ms)
        good = [max(a.off(first_pace_ms), b.off(pace_ms)) <= NEAR and a.is_good and b.is_good for a, b in pairs]
        return sum(good) >= LEAST_SAMPLES

    def _profiled(self, bench: Bench, deadline: float, delays: Delays) -> dict[str, list[tuple[KernelTime, float]]]:
        with tempfile.TemporaryDirectory() as folder:
            stand = Stand(*self.places[0], bench.opener, bench.probe, delays)
            in_turn([stand], bench.contents, deadline, profiles=Path(folder))
            pace_ms = self.rates.values[probe_key(bench.engine, stand.place)]
            return {name: onnxruntime.profiled_kernels(one, pace_ms) for name, one in stand.subjects.items()}


def within(ratios: Iterable[float], share: float) -> float:
    """How many of the ratios are within a share of 1."""
    found = [abs(ratio - 1) <= share for ratio in ratios]
    return statistics.fmean(found) if found else float("nan")


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def measured(quick: bool) -> dict[str, Any]:
    """Parts (a) and (b)."""
    found = benches(quick)
    count, truth_s = (1, 1.0) if quick else (PASSES, 1.0)
    passes = [Pass(found, BUDGET_S, truth_s) for _ in range(count)]
    rows = []
    for bench in found:
        for name in bench.contents:
            row: dict[str, Any] = {"model": name, "engine": bench.engine}
            for threads in passes[0].truth_ms:
                seen = [one for one in passes if name in one.models and name in one.truth_ms[threads]]
                if not seen:
                    continue
                row[f"true_ms_{threads}"] = statistics.median(one.truth_ms[threads][name] for one in seen)
                row[f"unseen_{threads}"] = statistics.median(one.unseen(name, threads) for one in seen)
                if threads > 1:
                    row[f"placement_{threads}"] = statistics.median(one.elsewhere(name, threads) for one in seen)
                if len(seen) > 1:
                    row[f"floor_{threads}"] = _floor(seen, name, threads)
            rows.append(row)
    return _summary(rows, list(passes[0].truth_ms))


def _floor(passes: Sequence[Pass], name: str, threads: int) -> float:
    """Truth of the last pass over that of the first, each over the mean of all models: what drifts together falls
    out."""
    first, last = passes[0].truth_ms[threads], passes[-1].truth_ms[threads]
    common = [key for key in first if key in last]
    usual = statistics.median(last[key] / first[key] for key in common)
    return last[name] / first[name] / usual


def _summary(rows: list[dict[str, Any]], threads: Sequence[int]) -> dict[str, Any]:
    long = {n: [row for row in rows if row.get(f"true_ms_{n}", 0) >= LEAST_MS] for n in threads}
    placements = [row[f"placement_{n}"] for n in threads if n > 1 for row in long[n] if f"placement_{n}" in row]
    unseen = [row[f"unseen_{n}"] for n in threads for row in long[n]]
    ranks = [
        spearman(
            [row[f"true_ms_{n}"] * row[f"unseen_{n}"] for row in long[n]], [row[f"true_ms_{n}"] for row in long[n]]
        )
        for n in threads
    ]
    return {
        "models": len(rows),
        "placements": len(placements),
        "placements_within_10": within(placements, 0.10),
        "heldout": len(unseen),
        "heldout_within_25": within(unseen, 0.25),
        "heldout_within_10": within(unseen, 0.10),
        "heldout_rank_correlation": min(ranks),
        "floor_within_10": within([row[f"floor_{n}"] for n in threads for row in long[n] if f"floor_{n}" in row], 0.10),
        "rows": rows,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer models, one pass")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    result = measured(arguments.quick)
    if PUBLISHED.exists():
        result |= compared(QUICK_BOARDS if arguments.quick else None)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for row in result["rows"]:
        figures = "  ".join(f"{key} {value:8.3f}" for key, value in row.items() if isinstance(value, float))
        print(f"{row['model']:<26}{row['engine']:<12}{figures}")
    for board in result.get("boards", ()):
        print(f"{board['board']:<26}ours {board['ours']:.3f}  rule {board['rule']:.3f}")
    for key, value in result.items():
        if key not in ("rows", "boards"):
            print(f"{key:<32}{value:.3f}" if isinstance(value, float) else f"{key:<32}{value}")


if __name__ == "__main__":
    main()
