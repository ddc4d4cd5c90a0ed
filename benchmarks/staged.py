"""What a model in stages answers where memory holds its weights once only, on two cores of unequal speed.

    python benchmarks/staged.py [--quick] [--json] [--only MODEL…] [--share SHARE]

One of two cores is slowed as in `benchmarks/asymmetric.py` (needs root, and says so where it is not). For each model
four processes are loaded, and measured in turn:

- `default`: the engine's own threads on all cores,
- `fast_only`: one thread on the fast core,
- `free`: `Session.stream` of what `objective="throughput"` chooses, with as much memory as it wants: mostly lanes,
- `bounded`: the same with `max_memory_mb` of 1.3 times what the model needs once, so that lanes are out.

Figures are milliseconds from answer to answer, and megabytes by which the process grew; ratios are medians over rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.asymmetric import (
    PLAN_BUDGET_S,
    Benchmark,
    Way,
    alone_ms,
    in_turn,
    measured,
    streamed_ms,
)

MODELS = ("mobilenet_v2_224", "squeezenet_224", "resnet18_112", "vit_96", "vgg_64", "mobilenet_v2_224_int8.tflite")
QUICK = ("resnet18_112", "vit_96")
WAYS = ("default", "fast_only", "free", "bounded")
MEMORY_TIMES = 1.3


def work(model: Path, way: str, fast: int) -> None:
    """What a process of a way does: loads, then measures for as long as each line on stdin says.

    Args:
        model: its file.
        way: one of `WAYS`; "bounded" with "=MB" behind it.
        fast: the CPU that is not slowed.
    """
    import edge_sdk
    from edge_sdk.engines.samples import made_up_feeds

    name, _, bound_mb = way.partition("=")
    asked: dict[str, Any] = {"plan_budget_s": 0}
    if name == "fast_only":
        asked = {"threads": 1, "cpus": [fast]}
    elif name != "default":
        asked = {"objective": "throughput", "plan_budget_s": PLAN_BUDGET_S}
        asked |= {"max_memory_mb": float(bound_mb)} if bound_mb else {}
    before_mb = resident_mb()
    session = edge_sdk.load(model, **asked)
    feeds = made_up_feeds(session.inputs)
    one = None if name in ("free", "bounded") else session.run
    for _ in session.stream([feeds] * 20):
        pass
    told = {
        "chosen": session.plan.placement.describe(),
        "grew_mb": resident_mb() - before_mb,
        "estimated_mb": session.plan.chosen.memory_mb,
    }
    print(json.dumps(told), flush=True)
    for line in sys.stdin:
        interval_ms = alone_ms(one, feeds, float(line)) if one is not None else streamed_ms(session, feeds, float(line))
        print(json.dumps({"interval_ms": interval_ms}), flush=True)


def resident_mb() -> float:
    """What this process has in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def judged(name: str, model: Path, fast: int, rounds: int) -> dict[str, Any]:
    """One model: a row."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-sdk-staged-"))
        ways: dict[str, Way] = {}
        for way in WAYS:
            asked = way
            if way == "bounded":
                asked += f"={MEMORY_TIMES * (ways['default'].told['estimated_mb'] or 0.0)}"
            if way in ("free", "bounded"):
                Way(model, asked, fast, cache, __file__).close()  # plans; the next one finds the plan, and is measured
            ways[way] = Way(model, asked, fast, cache, __file__)
            stack.callback(ways[way].close)
        found = in_turn(ways, rounds)
    better = min("default", "fast_only", key=lambda way: statistics.median(found[way]))
    gains = {
        way: statistics.median(best / one for best, one in zip(found[better], found[way], strict=True))
        for way in ("free", "bounded")
    }
    return {
        "model": name,
        **{way: statistics.median(times) for way, times in found.items()},
        "better": better,
        **{f"{way}_gain": gain for way, gain in gains.items()},
        **{f"{way}_mb": ways[way].told["grew_mb"] for way in WAYS},
        **{f"{way}_chosen": ways[way].chosen for way in ("free", "bounded")},
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"{'model':30} {'default':>8} {'fast only':>9} {'free':>8} {'bounded':>8} {'gains':>11}"
        f" {'MB once, free, bounded':>24}"
    ]
    lines += [
        f"{row['model'][:30]:30} {row['default']:8.2f} {row['fast_only']:9.2f} {row['free']:8.2f} {row['bounded']:8.2f}"
        f" {row['free_gain']:5.2f} {row['bounded_gain']:5.2f}"
        f" {row['fast_only_mb']:8.0f} {row['free_mb']:7.0f} {row['bounded_mb']:7.0f}"
        f"  {row['free_chosen']}; {row['bounded_chosen']}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Slows a core, runs all models and prints."""
    return measured(Benchmark(str(__doc__), MODELS, QUICK, work, judged, table))


if __name__ == "__main__":
    sys.exit(main())
