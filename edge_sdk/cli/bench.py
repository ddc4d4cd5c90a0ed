"""`edge-sdk bench`: how fast a model or bundle is on this machine, and what it takes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.numbers import number, whole
from edge_sdk.cli.plain import plain
from edge_sdk.cli.progress import Stages

if TYPE_CHECKING:
    from edge_sdk.bench import BenchResult, Settings, Start
    from edge_sdk.measuring import Latencies

__all__ = ["add_parser", "as_text", "run"]

_EPILOG = """\
examples:
  edge-sdk bench model.onnx
  edge-sdk bench model.onnx --rate 30 --against onnxruntime
  edge-sdk bench model.edge --variant all --json
  edge-sdk bench model.onnx --cores little
  edge-sdk bench model.tflite --minutes 30 --rate 30

Latency is that of a request alone, back to back, unless a rate is given; every figure comes from a process that runs
nothing else. Comparisons are made in turn, in one process each."""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb and its options."""
    summary = "measure latency, start, memory and energy of a model or bundle, also paced or against another"
    parser = verbs.add_parser(
        "bench",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models", metavar="MODEL|BUNDLE", nargs="+", help=".onnx or .tflite files, or bundles NAME.edge"
    )
    parser.add_argument("--variant", metavar="NAME|all", help="of a bundle; the one that would be chosen by default")
    parser.add_argument("--engine", metavar="NAME", help="onnxruntime or litert; chosen by default")
    parser.add_argument("--accelerator", metavar="NAME", default="cpu", help="one that `edge-sdk device` lists")
    parser.add_argument(
        "--threads", metavar="N", type=whole(1, 1024), help="threads for one request; planned by default"
    )
    parser.add_argument("--cores", metavar="big|little|all|0,1", help="compute on these only; planned by default")
    parser.add_argument(
        "--power-mode", choices=("performance", "balanced", "efficiency"), default="balanced", help="what to plan for"
    )
    parser.add_argument(
        "--objective",
        choices=("latency", "throughput", "energy"),
        default="latency",
        help="what to plan for; use --concurrency with throughput",
    )
    parser.add_argument("--input", metavar="FILE", help="a picture, .npy or .npz file to feed; made up by default")
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=number(10_000, zero=False),
        default=3.0,
        help="for each kind of measurement (default 3)",
    )
    parser.add_argument("--rate", metavar="HZ", type=number(10_000, zero=False), help="also paced as a camera would")
    parser.add_argument("--concurrency", metavar="N", type=whole(1, 1024), help="also with N callers at once")
    parser.add_argument(
        "--minutes", metavar="M", type=number(10_000, zero=False), help="also for so long: first minute against last"
    )
    parser.add_argument(
        "--starts", metavar="N", type=whole(0, 1024), default=3, help="processes started to time that (default 3)"
    )
    parser.add_argument(
        "--against", metavar="MODEL|ENGINE", help="in turn with another model, or with onnxruntime or litert bare"
    )
    parser.add_argument(
        "--plan-budget",
        metavar="S",
        type=number(10_000, "seconds"),
        default=1.0,
        help="seconds for measuring on first use (default 1)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each model")


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from edge_sdk.bench import bench

    first = True
    for model in arguments.models:
        for variant in _variants(model, arguments.variant):
            with Stages() as progress:
                result = bench(model, _settings(arguments, model, variant), progress.show)
            if arguments.json:
                print(result.to_json().decode(), flush=True)
            else:
                print(("" if first else "\n") + as_text(result), flush=True)
            first = False
    return 0


def _variants(model: str, wanted: str | None) -> list[str | None]:
    if wanted != "all":
        return [wanted]
    from edge_sdk import bundle

    if not bundle.is_bundle(model):
        return [None]
    with bundle.open(model) as opened:
        return [variant.name for variant in opened.variants]


def _settings(arguments: argparse.Namespace, model: str, variant: str | None) -> Settings:
    from edge_sdk.bench import Settings

    return Settings(
        engine=arguments.engine,
        accelerator=arguments.accelerator,
        threads=arguments.threads,
        cores=arguments.cores,
        objective=arguments.objective,
        power_mode=arguments.power_mode,
        variant=variant,
        plan_budget_s=arguments.plan_budget,
        feeds=_feeds(arguments.input, model) if arguments.input else None,
        inputs=arguments.input or "made up",
        seconds=arguments.seconds,
        rate_hz=arguments.rate,
        concurrency=arguments.concurrency,
        minutes=arguments.minutes,
        starts=arguments.starts,
        against=arguments.against,
        against_feeds=_feeds(arguments.input, arguments.against) if _reads_other(arguments) else None,
    )


def _reads_other(arguments: argparse.Namespace) -> bool:
    from edge_sdk.bench import BARE_ENGINES

    return bool(arguments.input and arguments.against and arguments.against not in BARE_ENGINES)


