"""`edge-sdk plan`: the best way to run a model or bundle here, or on a device that is not here, and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.cli.link_options import add_link_options, asked_offload, asks_for_link
from edge_sdk.cli.plain import plain
from edge_sdk.cli.tables import table

if TYPE_CHECKING:
    from edge_sdk.device.facts import Device
    from edge_sdk.planner import Candidate, Plan

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Lists the ways to run a model (variant, engine, accelerator, CPUs), predicts what each takes, measures those worth it
and keeps the best that holds the constraints. With --target nothing is measured: every figure is a prediction from the
device's profile. With --link or --endpoint the table also has every cut of the model, and the whole of it elsewhere."""
_MOST_ROWS = 24


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `plan`."""
    parser = subparsers.add_parser(
        "plan", help="choose the best way to run a model or bundle", description=_DESCRIPTION
    )
    parser.add_argument("model", metavar="MODEL|BUNDLE", help="a .onnx or .tflite file, or a bundle NAME.edge")
    parser.add_argument("--target", metavar="PROFILE", help="a device that is not here: a profile's name or file")
    parser.add_argument(
        "--objective", choices=("latency", "throughput", "energy", "bytes"), default="latency", help="what to minimise"
    )
    parser.add_argument("--max-latency-ms", type=float, metavar="MS", help="what one request may take")
    parser.add_argument("--min-accuracy", type=float, metavar="SHARE", help="what a variant must reach, from 0 to 1")
    parser.add_argument("--max-memory-mb", type=float, metavar="MB", help="what weights and activations may take")
    parser.add_argument("--rate", type=float, metavar="HZ", help="requests a second, paced as a camera would")
    parser.add_argument("--power-mode", choices=("performance", "balanced", "efficiency"), default="balanced")
    parser.add_argument("--budget", type=float, default=10.0, metavar="S", help="how long measuring may take (10)")
    parser.add_argument("--variant", metavar="NAME", help="the one variant of a bundle that is wanted")
    parser.add_argument("--fresh", action="store_true", help="measure again although a plan was kept")
    parser.add_argument("--explain", action="store_true", help="say in words why, and what would change the choice")
    parser.add_argument("--json", action="store_true", help="print the plan as one JSON object")
    add_link_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb. Returns the exit code."""
    if arguments.report is not None:
        from edge_sdk.planner.link_page import require_page

        require_page()  # before anything is measured for it
    made = _planned_over_link(arguments) if asks_for_link(arguments) else _planned(arguments)
    if arguments.report is not None:
        _write_report(arguments.report, made)
    if arguments.json:
        _print_json(made, arguments.explain)
    else:
        print("\n".join(_page(made, arguments.explain)))
    return 0


def _planned(arguments: argparse.Namespace) -> Plan:
    from edge_sdk.planner import plan

    return plan(
        arguments.model,
        _target(arguments.target),
        arguments.objective,
        max_latency_ms=arguments.max_latency_ms,
        min_accuracy=arguments.min_accuracy,
        max_memory_mb=arguments.max_memory_mb,
        rate_hz=arguments.rate,
        power_mode=arguments.power_mode,
        budget_s=arguments.budget,
        variant=arguments.variant,
        use_cache=not arguments.fresh,
    )


def _planned_over_link(arguments: argparse.Namespace) -> Plan:
    from edge_sdk.link_planning import plan_over_link
    from edge_sdk.planner import Wish

    wish = Wish(
        arguments.objective,
        arguments.max_latency_ms,
        arguments.power_mode,
        arguments.budget,
        None,
        arguments.min_accuracy,
        arguments.max_memory_mb,
        arguments.rate,
    )
    offload = asked_offload(arguments)
    try:
        return plan_over_link(
            arguments.model,
            offload,
            wish,
            device=_target(arguments.target),
            variant=arguments.variant,
            use_cache=not arguments.fresh,
        )
    finally:
        for endpoint in offload.owned:
            endpoint.close()


