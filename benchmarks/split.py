"""The judge of plans over a link: the chosen plan against everything else, measured, and against the network's moods.

    python benchmarks/split.py [--quick] [--json] [--only MODEL…] [--cells N] [--resume FILE] [--seconds S] [--trace]

Device and endpoint are two processes on a processor each; the device is slowed by a quota of CPU time
(`benchmarks/slowed.py`, which needs root), the link is a process too (`benchmarks/shaped_link.py`). The grid is 6
bandwidths × 3 round trips × 3 device speeds × 4 models (`benchmarks/split_models.py`), all of it once more with
`keep_input_local`.

The device is calibrated at each speed (`edge-sdk device --calibrate`), once. A cell: the product loads the bundle
(`edge-sdk build --cuts`) at that speed over that link and chooses, as a user's program has it. All ways that could be
better are then measured, each pinned: every cut of the bundle, and the inputs, with every codec and coding that costs
at most a point of agreement there. A way is not measured in a cell where it cannot be the best: its bytes alone, with
the round trip, take longer there than the best measured way; or these with what it took beside them in another cell at
this device speed, less a twentieth, do (four fifths of that where only its uncoded form was measured at full speed,
with the device as much slower as local requests are). The chosen and the best way are measured afresh, in turns, before
a regret is told; it is 0 where they are the same way. Figures are the mean without the slowest, as the product times
requests. Predictions are those of the plan as it was made at load.

`--seconds` ends after so long, `--resume FILE` keeps what was measured and goes on from there: the full grid in pieces.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import split_trace
from benchmarks.split_judge import Cell, Judge, Known, Row, told_of, way_of
from benchmarks.split_models import MODELS, Model, bundled
from benchmarks.split_stage import Way, stage
from benchmarks.split_trace import judged

MBPS = (100.0, 30.0, 10.0, 4.0, 1.0, 0.25)
RTT_MS = (1.0, 20.0, 80.0)
SPEEDS = (1.0, 0.4, 0.15)
TRACED = "sound"
CUTS_S = 120.0
"""How long measuring a model's cuts by every codec may take: once, before anything is judged."""
QUICK = (("classifier", 0.15, 20.0, 30.0), ("classifier", 1.0, 80.0, 1.0), ("sound", 0.15, 1.0, 100.0))


