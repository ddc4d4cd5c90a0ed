"""One short key for all facts that a plan depends on."""

from __future__ import annotations

import hashlib

import msgspec

from edge_sdk.device.facts import Device

__all__ = ["fingerprint"]

_PLAN_FACTS = ("name", "soc", "arch", "bits", "os", "libc", "memory_mb", "isa", "engines", "usable_cpus", "cpu_quota")
_CLUSTER_FACTS = ("id", "role", "core", "cpus", "siblings", "max_mhz", "capacity", "caches")


def fingerprint(device: Device) -> str:
    """A hash of what could change a plan, 16 hexadecimal digits.

    Temperatures, frequencies now, power, accelerators' verdicts, the profile and the rates are left out: they change
    without the machine changing, or are themselves kept by this key.
    """
    facts = {name: getattr(device, name) for name in _PLAN_FACTS}
    facts["clusters"] = [{name: getattr(cluster, name) for name in _CLUSTER_FACTS} for cluster in device.clusters]
    return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()[:16]
