"""Predicted beside published: CPU latencies of twelve boards, each predicted without its board and without its network.

    python benchmarks/published_boards.py [--quick] [--json] [--write]

For each board and each network, rates are fitted to the other boards' figures of the other networks (a network's float
and int8 forms are held out together), and predict that board's figures of that network: all its thread counts and
clusters. Per board, the rank correlation of what was predicted with what was published stands beside that of MACs ×
int8 factor ÷ threads^0.8. `--write` fits to everything and writes the figures that the package ships.

The fit is a least-squares one in the logarithm of latency, drawn in to what is known without the figures: the order of
core designs, and that four bytes are computed with as fast as one float where nothing says otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.architectures.published import layers
from edge_sdk.device import load_profile
from edge_sdk.device.cpu_cores import design
from edge_sdk.device.facts import Device
from edge_sdk.planner import rates_cores
from edge_sdk.planner.cost_work import Work, class_of
from edge_sdk.planner.rates import ANY, Rates
from edge_sdk.planner.rates_cores import CoreFigures, core_class, derived_rates, maker
from edge_sdk.schedule.placing import Placement

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "assets" / "published_cpu_latency.json"
PROFILES = {"raspberry-pi-zero-2w": "raspberry-pi-zero-2-w"}
INT8_FACTOR = 0.5
THREAD_EXPONENT = 0.8
SORTS = ("conv", "conv_strided", "conv_1x1", "depthwise_conv")
PRIOR = {
    "neon": {"1x1": 3.0, "winograd": 2.5, "strided": 0.7, "depthwise": 0.3, "int8": 1.3, "winograd int8": 1.5},
    "fp16": {"1x1": 12.0, "winograd": 2.5, "strided": 0.7, "depthwise": 0.3, "int8": 1.3, "winograd int8": 1.5},
}
"""What the fit starts from, in products a cycle for 1×1 and in ratios to that: four lanes of NEON and four times as
many halves, three quarters of them in use; 3×3 by Winograd's way takes 2.25 to 5 times fewer products; gathering
strided pictures takes time; depthwise kernels load as much as they compute; int8 products are a little faster."""
GROUPS = tuple(PRIOR)
OFF = 0.15
"""How far published figures of one kind scatter, in the logarithm."""
DRAWN_IN = (0.15, 0.3, 0.6, 1.2)
"""Weights of the start to choose from."""
BYTES_A_CYCLE = 3.0
THREADED_PRIOR = {"products": 0.8, "products_int8": 0.8, "depthwise": 0.7, "stream": 0.5, "map": 0.5}
CROWDING = 0.05
THREADED = tuple(THREADED_PRIOR)
Numbers = np.ndarray[Any, np.dtype[np.float64]]
QUICK = 4
STEPS, SETTLED = 40, 1e-4
# Not published for these boards: figures of the same processor from calibrations here and from data sheets.
X86 = {
    "sse": {"float.conv": 6.0, "float.conv_1x1": 5.0, "float.depthwise_conv": 1.0, "int8.conv": 6.0, "int8.conv_1x1":
            5.0, "int8.depthwise_conv": 1.0, "bytes": 3.0},
    "avx2": {"float.conv": 13.0, "float.conv_1x1": 13.0, "float.depthwise_conv": 3.0, "int8.conv": 16.0,
             "int8.conv_1x1": 18.0, "int8.depthwise_conv": 3.0, "bytes": 4.0},
    "avx512": {"float.conv": 18.0, "float.conv_1x1": 20.0, "float.depthwise_conv": 4.0, "int8.conv": 24.0,
               "int8.conv_1x1": 28.0, "int8.depthwise_conv": 4.0, "bytes": 4.0},
}  # fmt: skip


ABOUT = (
    "Multiply-accumulates a clock cycle of one core, by instruction sets and sort of kernel; cores beside the reference"
    " core of their class. Fitted by benchmarks/published_boards.py to the CPU latencies that Tencent/ncnn publishes"
    " (BSD-3-Clause); x86 from calibrations and data sheets."
)


@dataclass(frozen=True, slots=True)
class Case:
    """One published figure."""

    board: str
    network: str
    int8: bool
    threads: int
    cores: str
    latency_ms: float
    gmacs: float


def cases() -> list[Case]:
    """All of them."""
    published = json.loads(PUBLISHED.read_text())
    found = []
    for board, entry in published["boards"].items():
        for run in entry["runs"]:
            for name, latency in run["latency_ms"].items():
                network = name.removesuffix("_int8")
                gmacs = published["macs"][network] / 1e9
                found.append(Case(board, network, name != network, run["threads"], run["cores"], latency["min"], gmacs))
    return found


def rule(case: Case) -> float:
    """MACs × int8 factor ÷ threads^0.8."""
    return case.gmacs * (INT8_FACTOR if case.int8 else 1.0) / case.threads**THREAD_EXPONENT


# --- predicting and fitting ---


@lru_cache(maxsize=64)
def device(board: str) -> Device:
    """The board as its profile tells."""
    return load_profile(PROFILES.get(board, board)).device()


def predicted_ms(case: Case, figures: CoreFigures) -> float:
    """What rates derived from the figures say."""
    board = device(case.board)
    values = derived_rates(board, figures)
    assert values is not None, case.board
    rates, works = _rates(board, values), _works(case)
    place = rates.place_of(Placement(cpus=_cpus(board, case.cores), threads=case.threads))
    shares = np.array([rates.placed(ANY, class_of(work), place) for work in works])
    return float((rates.kernels_us(ANY, works) * shares[:, 0] + shares[:, 1]).sum()) / 1e3


def _rates(board: Device, values: dict[str, float]) -> Rates:
    return Rates("derived", values, {c.id: c.cpus for c in board.clusters}, board.usable_cpus)


def _works(case: Case) -> list[Work]:
    """The kernels in the precision that the published engine computes in: 16-bit floats where cores can."""
    if case.int8:
        precision, size = "int8", 1
    else:
        precision, size = ("float16", 2) if core_class(device(case.board)) == "fp16" else ("float32", 4)
    return [
        Work(w.sort, precision, w.macs, w.input_bytes * size, w.output_bytes * size, w.parameter_bytes * size)
        for w in layers(case.network)
    ]


def _cpus(board: Device, cores: str) -> tuple[int, ...] | None:
    if cores == "all":
        return None
    chosen = [c for c in board.clusters if (c.role == "little") == (cores == "little")]
    return tuple(cpu for cluster in chosen for cpu in cluster.cpus)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each figure stands among the numbers that are fitted.

    Attributes:
        cores: whose speeds are fitted.
        makers: whose chips' memory is fitted.
    """

    cores: tuple[str, ...]
    makers: tuple[str, ...]

    def speed(self, group: str, precision: str, sort: str) -> int:
        """Products a cycle."""
        return (GROUPS.index(group) * 2 + ("float", "int8").index(precision)) * len(SORTS) + SORTS.index(sort)

    def bytes(self, group: str) -> int:
        """Bytes a cycle."""
        return 4 * len(SORTS) + GROUPS.index(group)

    def threads(self, kernels: str) -> int:
        """Exponent of a class of kernels."""
        return 4 * len(SORTS) + 2 + THREADED.index(kernels)

    def core(self, name: str) -> int:
        """Speed of a core."""
        return 4 * len(SORTS) + 2 + len(THREADED) + self.cores.index(name)

    def crowding(self, name: str) -> int:
        """Longer for each thread beside the first."""
        return 4 * len(SORTS) + 2 + len(THREADED) + len(self.cores) + self.makers.index(name)

    def start(self) -> Numbers:
        """Logarithms of what is known without any figure."""
        values = [value for group in PRIOR.values() for value in group.values()]
        values += [BYTES_A_CYCLE] * 2 + [THREADED_PRIOR[name] for name in THREADED]
        for core in self.cores:
            reference = "cortex-a76" if {"fp16", "dotprod"} <= set(design(core).isa) else "cortex-a72"
            values.append(design(core).rank / design(reference).rank)
        return np.log(np.array([*values, *[CROWDING] * len(self.makers)]))

    def numbers(self, parameters: Numbers) -> Numbers:
        """What the parameters stand for: the ratios multiplied out."""
        logs, each = [], len(next(iter(PRIOR.values())))
        for start in range(0, each * len(PRIOR), each):
            one, winograd, strided, depthwise, int8, winograd8 = parameters[start : start + each]
            logs += [one + winograd, one + strided, one, one + depthwise]
            logs += [one + int8 + winograd8, one + int8 + strided, one + int8, one + int8 + depthwise]
        return np.exp(np.concatenate([logs, parameters[each * len(PRIOR) :]]))

    def mixing(self) -> Numbers:
        """How the logarithms of the numbers change with the parameters: [numbers, parameters]."""
        return np.stack([np.log(self.numbers(unit)) for unit in np.eye(len(self.start()))], axis=1)

    def figures(self, parameters: Numbers) -> CoreFigures:
        """The numbers by name."""
        values = self.numbers(parameters)
        classes = {
            group: {
                **{
                    f"{p}.{sort}": float(values[self.speed(group, p, sort)])
                    for p in ("float", "int8")
                    for sort in SORTS
                },
                "bytes": float(values[self.bytes(group)]),
            }
            for group in GROUPS
        }
        threads = {name: float(values[self.threads(name)]) for name in THREADED}
        crowding = {f"crowding.{name}": float(values[self.crowding(name)]) for name in self.makers}
        threads |= {"crowding": float(np.median(list(crowding.values())))} | crowding
        return CoreFigures(classes, {name: float(values[self.core(name)]) for name in self.cores}, threads)


