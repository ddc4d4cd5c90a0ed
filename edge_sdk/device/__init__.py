"""What this machine is, read from files and system calls; profiles of known machines.

`probe()` reads the machine, or the copy of another machine's files, into a `Device`. Nothing is imported until it is
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.device.affinity import running_on, thread_cpus, thread_ids, usable_cpus
    from edge_sdk.device.facts import (
        Accelerator,
        Cache,
        Cluster,
        Cpus,
        Device,
        Power,
        ProfileMatch,
        ThermalZone,
    )
    from edge_sdk.device.identity import fingerprint
    from edge_sdk.device.probing import probe
    from edge_sdk.device.profiles import export_profile, list_profiles, load_profile, match_profile

__all__ = [
    "Accelerator",
    "Cache",
    "Cluster",
    "Cpus",
    "Device",
    "Power",
    "ProfileMatch",
    "ThermalZone",
    "export_profile",
    "fingerprint",
    "list_profiles",
    "load_profile",
    "match_profile",
    "probe",
    "running_on",
    "thread_cpus",
    "thread_ids",
    "usable_cpus",
]

_FACTS = ("Accelerator", "Cache", "Cluster", "Cpus", "Device", "Power", "ProfileMatch", "ThermalZone")
_HOMES = {
    **dict.fromkeys(_FACTS, "facts"),
    **dict.fromkeys(("running_on", "thread_cpus", "thread_ids", "usable_cpus"), "affinity"),
    **dict.fromkeys(("export_profile", "list_profiles", "load_profile", "match_profile"), "profiles"),
    "fingerprint": "identity",
    "probe": "probing",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