def _write_report(path: Path, made: Plan) -> None:
    from edge_sdk.planner.link_page import write_page

    chosen = made.remote.endpoint if made.remote is not None else None
    link = next((one for one in made.links if one.endpoint == chosen), made.links[0] if made.links else None)
    up_mbps = (link.up_mbps if link is not None else None) or 10.0
    down_mbps = (link.down_mbps if link is not None else None) or up_mbps
    rtt_ms, loss_share = (link.rtt_ms, link.loss_share) if link is not None else (20.0, 0.0)
    write_page(path, made, rtt_ms, up_mbps, down_mbps, loss_share)


def _target(name: str | None) -> Device | None:
    if name is None:
        return None
    from edge_sdk.device.profiles import load_profile

    return load_profile(name).device()


def _print_json(made: Plan, explained: bool) -> None:
    import msgspec

    from edge_sdk.planner import explain

    content = msgspec.to_builtins(made)
    if explained:
        content["explanation"] = explain(made)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n")


def _page(made: Plan, explained: bool) -> list[str]:
    from edge_sdk.planner import explain

    head = ("", "variant", "engine", "on", "placement", "predicted", "measured", "p95", "memory", "accuracy", "why")
    lines = table(head, [_row(made, candidate) for candidate in made.candidates if candidate.remote is None])
    remote = [candidate for candidate in made.candidates if candidate.remote is not None]
    if remote:
        lines += ["", *_over_link(made, remote)]
    kept = ", kept from an earlier plan" if made.cached else ""
    lines += ["", plain(f"{made.model} on {made.device}: {made.reason} (planned in {made.planning_ms:.0f} ms{kept})")]
    if explained:
        lines += ["", *(plain(line) for line in explain(made))]
    return lines


def _over_link(made: Plan, rows: Sequence[Candidate]) -> list[str]:
    head = ("", "kind", "cut", "codec", "up", "down", "head", "link", "there", "predicted", "energy", "leaks", "why")
    lines = table(head, [_link_row(made, row) for row in rows[:_MOST_ROWS]])
    if len(rows) > _MOST_ROWS:
        lines.append(f"and {len(rows) - _MOST_ROWS} more, see --json")
    return lines


def _link_row(made: Plan, row: Candidate) -> tuple[str, ...]:
    remote, figures = row.remote, row.predicted
    assert remote is not None
    energy_mj = None if figures is None else figures.energy_mj
    return (
        ">" if row is made.chosen else "" if row.feasible else "x",
        row.kind,
        plain(remote.cut),
        remote.codec if remote.coding == "none" else f"{remote.codec}+{remote.coding}",
        f"{remote.up_bytes:,} B",
        f"{remote.down_bytes:,} B",
        _ms(remote.head_ms) + ("" if remote.measured else " ~"),
        _ms(remote.link_ms),
        _ms(remote.endpoint_ms if figures is not None else None),
        _ms(figures.latency_ms if figures is not None else None),
        "-" if energy_mj is None else f"{energy_mj:.3g} mJ",
        "-" if remote.leakage is None else f"{remote.leakage:.0%}",
        plain(row.reason),
    )


def _row(made: Plan, candidate: Candidate) -> tuple[str, ...]:
    predicted, measured = candidate.predicted, candidate.measured
    return (
        ">" if candidate is made.chosen else "" if candidate.feasible else "x",
        plain(candidate.variant),
        candidate.engine or "-",
        plain(candidate.accelerator),
        candidate.placement.describe(),
        _ms(predicted.latency_ms if predicted is not None else None),
        _ms(measured.latency_ms if measured is not None else None),
        _ms(measured.p95_ms if measured is not None else None),
        "-" if candidate.memory_mb is None else f"{candidate.memory_mb:.0f} MB",
        "-" if candidate.accuracy is None else f"{candidate.accuracy:.4g}",
        plain(candidate.reason),
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} ms"
