"""One way over a link made ready: head and tail made, the head loaded and timed, the tail known to the endpoints."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.formats import open_model
from edge_sdk.graph.splitting import Split
from edge_sdk.offload.input_coding import may_travel_as
from edge_sdk.offload.opening import open_split
from edge_sdk.offload.parts_kept import kept_parts_and_tail
from edge_sdk.offload.split import SplitRunner
from edge_sdk.offload.tail_names import TailName
from edge_sdk.planner.remote import RemoteWay

if TYPE_CHECKING:
    from edge_sdk.offloading.asked import Offload
    from edge_sdk.planner import Variant

__all__ = ["CONTENT_CODINGS", "Prepared", "Preparing", "file_codings", "typical_ms"]

CONTENT_CODINGS = ("deflate", "zstd")
ROUNDS, MOST_ROUNDS, WORTH_MS = 5, 24, 150.0
"""A head is run so often at least and at most, and as long as all runs together take less."""
PAUSE_S = 0.005
"""Between two runs of a head: in a session it rests while its tensors travel."""
LEAST_PATIENCE_MS = 500.0
PATIENCE_TIMES = 3.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A way that can be gone.

    Attributes:
        way: with its head and bytes as measured.
        runner: what a session runs; holds `split`.
        tail: name of its tail at the endpoints.
        computed_ms: what the head took when it was timed, without packing what travels.
    """

    way: RemoteWay
    runner: Runner
    split: SplitRunner
    tail: str
    computed_ms: float


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
    """

    offload: Offload
    name: str
    variant: Variant
    engine: Engine
    options: LoadOptions
    wrap: Callable[[Runner], Runner]
    samples: Sequence[Mapping[str, Any]]

    def __call__(self, way: RemoteWay, expected_ms: float) -> Prepared:
        """Makes a way ready.

        Args:
            way: which.
            expected_ms: what a request is predicted to take: how long an endpoint has while its link is unknown.

        Raises:
            EdgeError: the model cannot be cut so, or the head does not load.
        """
        from edge_sdk.graph import open_graph
        from edge_sdk.graph.cuts import cut_at, input_cut

        file = self.variant.file()
        graph = self.variant.graph() or open_graph(file)
        whole_there = way.kind == "offload"
        cut = input_cut(graph) if whole_there else cut_at(graph, way.tensors, nearest=False, where=self.name)
        parts, tail_content = kept_parts_and_tail(file, cut, codec=way.codec, samples=self.samples, graph=graph)
        whole = self.offload.model or PurePath(self.name).stem
        tail = str(TailName.of_cut(whole, cut, way.codec, file.fingerprint, parts.split.scales))
        split = open_split(
            file,
            parts.split,
            self.offload.endpoints,
            tail,
            tail_content=tail_content,
            engine=self.engine,
            options=self.options,
            deadline_ms=self.offload.deadline_ms,
            codings=file_codings(way.coding, parts.split),
            content_coding=way.coding if way.coding in CONTENT_CODINGS else "",
            first_patience_ms=max(LEAST_PATIENCE_MS, PATIENCE_TIMES * expected_ms),
        )
        measured = self._measured(way, split)
        return Prepared(measured, self.wrap(split), split, tail, split.head_times.percentile_ms(0.5) or 0.0)

    def _measured(self, way: RemoteWay, split: SplitRunner) -> RemoteWay:
        from edge_sdk.engines.samples import made_up_feeds

        requests = list(self.samples[:MOST_ROUNDS]) or [made_up_feeds(split.inputs)]
        sizes: list[int] = []
        head_ms = typical_ms(lambda turn: sizes.append(split.encoded_bytes(requests[turn % len(requests)])), PAUSE_S)
        # What made-up numbers compress to says nothing of real ones.
        up_bytes = round(statistics.fmean(sizes)) if self.samples else way.up_bytes
        return replace(way, head_ms=head_ms, up_bytes=up_bytes, measured=True)


def typical_ms(run: Callable[[int], object], pause_s: float) -> float:
    """What a call takes on average, without the first and the slowest.

    The mean and not the median: a device that is throttled stops now and then, and a request of several parts meets
    that as often as its parts together do.

    Args:
        run: is told how often it was called before.
        pause_s: between two calls.
    """
    run(0)
    times_ms: list[float] = []
    spent_ms = 0.0
    while len(times_ms) < ROUNDS or (len(times_ms) < MOST_ROUNDS and spent_ms < WORTH_MS):
        began_s = time.perf_counter()
        run(len(times_ms) + 1)
        times_ms.append((time.perf_counter() - began_s) * 1e3)
        spent_ms += times_ms[-1]
        time.sleep(pause_s)
    return statistics.fmean(sorted(times_ms)[:-1])


def file_codings(coding: str, split: Split) -> dict[str, str]:
    """Which of a split's tensors travel as a picture or sound file, and as which: those that can."""
    if coding == "none" or coding in CONTENT_CODINGS:
        return {}
    with open_model(split.tail, name="tail") as tail:
        specs = {spec.name: spec for spec in tail.describe().inputs}
    found = {}
    for name in split.sent:
        spec = specs[name]
        shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape or ())
        if may_travel_as(coding, spec.dtype, shape):
            found[name] = coding
    return found