class Rows:
    """The same as `predicted_ms`, for many cases at once and with slopes.

    Args:
        cases: what to predict.
        layout: of the parameters; it knows the boards of all cases.
    """

    def __init__(self, cases: Sequence[Case], layout: Layout) -> None:
        self.layout, self.mixing = layout, layout.mixing()
        self.wanted = np.log([case.latency_ms for case in cases])
        rows = [(number, *row) for number, case in enumerate(cases) for row in _rows(case, layout)]
        self.case, self.speed, self.byte, self.thread = (np.array([row[k] for row in rows]) for k in range(4))
        self.macs, self.bytes, self.cycles = (np.array([row[k] for row in rows]) for k in range(4, 7))
        self.threads = np.log([case.threads for case in cases])[self.case]
        slowest = [_slowest(case) for case in cases]
        self.core = np.array([layout.core(name) for name, _ in slowest])
        self.mhz = np.array([mhz for _, mhz in slowest])
        self.crowding = np.array([layout.crowding(maker(device(case.board))) for case in cases])
        self.others = np.array([case.threads - 1 for case in cases])

    def error(self, parameters: Numbers) -> Numbers:
        """Log of predicted over published."""
        return self.error_and_slopes(parameters)[0]

    def error_and_slopes(self, parameters: Numbers) -> tuple[Numbers, Numbers]:
        """Log of predicted over published, and how it changes with each parameter: [cases, parameters]."""
        values, every = self.layout.numbers(parameters), np.arange(len(self.wanted))
        split = np.exp(-values[self.thread] * self.threads)
        computing, moving = self.macs / values[self.speed] * split, self.bytes / values[self.byte] * split
        each = computing + moving + self.cycles * split
        total = np.bincount(self.case, each, len(every))
        crowded = values[self.crowding] * self.others
        error = np.log(total / values[self.core] / self.mhz / 1e3 * (1 + crowded)) - self.wanted
        slopes, share = np.zeros((len(every), len(values))), 1 / total[self.case]
        np.add.at(slopes, (self.case, self.speed), -computing * share)
        np.add.at(slopes, (self.case, self.byte), -moving * share)
        np.add.at(slopes, (self.case, self.thread), -values[self.thread] * self.threads * each * share)
        slopes[every, self.core] -= 1
        slopes[every, self.crowding] += crowded / (1 + crowded)
        return error, slopes @ self.mixing