def _feeds(path: str, model: str) -> Mapping[str, Any]:
    """One file as `edge-sdk run` would feed it."""
    from edge_sdk.bench.inputs import caller_specs
    from edge_sdk.cli.run_inputs import FeedPlan, input_files
    from edge_sdk.errors import InputValueError

    file = input_files([path])[0]
    inputs, outputs = caller_specs(model)
    plan = FeedPlan(model, inputs, outputs, {}, {})
    if file.kind == "array":
        from edge_sdk.cli.run_arrays import ArrayTask

        return ArrayTask(plan, None, 1).feeds(file.path)
    if file.kind == "picture":
        from edge_sdk.cli.run_options import add_options
        from edge_sdk.cli.run_pictures import PictureTask

        parser = argparse.ArgumentParser()
        add_options(parser)
        return PictureTask.make(parser.parse_args([model, "--input", path]), plan, None).feeds(file.path)
    raise InputValueError(f"{path}: a recording is cut into windows as the model wants them; give one as a .npy file")


def as_text(result: BenchResult) -> str:
    """Label and value, one below the other; what was not asked for is left out."""
    way, start, memory = result.way, result.start, result.memory
    version = f" {way.engine_version}" if way.engine_version else ""
    on = "" if way.accelerator == "cpu" else f" on {way.accelerator}"
    rows = [
        ("model", way.model if way.variant in way.model else f"{way.model}: {way.variant}"),
        ("ran by", f"{way.engine}{version}{on}, {way.placement}, on {result.device} ({result.usable_cpus} CPUs)"),
        ("because", way.why),
        ("inputs", result.inputs),
        ("latency", f"{_latencies(result.latency)}  ({result.warm_up_runs} warm-up runs)"),
        *_stream_rows(result),
        ("cold start", _start(start) if start is not None else ""),
        ("memory", f"{_mb(memory.peak_mb)} at its peak, {_mb(memory.private_mb)} of it shared with nobody"),
        ("energy", _energy(result)),
        *_against_rows(result),
        ("throttled", "yes: the machine was held down at the end" if result.throttled else ""),
        *(("note", note) for note in result.notes),
    ]
    return "\n".join(f"{title:<13}{plain(value)}" for title, value in rows if value)


def _stream_rows(result: BenchResult) -> list[tuple[str, str]]:
    rows = []
    if (paced := result.paced) is not None:
        missed = f", {paced.missed} frames missed" if paced.missed else ""
        times = paced.latencies.median_ms / result.latency.median_ms
        rows.append(
            (
                f"at {paced.rate_hz:g} Hz",
                f"{_latencies(paced.latencies)}{missed}; {times:.2f} times the median back to back",
            )
        )
    if (many := result.concurrent) is not None:
        rows.append((f"{many.concurrency} callers", f"{many.per_s:.4g} a second; {_latencies(many.latencies)}"))
    if (soak := result.soak) is not None:
        first, last = soak.first, soak.last
        rows.append(
            (
                f"{soak.minutes:.3g} minutes",
                f"first {first.seconds:.0f} s: median {_ms(first.median_ms)}, p99 {_ms(first.p99_ms)};"
                f" last {last.seconds:.0f} s: median {_ms(last.median_ms)}, p99 {_ms(last.p99_ms)};"
                f" {soak.ratio:.2f} times; memory {_growth(result)}",
            )
        )
    return rows


def _growth(result: BenchResult) -> str:
    before, after = result.memory.resident_mb, result.memory_at_end.resident_mb
    return "not told" if before is None or after is None else f"{after - before:+.1f} MB"


def _against_rows(result: BenchResult) -> list[tuple[str, str]]:
    against = result.against
    if against is None:
        return []
    pace = "back to back" if against.rate_hz is None else f"at {against.rate_hz:g} Hz"
    start, memory = against.start, against.memory
    return [
        ("against", f"{against.way.describe()}, {against.way.placement}, in turn, {pace}"),
        ("", f"this {_ms(against.this_ms)}, the other {_ms(against.other_ms)}: {against.verdict()}"),
        ("", f"the other: memory {_mb(memory.peak_mb)} at its peak"),
        ("", f"the other: cold start {_start(start)}" if start is not None else ""),
    ]


def _start(start: Start) -> str:
    return (
        f"{start.cold_ms:.0f} ms from process to first answer; of that load {start.load_ms:.0f} ms,"
        f" first run {start.first_run_ms:.3g} ms (median of {start.starts})"
    )


def _energy(result: BenchResult) -> str:
    energy = result.energy
    if energy is None:
        return result.energy_note
    return (
        f"{energy.request_mj:.3g} mJ a request, {energy.above_idle_mj:.3g} mJ above idle ({energy.total.watts:.3g} W,"
        f" idle {energy.idle_watts:.3g} W; {result.energy_note})"
    )


def _latencies(figures: Latencies) -> str:
    return (
        f"median {_ms(figures.median_ms)}, p90 {_ms(figures.p90_ms)}, p99 {_ms(figures.p99_ms)}"
        f" over {figures.runs:,} runs"
    )


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"


def _mb(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} MB"
