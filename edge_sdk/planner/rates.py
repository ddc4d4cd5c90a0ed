"""`Rates`: how fast a device runs each sort of kernel, calibrated on it or derived from what it is.

They are one flat table of numbers, as `Device.rates` and a profile's `rates` hold it:

    ENGINE.kernel.PRECISION.SORT.us_per_call, .us_per_mmac, .us_per_input_mb, .us_per_output_mb, .us_per_parameter_mb
    ENGINE.place.CLUSTER.tN.CLASS.share, .us
    ENGINE.place.CLUSTER.tN.request_us, .probe_ms, .undisturbed
    ENGINE.channel_block, ENGINE.spread

The first give the time of a kernel on one thread of the fastest cluster (a MB has 10⁶ bytes, a MMAC 10⁶ multiply-
accumulates). The second turn it into the time on N threads of a cluster: `share` times it, and `us` microseconds more
for each kernel; `request_us` is what a request costs beside its kernels, `probe_ms` the pace they are told at,
`undisturbed` the share of the timings behind them that nothing disturbed. The engine "any" stands for all engines
without rates of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from edge_sdk.device.facts import Device
from edge_sdk.planner.cost_work import CLASSES, Work
from edge_sdk.schedule.placing import Placement
from edge_sdk.tensors import Array

__all__ = ["ANY", "UNITS", "Place", "Rates", "place_key", "probe_key", "rates_for", "undisturbed_key"]

ANY = "any"
UNITS = {"us_per_call": 1.0, "us_per_mmac": 1e-6, "us_per_input_mb": 1e-6, "us_per_output_mb": 1e-6,
         "us_per_parameter_mb": 1e-6}  # fmt: skip
"""Names of a kernel's rates in the order of `cost_work.FEATURES`, and what turns each into microseconds a count."""
DEFAULT_SPREAD = 0.25
THREAD_EXPONENT = 0.8
"""How N threads shorten a kernel where nothing was measured: to N to the power of minus this."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where kernels run: threads on one cluster, or on several, where the slowest sets the pace.

    Attributes:
        clusters: ids, fastest first.
        threads: that compute one request.
    """

    clusters: tuple[str, ...]
    threads: int


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of one device.

    Attributes:
        source: "calibrated", "profile", or "derived" (then absolute times are estimates; ranks and ratios carry over).
        values: the flat table.
        clusters: CPUs by cluster id, fastest first.
        usable_cpus: those a request may run on.
    """

    source: str
    values: Mapping[str, float] = field(repr=False)
    clusters: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    usable_cpus: tuple[int, ...] = ()
    _names: dict[str, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _placed: dict[tuple[str, str, Place], tuple[float, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    _counts: dict[str, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def covers(self, engine: str) -> bool:
        """Whether there are rates for this engine, its own or those of any."""
        return self._name(engine) is not None

    def channel_block(self, engine: str) -> int:
        """See `graph.fusion.fused`."""
        return int(self.values.get(f"{engine}.channel_block", self.values.get(f"{ANY}.channel_block", 0)))

    def spread(self, engine: str) -> float:
        """How far off a prediction may be, as a share of it, nine times out of ten."""
        return self.values.get(f"{self._name(engine)}.spread", DEFAULT_SPREAD)

    def request_us(self, engine: str, place: Place) -> float:
        """What a request costs beside its kernels: the call, and threads that must wake."""
        name, cluster = self._name(engine) or ANY, place.clusters[0]
        known = self._thread_counts(engine, cluster)
        costs = [self.values.get(f"{place_key(name, cluster, threads)}.request_us", 0.0) for threads in known]
        return float(np.interp(place.threads, known, costs)) if known else 0.0

    def kernels_us(self, engine: str, works: Sequence[Work]) -> Array:
        """Time of each kernel on one thread of the fastest cluster: float64 [kernels], in microseconds."""
        name = self._name(engine)
        known: dict[tuple[str, str], Array] = {}
        times = np.zeros(len(works))
        for number, work in enumerate(works):
            key = work.precision, work.sort
            if key not in known:
                known[key] = self._kernel(name, *key)
            times[number] = known[key] @ work.features
        return times

    def placed(self, engine: str, kernel_class: str, place: Place) -> tuple[float, float]:
        """Share and microseconds that turn a kernel's time on one thread of the fastest cluster into that at a
        place."""
        key = engine, kernel_class, place
        if key not in self._placed:
            self._placed[key] = self._place(engine, kernel_class, place)
        return self._placed[key]

    def _place(self, engine: str, kernel_class: str, place: Place) -> tuple[float, float]:
        first = place.clusters[0]
        share, extra_us = self._on_cluster(engine, kernel_class, first, place.threads)
        slowest = max((self._on_cluster(engine, kernel_class, c, 1)[0] for c in place.clusters), default=1.0)
        fastest = self._on_cluster(engine, kernel_class, first, 1)[0]
        # N threads take an Nth of the time at best: what calibration saw beyond that was another process's doing.
        return max(share, 1 / place.threads) * slowest / fastest, extra_us

    def place_of(self, placement: Placement | int | None) -> Place:
        """The place that a placement means here; None for threads: as many as CPUs; a number: threads on all CPUs."""
        if placement is None or isinstance(placement, int):
            placement = Placement(threads=placement)
        cpus = set(self.usable_cpus if placement.cpus is None else placement.cpus)
        threads = placement.threads or max(1, len(cpus))
        found: list[str] = []
        left = threads
        for cluster, own in self.clusters.items():
            here = len(cpus & set(own))
            if here and left > 0:
                found.append(cluster)
                left -= here
        return Place(tuple(found) or tuple(self.clusters)[:1] or ("0",), threads)

    def _name(self, engine: str) -> str | None:
        if engine not in self._names:
            known = {key.partition(".kernel.")[0] for key in self.values if ".kernel." in key}
            self._names[engine] = next((name for name in (engine, ANY) if name in known), None)
        return self._names[engine]

    def _kernel(self, name: str | None, precision: str, sort: str) -> Array:
        for own_precision in _nearest(precision):
            for own_sort in (sort, *_LIKE.get(sort, ()), ANY):
                head = f"{name}.kernel.{own_precision}.{own_sort}."
                if f"{head}us_per_call" in self.values:
                    return np.array([self.values.get(head + unit, 0.0) * scale for unit, scale in UNITS.items()])
        return np.zeros(len(UNITS))

    def _on_cluster(self, engine: str, kernel_class: str, cluster: str, threads: int) -> tuple[float, float]:
        known = self._thread_counts(engine, cluster)
        if not known:
            return float(threads**-THREAD_EXPONENT), 0.0
        if threads > known[-1]:
            return self._beyond(engine, kernel_class, cluster, threads, known)
        lower = max((n for n in known if n <= threads), default=known[0])
        upper = min((n for n in known if n >= threads), default=known[-1])
        low, high = (self._point(engine, kernel_class, cluster, n) for n in (lower, upper))
        if lower == upper:
            return low
        part = math.log(threads / lower) / math.log(upper / lower)
        return low[0] ** (1 - part) * high[0] ** part, low[1] * (1 - part) + high[1] * part

    def _beyond(
        self, engine: str, kernel_class: str, cluster: str, threads: int, known: list[int]
    ) -> tuple[float, float]:
        """More threads than the cluster has CPUs, the others on slower clusters: as from one thread to the most
        known."""
        most = known[-1]
        share, extra_us = self._point(engine, kernel_class, cluster, most)
        exponent = THREAD_EXPONENT
        if most > 1:
            alone = self._point(engine, kernel_class, cluster, 1)[0]
            exponent = max(0.0, math.log(alone / max(share, 1e-9)) / math.log(most))
        return float(share * (most / threads) ** exponent), extra_us

    def _thread_counts(self, engine: str, cluster: str) -> list[int]:
        head = f"{self._name(engine)}.place.{cluster}.t"
        if head not in self._counts:
            found = {int(key[len(head) :].split(".")[0]) for key in self.values if key.startswith(head)}
            self._counts[head] = sorted(found)
        return self._counts[head]

    def _point(self, engine: str, kernel_class: str, cluster: str, threads: int) -> tuple[float, float]:
        for name in (kernel_class, CLASSES[0]):
            head = f"{place_key(self._name(engine) or ANY, cluster, threads)}.{name}"
            if f"{head}.share" in self.values:
                return self.values[f"{head}.share"], self.values.get(f"{head}.us", 0.0)
        return 1.0, 0.0


_LIKE = {
    "conv_first": ("conv_strided", "conv"),
    "conv_strided": ("conv",),
    "conv_plain": ("conv",),
    "conv_1x1": ("conv",),
    "conv_transpose": ("conv",),
    "depthwise_plain": ("depthwise_conv",),
    **dict.fromkeys(("gemv", "gemm", "matmul", "attention"), ("gemm", "conv_1x1", "conv")),
    **dict.fromkeys(("lstm", "gru", "rnn", "recurrent"), ("lstm", "gemv", "gemm", "conv_1x1")),
}
"""The sorts whose rates serve for one that was not met, best first."""


def _nearest(precision: str) -> tuple[str, ...]:
    """Precisions whose rates serve, best first: weights that are stored in fewer bits are computed with as floats."""
    if precision.startswith(("int8", "uint8")):
        return precision, "int8", "float32"
    return precision, "float32"


def probe_key(engine: str, place: Place) -> str:
    """The key of what the probe of calibration usually takes at a place, in milliseconds."""
    return f"{place_key(engine, place.clusters[0], place.threads)}.probe_ms"


def undisturbed_key(engine: str, place: Place) -> str:
    """The key of the share of a place's timings that nothing disturbed."""
    return f"{place_key(engine, place.clusters[0], place.threads)}.undisturbed"


def place_key(engine: str, cluster: str, threads: int) -> str:
    """The beginning of the keys of one place."""
    return f"{engine}.place.{cluster}.t{threads}"


def rates_for(device: Device) -> Rates | None:
    """The rates of a device: those calibrated on it and kept, else those of its profile, else derived from its cores.

    None where not even its cores are known.
    """
    from edge_sdk.planner.rates_cores import derived_rates
    from edge_sdk.planner.rates_kept import kept_rates

    clusters = MappingProxyType({cluster.id: cluster.cpus for cluster in device.clusters})
    usable = device.usable_cpus or tuple(cpu for cluster in device.clusters for cpu in cluster.cpus)
    kept = kept_rates(device.fingerprint) if device.fingerprint else None
    for source, values in (("calibrated", kept), ("profile", device.rates), ("derived", None)):
        if source == "derived":
            values = derived_rates(device)
        if values and any(".kernel." in key for key in values):
            return Rates(source, MappingProxyType(dict(values)), clusters, tuple(usable))
    return None