def solved(known: Sequence[Case], layout: Layout, drawn_in: float) -> Numbers:
    """Parameters by least squares in log latency, far-off cases with less weight, drawn in to the start."""
    rows, start = Rows(known, layout), layout.start()
    found = start.copy()
    for _ in range(STEPS):
        off, slopes = rows.error_and_slopes(found)
        weights = 1 / np.sqrt(np.maximum(np.abs(off) / OFF, 1.0))
        matrix = np.vstack([slopes * weights[:, None], drawn_in * np.eye(len(found))])
        move = np.linalg.lstsq(matrix, np.concatenate([off * weights, drawn_in * (found - start)]), rcond=None)[0]
        found = found - np.clip(move, -0.5, 0.5)
        if np.abs(move).max() < SETTLED:
            break
    return found


@lru_cache(maxsize=4096)
def _rows(case: Case, layout: Layout) -> list[tuple[int, int, int, float, float, float]]:
    """Kernels of a kind together: where their figures stand, products, bytes moved, other cycles."""
    group = core_class(device(case.board))
    sums: dict[tuple[int, int, int], list[float]] = {}
    for work in _works(case):
        key = (
            layout.speed(group, "int8" if case.int8 else "float", work.sort if work.macs else SORTS[0]),
            layout.bytes(group),
            layout.threads(class_of(work)),
        )
        row = sums.setdefault(key, [0.0, 0.0, 0.0])
        row[0] += work.macs
        row[1] += work.input_bytes + work.output_bytes + work.parameter_bytes
        row[2] += rates_cores.CALL_CYCLES
    return [(*key, *row) for key, row in sums.items()]  # type: ignore[misc]


