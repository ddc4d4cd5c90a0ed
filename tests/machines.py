"""Machines as the product describes them, with cores as a test wants them."""

from __future__ import annotations

from edge_sdk.device.facts import Cluster, Device

__all__ = ["ALIKE", "BIG_LITTLE", "THREE", "TWO_CORES", "cluster", "device"]


def cluster(key: str, role: str, *cpus: int) -> Cluster:
    """Cores without siblings, all online."""
    return Cluster(id=key, role=role, core=None, cpus=cpus, online=cpus, siblings=tuple((c,) for c in cpus))


def device(*clusters: Cluster, quota: float | None = None, fingerprint: str = "f") -> Device:
    """A machine of these, all of which may be used."""
    cpus = tuple(sorted(cpu for c in clusters for cpu in c.cpus))
    return Device(
        name="test",
        arch="aarch64",
        bits=64,
        clusters=clusters,
        usable_cpus=cpus,
        cpu_quota=quota,
        fingerprint=fingerprint,
    )


ALIKE = device(cluster("0", "big", 0, 1, 2, 3))
BIG_LITTLE = device(cluster("0", "big", 4, 5, 6, 7), cluster("1", "little", 0, 1, 2, 3))
THREE = device(cluster("0", "big", 7), cluster("1", "mid", 4, 5, 6), cluster("2", "little", 0, 1, 2, 3))
TWO_CORES = device(cluster("0", "big", 0, 1))
