"""`edge-sdk device`: what this machine is, which accelerators work, and the profiles of known devices."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from edge_sdk.cli.tables import table
from edge_sdk.device.facts import Accelerator, Cache, Cluster, Device
from edge_sdk.device.sysroot import cpu_list_text

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Shows what this machine is: clusters of cores, memory, instruction sets, accelerators, engines. An accelerator that is
present is usable only after --prove has run a small model there; what was proven before is remembered."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `device`."""
    parser = subparsers.add_parser(
        "device", help="what this machine is, and which accelerators work", description=_DESCRIPTION
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sysroot", metavar="DIR", default="/", help="read another machine's files below DIR")
    parser.add_argument(
        "--prove", action="store_true", help="run a small model on each accelerator, in a child process"
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="measure how fast the engines run here (half a minute), and keep it"
    )
    parser.add_argument("--list", action="store_true", help="list the profiles of known devices")
    parser.add_argument("--export", metavar="FILE", help="write this device as a profile (YAML)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb. Returns the exit code."""
    if arguments.list:
        return _list_profiles(arguments.json)
    here = os.path.realpath(arguments.sysroot) == "/"
    if arguments.prove and not here:
        print("edge-sdk device: --prove runs models on this machine, so it does not go with --sysroot", file=sys.stderr)
        return 2
    if arguments.calibrate and not here:
        print("edge-sdk device: --calibrate measures this machine, so it does not go with --sysroot", file=sys.stderr)
        return 2
    device = _read_device(arguments.sysroot, here, arguments.prove)
    if arguments.calibrate:
        device = _calibrated(device)
    if arguments.export:
        from edge_sdk.device.profiles import export_profile

        export_profile(device, arguments.export)
        print(f"wrote {arguments.export}", file=sys.stderr)
    if arguments.json:
        _print_json(device)
    elif not arguments.export:
        print("\n".join(_page(device)))
    return 0


def _read_device(sysroot: str, here: bool, prove: bool) -> Device:
    import msgspec

    from edge_sdk.device import probe

    if not here:
        return probe(sysroot)
    from edge_sdk.engines.accelerators import find_accelerators
    from edge_sdk.engines.proof_verdicts import recall
    from edge_sdk.engines.registry import engine_versions

    device = probe(engines=engine_versions(), accelerators=find_accelerators())
    if prove:
        accelerators = _prove_aloud(device)
    else:
        accelerators = recall(device.accelerators, device.fingerprint)
    from edge_sdk.planner.rates_kept import kept_rates

    return msgspec.structs.replace(device, accelerators=accelerators, rates=kept_rates(device.fingerprint))


def _calibrated(device: Device) -> Device:
    import msgspec

    from edge_sdk.cli.progress import Steps
    from edge_sdk.planner.calibration import calibrate
    from edge_sdk.planner.rates_kept import keep_rates

    with Steps() as steps:
        rates = calibrate(
            device, progress=lambda engine, share: steps(f"calibrating {engine}", round(share * 100), 100)
        )
    keep_rates(device.fingerprint, rates)
    return msgspec.structs.replace(device, rates=rates)


def _prove_aloud(device: Device) -> tuple[Accelerator, ...]:
    from edge_sdk.engines import proof

    proven: list[Accelerator] = []
    for accelerator in device.accelerators:
        if accelerator.present and sys.stderr.isatty():
            print(f"proving {accelerator.name} …", file=sys.stderr)
        proven.extend(proof.prove([accelerator], retry=True, fingerprint=device.fingerprint))
    return tuple(proven)


def _print_json(value: Any) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _list_profiles(as_json: bool) -> int:
    from edge_sdk.device.matching import shipped

    profiles = shipped()
    if as_json:
        print(json.dumps([{"name": p.name, "title": p.title, "of": p.of, "soc": p.soc} for p in profiles], indent=2))
    else:
        rows = [(p.name, p.title, _cores(p.clusters), (p.memory and p.memory.kind) or "") for p in profiles]
        print("\n".join(table(("profile", "device", "cores", "memory"), rows)))
    return 0


def _cores(clusters: Iterable[Any]) -> str:
    return " + ".join(f"{len(c.cpus)} x {c.core or '?'}" + (f" {c.max_mhz} MHz" if c.max_mhz else "") for c in clusters)


def _page(device: Device) -> list[str]:
    """The device as text for people."""
    libc = f", {device.libc}" if device.libc else ""
    lines = [
        f"{device.name} ({device.soc or 'chip unknown'}; {device.arch}, {device.bits} bits, {device.os}{libc})",
        "",
    ]
    facts = [("profile", _profile(device)), ("memory", f"{device.memory_mb} MB" if device.memory_mb else "unknown")]
    quota = f", time of {device.cpu_quota:g} CPUs" if device.cpu_quota is not None else ""
    facts.append(("usable CPUs", f"{cpu_list_text(device.usable_cpus) or 'none'} ({len(device.usable_cpus)}{quota})"))
    facts.append(("ISA", " ".join(device.isa) or "nothing beyond the base"))
    facts.append(("power", _power(device)))
    facts.append(("throttled", _throttled(device)))
    facts.append(("engines", ", ".join(f"{name} {version}" for name, version in device.engines.items()) or "none"))
    if device.rates:
        facts.append(("rates", _rates(device.rates)))
    facts.append(("fingerprint", device.fingerprint))
    width = max(len(key) for key, _ in facts)
    lines += [f"{key:{width}}  {value}" for key, value in facts]
    lines += [
        "",
        *table(("cluster", "role", "core", "CPUs", "MHz", "now", "caches"), [_row(device, c) for c in device.clusters]),
    ]
    if device.thermal:
        rows = [(z.name, _degrees(z.temperature_c), _degrees(z.trip_c)) for z in device.thermal]
        lines += ["", *table(("thermal zone", "now", "throttles at"), rows)]
    if device.accelerators:
        found = [(a.name, a.kind, a.engine, _yes(a.present), _yes(a.usable), a.why) for a in device.accelerators]
        lines += ["", *table(("accelerator", "kind", "engine", "present", "usable", "why"), found)]
        if any(a.present and a.usable is None for a in device.accelerators):
            lines += ["", "usable is unknown until proven: edge-sdk device --prove"]
    return lines


def _profile(device: Device) -> str:
    if device.profile is None:
        return "none fits"
    return f"{device.profile.name} (confidence {device.profile.confidence:.2f})"


def _rates(rates: Mapping[str, float]) -> str:
    engines = sorted({key.partition(".")[0] for key in rates if ".kernel." in key})
    return f"calibrated for {', '.join(engines)}" if engines else f"{len(rates)} figures"


def _power(device: Device) -> str:
    percent = device.power.battery_percent
    return device.power.source + (f", battery at {percent} %" if percent is not None else "")


def _throttled(device: Device) -> str:
    told = {True: "yes", False: "no", None: "unknown"}[device.cpus.throttled]
    return f"{told} ({device.cpus.why})" if device.cpus.why else told


def _row(device: Device, cluster: Cluster) -> tuple[str, ...]:
    offline = sorted(set(cluster.cpus) - set(cluster.online))
    cpus = (cpu_list_text(cluster.cpus) or "none") + (f" (offline {cpu_list_text(offline)})" if offline else "")
    now = [device.cpus.now_mhz[str(cpu)] for cpu in cluster.cpus if str(cpu) in device.cpus.now_mhz]
    return (
        cluster.id,
        cluster.role,
        cluster.core or "unknown",
        cpus,
        str(cluster.max_mhz or "?"),
        f"{min(now)}-{max(now)}" if now and min(now) != max(now) else str(now[0]) if now else "?",
        ", ".join(_cache(cache) for cache in cluster.caches) or "?",
    )


def _cache(cache: Cache) -> str:
    kind = {"data": "d", "instruction": "i"}.get(cache.kind, "")
    shared = f" by {cache.shared_by}" if cache.shared_by > 1 else ""
    return f"L{cache.level}{kind} {cache.size_kb} KB{shared}"


def _degrees(celsius: float | None) -> str:
    return "?" if celsius is None else f"{celsius:.0f} °C"


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "?"}[value]