def _slowest(case: Case) -> tuple[str, float]:
    board = device(case.board)
    place = _rates(board, {}).place_of(Placement(cpus=_cpus(board, case.cores), threads=case.threads))
    chosen = [c for c in board.clusters if c.id in place.clusters]
    slowest = min(chosen, key=lambda c: design(c.core).rank * (c.max_mhz or 1))
    return slowest.core, float(slowest.max_mhz)


def fitted(known: Sequence[Case]) -> CoreFigures:
    """Figures with the weight of the start that predicts best, among the known cases only, a network left out of them.

    What is held out from `known` has no say in the choice.
    """
    layout = layout_of(known)
    best = min(DRAWN_IN, key=lambda weight: _left_out_error(known, layout, weight))
    return layout.figures(solved(known, layout, best))


def layout_of(known: Sequence[Case]) -> Layout:
    """The layout for the boards of some cases."""
    boards = [device(board) for board in sorted({case.board for case in known})]
    cores = {cluster.core for board in boards for cluster in board.clusters if cluster.core}
    return Layout(tuple(sorted(cores)), tuple(sorted({maker(board) for board in boards})))


def _left_out_error(known: Sequence[Case], layout: Layout, drawn_in: float) -> float:
    """Mean absolute error in the logarithm over networks left out in turn."""
    errors: list[float] = []
    for network in dict.fromkeys(case.network for case in known):
        parameters = solved([case for case in known if case.network != network], layout, drawn_in)
        left_out = Rows([case for case in known if case.network == network], layout)
        errors += np.abs(left_out.error(parameters)).tolist()
    return statistics.fmean(errors)


def compared(boards: int | None = None) -> dict[str, Any]:
    """Part (c) of the prediction benchmark; for the first `boards` only where that is given."""
    every = cases()
    rows = []
    for board in list(dict.fromkeys(case.board for case in every))[:boards]:
        own = [case for case in every if case.board == board]
        others = [case for case in every if case.board != board]
        new_board = fitted(others)
        strict = {
            network: fitted([case for case in others if case.network != network])
            for network in dict.fromkeys(case.network for case in own)
        }
        truth = [case.latency_ms for case in own]
        rows.append(
            {
                "board": board,
                "cases": len(own),
                "ours": _ranks([predicted_ms(case, strict[case.network]) for case in own], truth),
                "ours_networks_known": _ranks([predicted_ms(case, new_board) for case in own], truth),
                "rule": _ranks([rule(case) for case in own], truth),
            }
        )
    return {
        "boards": rows,
        "boards_equal": sum(row["ours"] == row["rule"] for row in rows),
        "boards_better": sum(row["ours"] > row["rule"] for row in rows),
        "boards_better_networks_known": sum(row["ours_networks_known"] > row["rule"] for row in rows),
        "ours_mean": statistics.fmean(row["ours"] for row in rows),
        "rule_mean": statistics.fmean(row["rule"] for row in rows),
    }


def _ranks(first: Sequence[float], second: Sequence[float]) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def write(figures: CoreFigures) -> None:
    """Writes the package's figures."""

    def rounded(table: Any) -> Any:
        if isinstance(table, dict):
            return {key: rounded(value) for key, value in sorted(table.items())}
        return float(f"{table:.3g}")

    vnni = {
        f"{group} vnni": {k: v * (3.0 if k.startswith("int8.") else 1.0) for k, v in table.items()}
        for group, table in X86.items()
        if group != "sse"
    }
    content = {
        "about": ABOUT,
        "classes": rounded(figures.classes | X86 | vnni),
        "cores": rounded(figures.cores),
        "threads": rounded(figures.threads),
    }
    Path(rates_cores.__file__).with_name("rates_cores.json").write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK} boards")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--write", action="store_true", help="fit to everything and write the package's figures")
    arguments = parser.parse_args()
    if not PUBLISHED.exists():
        parser.exit(0, f"{parser.prog}: {PUBLISHED} is not here: there is nothing to compare with\n")
    result = compared(QUICK if arguments.quick else None)
    if arguments.write:
        write(fitted(cases()))
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        for row in result["boards"]:
            print(
                f"{row['board']:<24}{row['cases']:>4} cases   ours {row['ours']:.3f}   rule {row['rule']:.3f}"
                f"   networks known {row['ours_networks_known']:.3f}"
            )
        print(
            f"better on {result['boards_better']} of {len(result['boards'])};"
            f" where the networks are known on {result['boards_better_networks_known']}"
        )


if __name__ == "__main__":
    main()
