"""One way over a link made ready: head and tail made, the head loaded and timed, the tail known to the endpoints."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.offload.split import SplitRunner
from edge_sdk.offloading.opening import Packing, open_way, patience_ms
from edge_sdk.offloading.timing import MOST_ROUNDS, typical_ms
from edge_sdk.planner.remote import RemoteWay

if TYPE_CHECKING:
    from edge_sdk.offloading.asked import Offload
    from edge_sdk.planner import Variant
    from edge_sdk.tensors import TensorSpec

__all__ = ["Prepared", "Preparing"]

TELLING = 2
CUTS = 5
"""Of so many requests the cut's tensors are held, where only packing is timed."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A way that can be gone.

    Attributes:
        way: with its head and bytes as measured.
        runner: what a session runs; holds `split`.
        tail: name of its tail at the endpoints.
        computed_ms: what the head took when it was timed, without packing what travels.
        sent: what travels.
    """

    way: RemoteWay
    runner: Runner
    split: SplitRunner
    tail: str
    computed_ms: float
    sent: tuple[TensorSpec, ...]

    @property
    def packing_ms(self) -> float:
        """What packing took when it was timed."""
        return self.way.head_ms - self.computed_ms

    def asking_ms(self) -> float | None:
        """What a request lately takes on this device beside head and packing; None before a few."""
        times = self.split.asking_times
        found_ms = times.percentile_ms(0.5)
        return None if found_ms is None or len(times) < TELLING else max(found_ms - self.packing_ms, 0.0)


@dataclass(frozen=True, slots=True)
class Preparing:
    """Makes ways of one model ready.

    Attributes:
        offload: what `load` was asked for.
        name: of the model.
        variant: that is cut.
        engine, options: what heads and local tails are loaded by and with.
        wrap: puts around a runner of the variant's file what a session has around it.
        samples: requests as its file takes them; none where there are none.
        local_ms: what the whole takes on this device.
        whole: runs the file here for as long as the ways are gone; None where it does not.
    """

    offload: Offload
    name: str
    variant: Variant
    engine: Engine
    options: LoadOptions
    wrap: Callable[[Runner], Runner]
    samples: Sequence[Mapping[str, Any]]
    local_ms: float | None = None
    whole: Runner | None = None

    def __call__(self, way: RemoteWay, expected_ms: float, plain: bool = False) -> Prepared:
        """Makes a way ready.

        Args:
            way: which.
            expected_ms: what a request is predicted to take, where that is known.
            plain: see `open_way`.

        Raises:
            EdgeError: the model cannot be cut so, or the head does not load.
        """
        from edge_sdk.graph import open_graph
        from edge_sdk.graph.cuts import cut_at, input_cut

        file = self.variant.file()
        graph = self.variant.graph() or open_graph(file)
        whole_there = way.kind == "offload"
        cut = input_cut(graph) if whole_there else cut_at(graph, way.tensors, nearest=False, where=self.name)
        opened = open_way(
            self.offload,
            self.name,
            file,
            graph,
            cut,
            codec=way.codec,
            coding=way.coding,
            samples=self.samples,
            engine=self.engine,
            options=self.options,
            expected_ms=expected_ms,
            plain=plain,
            whole=self.whole,
            expected_tail_ms=None if self.local_ms is None else self.local_ms * way.tail_share,
        )
        return self._timed(way, opened.split, opened.tail, opened.sent, None)

    def repacked(self, made: Prepared, way: RemoteWay, expected_ms: float) -> Prepared:
        """Makes a way ready that differs from one that is in packing alone: the two share head and tail.

        Args:
            made: of the same cut and codec.
            way, expected_ms: as for one that is made.

        Raises:
            InputError, MissingExtra: there is no such coding, or it is not installed.
            SessionClosed: `made` was put away.
        """
        packing = Packing.of(way.coding, made.sent)
        split = made.split.repacked(packing.codings, packing.content_coding, patience_ms(expected_ms))
        return self._timed(way, split, made.tail, made.sent, made.computed_ms)

    def requests(self, split: SplitRunner) -> Sequence[Mapping[str, Any]]:
        """A few, as the variant's file takes them: real ones where there are any."""
        from edge_sdk.engines.samples import made_up_feeds

        return self.samples[:MOST_ROUNDS] or [made_up_feeds(split.inputs)]

    def _timed(
        self, way: RemoteWay, split: SplitRunner, tail: str, sent: tuple[TensorSpec, ...], computed_ms: float | None
    ) -> Prepared:
        """Times head and packing; only packing where what the head takes is known."""
        requests, sizes = self.requests(split), list[int]()
        try:
            if computed_ms is None:
                cuts: list[Mapping[str, Any]] = []
            else:
                cuts = [split.cut_of(one) for one in (requests[:CUTS] if way.kind == "split" else requests)]

            def packed(turn: int) -> None:
                cut = cuts[turn % len(cuts)] if cuts else split.cut_of(requests[turn % len(requests)])
                sizes.append(split.packed_bytes(cut))

            head_ms = (computed_ms or 0.0) + typical_ms(packed)
            if computed_ms is None:
                computed_ms = split.head_times.percentile_ms(0.5) or 0.0
        except BaseException:
            split.close()
            raise
        # What made-up numbers compress to says nothing of real ones.
        up_bytes = round(statistics.fmean(sizes)) if self.samples else way.up_bytes
        measured = replace(way, head_ms=head_ms, up_bytes=up_bytes, measured=True)
        return Prepared(measured, self.wrap(split), split, tail, computed_ms, sent)
