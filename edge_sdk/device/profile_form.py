"""The form of a device profile: one struct for each part of the file. `docs/profiles.md` shows it written out."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edge_sdk.device.facts import SCHEMA, Accelerator, Cache, Cluster, Device, ThermalZone

__all__ = [
    "MatchFacts",
    "Peak",
    "Profile",
    "ProfileAccelerator",
    "ProfileCluster",
    "ProfileMemory",
    "ProfileThermal",
    "citation",
]

_MAX_CPUS = 1024

Text = Annotated[str, Meta(min_length=1, max_length=500)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
CpuId = Annotated[int, Meta(ge=0, le=4095)]
Megahertz = Annotated[int, Meta(ge=1, le=20_000)]
Megabytes = Annotated[int, Meta(ge=1, le=1 << 30)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]


class ProfileCluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One cluster, fastest first. See `Cluster`; what is left out is the ordinary case.

    Attributes:
        other_mhz: highest clocks that other revisions or firmware of the same device have.
        online: None where all `cpus` are.
        siblings: None where each core has one thread.
        core_watts: what one busy core takes at its highest clock; estimated from the core's design where left out.
    """

    role: str
    core: str | None = None
    cpus: Annotated[tuple[CpuId, ...], Meta(min_length=1, max_length=_MAX_CPUS)]
    online: tuple[CpuId, ...] | None = None
    siblings: tuple[tuple[CpuId, ...], ...] | None = None
    max_mhz: Megahertz | None = None
    other_mhz: tuple[Megahertz, ...] = ()
    capacity: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    caches: tuple[Cache, ...] = ()
    core_watts: Positive | None = None


class ProfileMemory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Main memory. `bandwidth_gb_per_s` is the published or the bus's theoretical peak, in 10⁹ bytes a second.

    Attributes:
        sizes_mb: the sizes the device is sold with, in MiB.
        typical_mb: the one of `sizes_mb` that stands for the device in plans; its largest where left out.
        kind: the memory's standard and speed ("LPDDR4-3200").
    """

    sizes_mb: Annotated[tuple[Megabytes, ...], Meta(min_length=1, max_length=32)]
    typical_mb: Megabytes | None = None
    kind: Text | None = None
    bus_bits: Annotated[int, Meta(ge=8, le=8192)] | None = None
    bandwidth_gb_per_s: Positive | None = None


class Peak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Published peak speed by precision: 10⁹ or 10¹² operations a second, a multiply-add counted as two."""

    fp32_gflops: Positive | None = None
    fp16_gflops: Positive | None = None
    int8_tops: Positive | None = None
    int8_sparse_tops: Positive | None = None
    int4_tops: Positive | None = None


class ProfileAccelerator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A GPU, NPU, TPU or DSP.

    Attributes:
        kind: "gpu", "npu", "tpu", "dsp", or "cpu" for another way to the same cores (XNNPACK).
        product: what the vendor calls it.
        name, engine: the `Accelerator` that reaches it; both None where no engine here does.
        note: what stands in the way, or what the figures mean.
    """

    kind: Annotated[str, Meta(pattern="^(gpu|npu|tpu|dsp|cpu)$")]
    product: Text | None = None
    name: Text | None = None
    engine: Name | None = None
    present: bool = True
    usable: bool | None = None
    note: Text | None = None
    peak: Peak | None = None


class MatchFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a probed device is recognised by, beside clusters, clocks and memory.

    Attributes:
        names: board names as the device tree, DMI or Android give them; a longer name that begins so fits as well.
        socs: names of the chip in any spelling; compared without case and punctuation.
    """

    names: tuple[Text, ...] = ()
    socs: tuple[Text, ...] = ()


