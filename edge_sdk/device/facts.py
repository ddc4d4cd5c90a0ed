"""The facts about a machine, as value objects with one versioned JSON form.

A `Device` is what `probe` read, what a profile says, or what a test made up. Everything is optional where a source can
be missing: None means that no source tells, an empty tuple that there is none.
"""

from __future__ import annotations

import msgspec

__all__ = ["SCHEMA", "Accelerator", "Cache", "Cluster", "Cpus", "Device", "Power", "ProfileMatch", "ThermalZone"]

SCHEMA = 1


class Cache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One level of cache as one core sees it. `shared_by` counts the cores that share it."""

    level: int
    kind: str
    """"data", "instruction" or "unified"."""
    size_kb: int
    shared_by: int = 1


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cores of one kind that share a frequency domain.

    Attributes:
        id: its key on this device, "0", "1", … fastest first.
        role: "big", "mid" or "little"; all "big" where all cores are alike.
        core: name of the core design ("cortex-a76"); None where no source tells.
        cpus: ids as Linux numbers them, also of cores that are offline.
        online: those of `cpus` that are online.
        siblings: groups of `cpus` that share one physical core (SMT); one group a core.
        max_mhz: highest frequency; None where no source tells.
        capacity: computing capacity relative to the fastest core of the device, which has 1024.
        caches: as one core of the cluster sees them.
        core_watts: what one busy core takes at its highest clock, in watts, as a profile tells; None where none does.
    """

    id: str
    role: str
    core: str | None
    cpus: tuple[int, ...]
    online: tuple[int, ...]
    siblings: tuple[tuple[int, ...], ...]
    max_mhz: int | None = None
    capacity: int | None = None
    caches: tuple[Cache, ...] = ()
    core_watts: float | None = None


class Accelerator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something other than the CPU cores that may run a model, through one engine.

    Attributes:
        kind: "gpu", "npu", "tpu" or "dsp"; "cpu" for a provider that computes on the cores by other kernels (XNNPACK).
        name: key for `load(accelerator=…)`: "cuda", "tensorrt", "qnn", "gpu", "edgetpu", a delegate's path, …
        engine: the engine that reaches it.
        present: whether hardware, driver or library was found.
        usable: None until proven; then whether a small model verifiably ran there.
        why: one line: what was found, what is missing, or what the proof saw.
    """

    kind: str
    name: str
    engine: str
    present: bool
    usable: bool | None = None
    why: str = ""


class ThermalZone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One temperature sensor. `trip_c` is the lowest passive or hot trip point, where throttling begins."""

    name: str
    temperature_c: float | None = None
    trip_c: float | None = None


class Power(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the power comes from. `source` is "mains", "battery" or "unknown"; `battery_percent` from 0 to 100."""

    source: str = "unknown"
    battery_percent: int | None = None


class Cpus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frequencies now and throttling, by CPU id; keys are decimal strings because JSON has no others."""

    now_mhz: dict[str, int] = {}
    throttled: bool | None = None
    why: str = ""


class ProfileMatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The profile that fits a probed device. `confidence` is from 0 to 1; `facts` says what agreed and what did not."""

    name: str
    confidence: float
    facts: tuple[str, ...] = ()


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The facts about a machine. See `docs/device.md` for the JSON form.

    Attributes:
        name: board or model name; the host's architecture where no source tells.
        soc: system-on-chip or processor name.
        arch: "aarch64", "armv7l", "x86_64", … as the kernel says.
        bits: 32 or 64: of this process on the machine itself, of the user space of a sysroot.
        clusters: fastest first.
        memory_mb: installed memory, or the cgroup's limit where that is lower.
        isa: features that matter to engines: "neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sme", "avx2",
            "avx512", "vnni", "amx", …
        usable_cpus: online, in the affinity mask and in the cpuset.
        cpu_quota: how many CPUs' worth of time the cgroup grants; None where unlimited.
        fingerprint: changes when anything changes that could change a plan: cores, ISA, memory, engines, kernel arch.
        rates: calibrated speeds; None until calibrated.
    """

    schema: int = SCHEMA
    name: str
    soc: str | None = None
    arch: str
    bits: int
    os: str = "linux"
    libc: str | None = None
    clusters: tuple[Cluster, ...]
    memory_mb: int | None = None
    isa: tuple[str, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
    thermal: tuple[ThermalZone, ...] = ()
    cpus: Cpus = Cpus()
    power: Power = Power()
    engines: dict[str, str] = {}
    profile: ProfileMatch | None = None
    usable_cpus: tuple[int, ...] = ()
    cpu_quota: float | None = None
    fingerprint: str = ""
    rates: dict[str, float] | None = None
