"""All ways of one model over a link beside its local plan: what each costs, the rows they make, and which is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from edge_sdk.offloading.guide import LOCAL, Pricing, key_of
from edge_sdk.planner.plans import Candidate, Figures, Plan
from edge_sdk.planner.radio import radio_named
from edge_sdk.planner.rates import Rates
from edge_sdk.planner.remote import Bounds, RemotePlace, barred_remote, ever_best, parts_ms
from edge_sdk.planner.remote_table import remote_candidate, with_remote
from edge_sdk.planner.remote_ways import LocalRun, remote_ways

if TYPE_CHECKING:
    from edge_sdk.offloading.asked import Offload
    from edge_sdk.planner import Variant, Wish
    from edge_sdk.planner.remote import RemoteWay

__all__ = ["WaysTable"]


class WaysTable:
    """The one table of a model: its local plan, and every cut, codec and coding over the link.

    Args:
        offload: what may be done with endpoints.
        wish: what to minimise and hold.
        variant: that the local plan names.
        plan: of what runs on this device alone.
        local_ms: what a request takes that way.
        rates: of the device; None where nothing is known of it.
        timed: whether `local_ms` was measured just now.

    Attributes:
        pricing: what counts.
        ways: those that may be chosen, by key; see `measured`.
        local_ms: what a request takes that stays here; see `timed_again`.
    """

    def __init__(
        self,
        offload: Offload,
        wish: Wish,
        variant: Variant,
        plan: Plan,
        local_ms: float,
        rates: Rates | None,
        timed: bool = True,
    ) -> None:
        self._timed = timed
        self.plan, self.local_ms, self.kinds = plan, local_ms, offload.ways
        figures = plan.figures
        known = figures is not None and figures.energy_mj is not None and figures.latency_ms > 0
        self.pricing = Pricing(
            objective=wish.objective,
            max_latency_ms=wish.max_latency_ms,
            watts=figures.energy_mj / figures.latency_ms if known else None,  # type: ignore[union-attr, operator]
            radio=radio_named(offload.radio),
        )
        self._bounds = Bounds(
            kinds=offload.ways,
            keep_input_local=offload.keep_input_local,
            max_bytes=offload.max_bytes,
            max_leakage=offload.max_leakage,
            min_accuracy=wish.min_accuracy,
        )
        self._all = remote_ways(variant, LocalRun(plan.engine, plan.placement, local_ms), rates)
        self.ways = {key_of(way): way for way in self._all if not barred_remote(way, self._bounds)}

    def measured(self, way: RemoteWay, computed_ms: float) -> None:
        """Puts a way in its place as it was measured; those that only pack otherwise have the same head.

        Args:
            way: with head and bytes as measured.
            computed_ms: what its head takes without packing.
        """
        alike = {one.coding: one for one in self._all if one.tail_key == way.tail_key}
        if "none" in alike:
            for one in alike.values():
                if (now := self.ways.get(key_of(one))) is not None and not now.measured:
                    packing_ms = one.head_ms - alike["none"].head_ms
                    self.ways[key_of(one)] = replace(now, head_ms=computed_ms + packing_ms)
        self.ways[key_of(way)] = way

    def timed_again(self, local_ms: float) -> None:
        """What a request that stays here took once more counts as much as before."""
        self.local_ms = (self.local_ms + local_ms) / 2

    def local_cost(self) -> float:
        """Of staying here; infinite where only other kinds were asked for."""
        return self.pricing.local(self.local_ms) if "local" in self.kinds else float("inf")

    def ever_best(self, places: Sequence[RemotePlace]) -> set[str]:
        """Keys of the few ways that are best at some bandwidth."""
        return {key_of(way) for way in ever_best(self.ways.values(), places)}

    def costs(self, keys: Iterable[str], places: Sequence[RemotePlace]) -> dict[str, float]:
        """Of those that can be gone, at the best place for each."""
        found: dict[str, float] = {}
        for place in places:
            for key in keys:
                way = self.ways[key]
                cost = self.pricing.remote(way, place, sum(parts_ms(way, place)))
                if cost < found.get(key, float("inf")):
                    found[key] = cost
        return found

    def best(self, places: Sequence[RemotePlace], among: Iterable[str] | None = None) -> str:
        """Key of the cheapest way, `LOCAL` for staying here.

        Args:
            places: endpoints as they are now.
            among: keys of the ways that can be gone; all where None.
        """
        costs = {LOCAL: self.local_cost(), **self.costs(self.ways if among is None else among, places)}
        return min(costs, key=lambda key: costs[key])

    def planned(self, key: str, places: Sequence[RemotePlace], failures: Mapping[str, str]) -> Plan:
        """The local plan with the rows of all ways, the fastest first, and the choice of `key`."""
        now = [self.ways.get(key_of(way), way) for way in self._all]
        rows = [
            remote_candidate(way, place, self.plan, self._bounds, self.pricing.watts, self.pricing.radio)
            for way in now
            for place in places
        ]
        local = self._local_row()
        # The row of staying here as it was timed, also where another is chosen: they are compared by it.
        here = [local if row.runs_as(local) else row for row in self.plan.candidates]
        plan = msgspec.structs.replace(self.plan, candidates=tuple(here))
        rows.sort(key=lambda row: (not row.feasible, row.predicted.latency_ms if row.predicted else float("inf")))
        wanted = None if key == LOCAL else self.ways[key].key
        own = [row for row in rows if row.feasible and wanted is not None and _key_of_row(row) == wanted]
        if not own:  # staying here, or no endpoint may be asked just now
            return with_remote(plan, rows, local, self._why_local(rows, failures), places, self._bounds)
        # The fastest endpoint for it, as the rows are sorted.
        return with_remote(plan, rows, own[0], self._why_remote(own[0]), places, self._bounds)

    def _local_row(self) -> Candidate:
        """Staying here, as it was timed beside the heads."""
        row = self.plan.chosen
        if not self._timed:
            return row
        figures = row.measured or Figures(latency_ms=self.local_ms)
        return msgspec.structs.replace(
            row, measured=msgspec.structs.replace(figures, latency_ms=round(self.local_ms, 4), runs=figures.runs or 1)
        )

    def _why_local(self, rows: Sequence[Candidate], failures: Mapping[str, str]) -> str:
        best = next((row for row in rows if row.feasible and row.predicted is not None), None)
        if best is None or best.predicted is None:
            why = next(iter(failures.values()), "no way over the link may be gone")
            return f"stays here: {why}; {self.plan.reason}"
        return (
            f"stays here, a split does not pay: {self.local_ms:.3g} ms against {best.predicted.latency_ms:.3g} ms for"
            f" {best.describe()}; {self.plan.reason}"
        )

    def _why_remote(self, chosen: Candidate) -> str:
        assert chosen.remote is not None and chosen.predicted is not None
        remote = chosen.remote
        return (
            f"{chosen.describe()}: {chosen.predicted.latency_ms:.3g} ms predicted ({remote.head_ms:.3g} here,"
            f" {remote.link_ms:.3g} on the link, {remote.endpoint_ms:.3g} there) against {self.local_ms:.3g} ms here"
        )


def _key_of_row(row: Candidate) -> tuple[str, str, str, str] | None:
    remote = row.remote
    return None if remote is None else (row.variant, remote.cut, remote.codec, remote.coding)