class ProfileThermal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A thermal zone and the temperature in °C at which throttling begins there."""

    name: Text
    trip_c: float | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A device profile.

    Attributes:
        schema: version of this form.
        name: its key; a file that ships with the package has it as its stem.
        title: what people call the device.
        of: "board" where one product is meant, "chip" where any board or phone with that chip is.
        sources: key to document: title and address.
        cited: path of a figure, or of what holds figures, to a key of `sources`; the longest path that fits counts.
    """

    schema: Annotated[int, Meta(ge=SCHEMA, le=SCHEMA)]
    name: Name
    title: Text
    of: Annotated[str, Meta(pattern="^(board|chip)$")]
    match: MatchFacts = MatchFacts()
    soc: Text | None = None
    arch: Name
    bits: Annotated[int, Meta(ge=32, le=64)]
    os: Name = "linux"
    libc: Text | None = None
    clusters: Annotated[tuple[ProfileCluster, ...], Meta(min_length=1, max_length=64)]
    memory: ProfileMemory | None = None
    isa: tuple[Name, ...] = ()
    accelerators: tuple[ProfileAccelerator, ...] = ()
    thermal: tuple[ProfileThermal, ...] = ()
    engines: dict[str, str] = {}
    usable_cpus: tuple[CpuId, ...] | None = None
    cpu_quota: Positive | None = None
    rates: dict[str, float] | None = None
    sources: dict[Name, Text]
    cited: dict[Text, Name]

    def device(self) -> Device:
        """The profile as a `Device`: what planning on another machine takes in place of a probed one.

        Momentary facts (temperatures, frequencies now, power) are unknown. Accelerators that no engine reaches are
        left out.
        """
        clusters = tuple(_cluster(str(index), cluster) for index, cluster in enumerate(self.clusters))
        online = tuple(sorted(cpu for cluster in clusters for cpu in cluster.online))
        device = Device(
            name=self.title,
            soc=self.soc,
            arch=self.arch,
            bits=self.bits,
            os=self.os,
            libc=self.libc,
            clusters=clusters,
            memory_mb=_typical_mb(self.memory),
            isa=self.isa,
            accelerators=tuple(_accelerator(a) for a in self.accelerators if a.name and a.engine),
            thermal=tuple(ThermalZone(name=zone.name, trip_c=zone.trip_c) for zone in self.thermal),
            engines=dict(self.engines),
            usable_cpus=online if self.usable_cpus is None else self.usable_cpus,
            cpu_quota=self.cpu_quota,
            rates=dict(self.rates) if self.rates is not None else None,
        )
        from edge_sdk.device import fingerprint

        return msgspec.structs.replace(device, fingerprint=fingerprint(device))

    def source_of(self, path: str) -> str | None:
        """The document that a figure comes from; None where none is cited.

        Args:
            path: as in the file: "clusters[0].max_mhz".
        """
        key = citation(self.cited, path)
        return None if key is None else self.sources.get(key)


def _cluster(identity: str, cluster: ProfileCluster) -> Cluster:
    return Cluster(
        id=identity,
        role=cluster.role,
        core=cluster.core,
        cpus=cluster.cpus,
        online=cluster.cpus if cluster.online is None else cluster.online,
        siblings=tuple((cpu,) for cpu in cluster.cpus) if cluster.siblings is None else cluster.siblings,
        max_mhz=cluster.max_mhz,
        capacity=cluster.capacity,
        caches=cluster.caches,
        core_watts=cluster.core_watts,
    )


def _typical_mb(memory: ProfileMemory | None) -> int | None:
    if memory is None:
        return None
    return memory.typical_mb if memory.typical_mb is not None else max(memory.sizes_mb)


def _accelerator(accelerator: ProfileAccelerator) -> Accelerator:
    why = accelerator.note or (f"profile: {accelerator.product}" if accelerator.product else "")
    return Accelerator(
        kind=accelerator.kind,
        name=accelerator.name or "",
        engine=accelerator.engine or "",
        present=accelerator.present,
        usable=accelerator.usable,
        why=why,
    )


def citation(cited: dict[str, str], path: str) -> str | None:
    """The key that the longest path in `cited` which holds `path` points to; None where none does."""
    while path:
        if path in cited:
            return cited[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return None
