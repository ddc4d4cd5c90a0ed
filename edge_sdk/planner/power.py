"""A simple power model: what a placement draws while it computes. Its figures are estimates, and are to be called so.

A profile may tell what one busy core of a cluster draws (`core_watts`). Otherwise that follows from the core's rank and
clock, which tells cores of one board apart: a fast core draws more in a second than it saves in time.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.device.cpu_cores import design
from edge_sdk.device.facts import Cluster, Device
from edge_sdk.schedule.placing import Placement

__all__ = ["cores_watts", "placement_watts"]

_WATTS_PER_RANK_GHZ = 0.0065
"""Chosen so that published figures are met within a factor of two: a Cortex-A53 at 1.4 GHz 0.2 W, a Cortex-A76 at 2.4
GHz 1.5 W a core."""
_USUAL_RANK, _USUAL_GHZ = 70, 1.8
_BASE_WATTS = 0.5
"""Of memory and chip, beside the cores, while a request runs."""


def placement_watts(
    placement: Placement, threads: int, device: Device, usable_cpus: Sequence[int] | None = None
) -> float | None:
    """Estimated power while a request computes, in watts; None where no cluster of the device holds its CPUs.

    Args:
        placement: its CPUs.
        threads: that compute; they go to the fastest CPUs first.
        device: its clusters.
        usable_cpus: those a request may run on where the placement names none; the device's where None.
    """
    cores = cores_watts(placement, threads, device, usable_cpus)
    return _BASE_WATTS + cores if cores else None


def cores_watts(placement: Placement, threads: int, device: Device, usable_cpus: Sequence[int] | None = None) -> float:
    """As `placement_watts`, of the cores alone: what a request adds while others keep the device awake; 0 for none."""
    cpus = set(placement.cpus or usable_cpus or device.usable_cpus)
    left, total = threads, 0.0
    for cluster in device.clusters:
        busy = min(left, len(cpus & set(cluster.cpus)))
        total += busy * (cluster.core_watts if cluster.core_watts is not None else _core_watts(cluster))
        left -= busy
    return total


def _core_watts(cluster: Cluster) -> float:
    found = design(cluster.core)
    rank = found.rank if found is not None else _USUAL_RANK
    ghz = cluster.max_mhz / 1e3 if cluster.max_mhz else _USUAL_GHZ
    return _WATTS_PER_RANK_GHZ * rank * ghz