class Kept:
    """Rows and what is known of ways, in a file between runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []
        self.known: dict[str, dict[Way, Known]] = {}
        if path.is_file():
            read = json.loads(path.read_text())
            self.rows = [Row(**row) for row in read["rows"]]
            for model, ways in read["known"].items():
                self.known[model] = {way_of(way): Known(**{**known, "refused": ""}) for way, known in ways}

    def write(self) -> None:
        """To the file, whole."""
        known = {
            model: [(told_of(way), asdict(one)) for way, one in ways.items()] for model, ways in self.known.items()
        }
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps({"rows": [asdict(row) for row in self.rows], "known": known}))
        part.replace(self._path)


def cells(only: Sequence[str]) -> list[Cell]:
    """The grid, so ordered that little has to be loaded anew."""
    return [Cell(m, s, r, b) for m in MODELS if not only or m in only for s in SPEEDS for r in RTT_MS for b in MBPS]


def run(wanted: Sequence[Cell], kept: Kept, folder: Path, seconds: float, tell: Callable[[Row], None]) -> bool:
    """Judges cells that are not in `kept`; False where time was up before all were."""
    until_s = time.monotonic() + seconds
    done = {(row.model, row.speed, row.rtt_ms, row.mbps) for row in kept.rows}
    left = [cell for cell in wanted if (cell.model, cell.speed, cell.rtt_ms, cell.mbps) not in done]
    if not left:
        return True
    models = made({cell.model for cell in left}, folder)
    with stage(folder, [model.path for model in models.values()]) as on:
        for name, model in models.items():
            known = kept.known.setdefault(name, {})
            for speed in dict.fromkeys(cell.speed for cell in left if cell.model == name):
                on.renew(speed)
                judge = Judge(on, model, known)
                try:
                    if not judge.refer(until_s):
                        return False
                    for cell in (cell for cell in left if (cell.model, cell.speed) == (name, speed)):
                        if time.monotonic() > until_s:
                            return False
                        rows = judge.judge(cell)
                        kept.rows += rows
                        for row in rows:
                            tell(row)
                        kept.write()
                finally:
                    kept.write()
                    judge.close()
    return True


def made(names: set[str], folder: Path) -> dict[str, Model]:
    """The models, with their requests, in `folder`."""
    found = {}
    for name in (name for name in MODELS if name in names):
        home = folder / "models" / name
        home.mkdir(parents=True, exist_ok=True)
        model = MODELS[name](home)
        model.save(home)
        found[name] = bundled(model, CUTS_S)
    return found


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures by name."""
    kinds = Counter(row.chosen.partition(" ")[0] for row in rows)
    errors, against = errors_of(rows), errors_of(rows, against_local=True)
    every = [error for each in errors.values() for error in each]
    # The predictions of a row are one plan's, made in one moment: a row of a hundred ways is no hundred witnesses.
    each_row = [[error for each in errors_of([row]).values() for error in each] for row in rows]
    of_rows = [statistics.median(each) for each in each_row if each]
    regrets = [row.regret for row in rows] or [0.0]
    return {
        "rows_judged": len(rows),
        "mean_regret": statistics.mean(regrets),
        "worst_regret": max(regrets),
        "regret_by_model": {
            name: statistics.mean(row.regret for row in rows if row.model == name)
            for name in dict.fromkeys(row.model for row in rows)
        },
        **{f"share_{kind}": kinds[kind] / max(len(rows), 1) for kind in ("local", "split", "offload", "cascade")},
        "best_shares": {
            kind: count / max(len(rows), 1)
            for kind, count in Counter(row.best.partition(" ")[0] for row in rows).items()
        },
        "prediction_median_error": statistics.median(every) if every else None,
        "prediction_median_error_of_rows": statistics.median(of_rows) if of_rows else None,
        "prediction_median_error_by_kind": {kind: statistics.median(each) for kind, each in errors.items()},
        "prediction_median_error_against_local": {kind: statistics.median(each) for kind, each in against.items()},
        "predictions": {kind: len(each) for kind, each in errors.items()},
        "measured_again_median_difference": statistics.median(again)
        if (again := [abs(ratio - 1) for row in rows for ratio in row.again])
        else None,
        "baselines": {
            name: statistics.mean(ratio) - 1
            for name in ("local", "raw", "jpeg")
            if (ratio := [getattr(row, f"{name}_ms") / row.best_ms for row in rows if getattr(row, f"{name}_ms")])
        },
        "median_overhead": statistics.median(over)
        if (over := [r.overhead for r in rows if r.overhead is not None])
        else None,
        "split_wins": sum(row.best.startswith("split") for row in rows if not row.keep_input_local),
        "left_unmeasured": sum(row.left for row in rows),
        "rows": [asdict(row) for row in rows],
    }


