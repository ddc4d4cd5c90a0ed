"""What this machine is, read from files and system calls; profiles of known machines.

`probe()` reads the machine, or the copy of another machine's files, into a `Device`. Nothing is imported until it is
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

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
    from edge_sdk.device.moment import Moment, Sensors
    from edge_sdk.device.probing import probe
    from edge_sdk.device.profiles import export_profile, list_profiles, load_profile, match_profile

__all__ = [
    "Accelerator",
    "Cache",
    "Cluster",
    "Cpus",
    "Device",
    "Moment",
    "Power",
    "ProfileMatch",
    "Sensors",
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

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.device.affinity": ("running_on", "thread_cpus", "thread_ids", "usable_cpus"),
        "edge_sdk.device.facts": (
            "Accelerator",
            "Cache",
            "Cluster",
            "Cpus",
            "Device",
            "Power",
            "ProfileMatch",
            "ThermalZone",
        ),
        "edge_sdk.device.identity": ("fingerprint",),
        "edge_sdk.device.moment": ("Moment", "Sensors"),
        "edge_sdk.device.probing": ("probe",),
        "edge_sdk.device.profiles": ("export_profile", "list_profiles", "load_profile", "match_profile"),
    },
)
