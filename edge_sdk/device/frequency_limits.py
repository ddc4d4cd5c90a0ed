"""The highest frequency each policy may use now: a plan made under other limits may be wrong."""

from __future__ import annotations

import re

from edge_sdk.device.cpu_topology import CPU_TREE
from edge_sdk.device.sysroot import Sysroot

__all__ = ["frequency_limits_mhz"]


def frequency_limits_mhz(sysroot: str = "/") -> tuple[int, ...]:
    """`scaling_max_freq` of all cpufreq policies in MHz, in the policies' order; empty where there are none."""
    files = Sysroot(sysroot)
    names = [name for name in files.listing(f"{CPU_TREE}/cpufreq") if re.fullmatch(r"policy\d{1,5}", name)]
    found = []
    for name in sorted(names, key=lambda name: int(name[6:])):
        khz = files.number(f"{CPU_TREE}/cpufreq/{name}/scaling_max_freq")
        if khz is not None:
            found.append(khz // 1000)
    return tuple(found)