def errors_of(rows: Sequence[Row], *, against_local: bool = False) -> dict[str, list[float]]:
    """How far off predictions are, as shares, by the kind of way.

    Args:
        rows: of the grid.
        against_local: of what a way takes in local requests, predicted and measured: what the choice goes by. A machine
            that was faster when the plan was made does not count.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        ways, off = dict(row.measured), 1.0
        if against_local:
            local_ms, predicted_ms = ways.pop("local", (0.0, None))
            if not local_ms or not predicted_ms:
                continue
            off = predicted_ms / local_ms
        for way, (ms, predicted_ms) in ways.items():
            if predicted_ms is not None:
                found.setdefault(way.partition(" ")[0], []).append(abs(predicted_ms / off / ms - 1))
    return found


def line(row: Row) -> str:
    """A row of the table."""

    def ms(value: float | None, name: str = "") -> str:
        return "-" if value is None else f"{'>' if name in row.estimated else ''}{value:.0f}"

    keep = "kept" if row.keep_input_local else ""
    return (
        f"{row.model:10} {row.speed:4} {row.rtt_ms:3g} ms {row.mbps:5g} Mb/s {keep:4}"
        f" {row.chosen[:40]:40} {row.chosen_ms:7.1f}  best {row.best[:40]:40} {row.best_ms:7.1f}  {row.regret:6.1%}"
        f"  predicted {ms(row.predicted_ms):>5}  local {ms(row.local_ms):>5} raw {ms(row.raw_ms, 'raw'):>6}"
        f" jpeg {ms(row.jpeg_ms, 'jpeg'):>6}  {len(row.measured)} measured, {row.ruled_out} out, {row.left} left"
    )


def table(figures: dict[str, Any]) -> str:
    """The figures as text."""
    error = figures["prediction_median_error"]
    lines = [
        f"{figures['rows_judged']} rows: mean regret {figures['mean_regret']:.1%}, worst {figures['worst_regret']:.1%}",
        "chosen: " + ", ".join(f"{k} {figures[f'share_{k}']:.0%}" for k in ("local", "split", "offload", "cascade")),
        "best: " + ", ".join(f"{kind} {share:.0%}" for kind, share in figures["best_shares"].items()),
        "always that way, over the best: " + ", ".join(f"{k} +{v:.0%}" for k, v in figures["baselines"].items()),
    ]
    if figures["median_overhead"] is not None:
        lines.append(
            f"a session that chooses over one that was told to go that way: {figures['median_overhead']:+.1%} (median)"
        )
    if error is not None:
        kinds = figures["prediction_median_error_by_kind"].items()
        lines.append(
            f"prediction off by {error:.1%} (median; {figures['prediction_median_error_of_rows']:.1%} where each row"
            " counts once): " + ", ".join(f"{kind} {e:.1%}" for kind, e in kinds)
        )
        against = figures["prediction_median_error_against_local"].items()
        lines.append("in local requests, off by: " + ", ".join(f"{kind} {e:.1%}" for kind, e in against))
    if figures["measured_again_median_difference"] is not None:
        again = figures["measured_again_median_difference"]
        lines.append(f"the same way measured again, in the same cell: {again:.1%} apart (median)")
    return "\n".join(lines)


def follow(arguments: argparse.Namespace) -> int:
    """Runs the trace."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        file = arguments.resume or Path(temporary, "rows.json")
        kept, folder = Kept(file), file.with_suffix(".work")
        name = arguments.only[0] if arguments.only else TRACED
        model = made({name}, folder)[name]
        with stage(folder, [model.path]) as on:
            judge = Judge(on, model, kept.known.setdefault(name, {}))
            speed, seconds, every_ms = arguments.trace_speed, arguments.trace_seconds, arguments.trace_every_ms
            seconds = 30 if arguments.quick else seconds
            found = judged(on, judge, speed, seconds, every_ms, arguments.seed, arguments.trace_deadline)
            kept.write()
            judge.close()
    print(json.dumps(found) if arguments.json else split_trace.table(found))
    return 0


def main() -> int:
    """Runs the grid, or the trace."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was measured is kept, and no process left
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few cells, about a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", default=[], choices=list(MODELS), metavar="MODEL")
    parser.add_argument("--cells", type=int, metavar="N", help="no more than N cells in this run")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth cell of the grid")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no cell after so long")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="goes on from there, and keeps what it finds")
    parser.add_argument("--trace", action="store_true", help="following the link instead of the grid")
    parser.add_argument("--trace-seconds", type=int, default=150)
    parser.add_argument("--trace-speed", type=float, default=0.1, help="of the device")
    parser.add_argument("--trace-every-ms", type=float, default=600.0, help="between requests")
    parser.add_argument("--trace-deadline", type=float, default=4.0, help="of each request, in local ones")
    parser.add_argument("--seed", type=int, default=1, help="of the trace")
    arguments = parser.parse_args()
    if arguments.trace:
        return follow(arguments)
    wanted = [Cell(*cell) for cell in QUICK] if arguments.quick else cells(arguments.only)[:: arguments.every]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        file = arguments.resume or Path(temporary, "rows.json")
        kept = Kept(file)
        if arguments.cells is not None:
            done = {(row.model, row.speed, row.rtt_ms, row.mbps) for row in kept.rows}
            left = [cell for cell in wanted if (cell.model, cell.speed, cell.rtt_ms, cell.mbps) not in done]
            wanted = left[: arguments.cells]

        def tell(row: Row) -> None:
            if not arguments.json or sys.stderr.isatty():
                print(line(row), file=sys.stderr if arguments.json else sys.stdout, flush=True)

        whole = run(wanted, kept, file.with_suffix(".work"), arguments.seconds, tell)
    figures = summary(kept.rows) | {"complete": whole}
    print(json.dumps(figures) if arguments.json else table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
