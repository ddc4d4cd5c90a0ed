"""From a cut, a codec and a coding to a runner with its tail at the session's endpoints, whoever chose the three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.cuts import Cut
from edge_sdk.graph.view import Graph
from edge_sdk.offload.input_coding import may_travel_as
from edge_sdk.offload.opening import open_split
from edge_sdk.offload.parts_kept import kept_parts_and_tail
from edge_sdk.offload.split import SplitRunner
from edge_sdk.offload.tail_names import TailName
from edge_sdk.offloading.asked import CONTENT_CODINGS
from edge_sdk.tensors import TensorSpec

if TYPE_CHECKING:
    from edge_sdk.offload.parts import Parts
    from edge_sdk.offloading.asked import Offload

__all__ = ["Opened", "Packing", "open_way", "patience_ms"]

FIRST_PATIENCE_MS, PATIENCE_TIMES = 500.0, 3.0


def patience_ms(expected_ms: float) -> float:
    """How long an endpoint has for itself while its link is unknown, where a request is predicted to take so long."""
    return max(FIRST_PATIENCE_MS, PATIENCE_TIMES * expected_ms)


@dataclass(frozen=True, slots=True)
class Packing:
    """What a coding is for a runner: see `SplitSpec`."""

    codings: Mapping[str, str]
    content_coding: str

    @classmethod
    def of(cls, coding: str, sent: Sequence[TensorSpec]) -> Packing:
        """What of `sent` travels as a picture or sound file, or that all of it is packed as one.

        Raises:
            InputError: there is no such coding.
        """
        if coding in ("none", *CONTENT_CODINGS):
            return cls({}, "" if coding == "none" else coding)
        found = {}
        for spec in sent:
            shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape or ())
            if may_travel_as(coding, spec.dtype, shape):
                found[spec.name] = coding
        return cls(found, "")


@dataclass(frozen=True, slots=True)
class Opened:
    """A cut model that can run.

    Attributes:
        split: its head is loaded.
        parts: head and tail as they were made and compared.
        tail: name of the tail at the endpoints.
        sent: what travels.
    """

    split: SplitRunner
    parts: Parts
    tail: str
    sent: tuple[TensorSpec, ...]


def open_way(
    offload: Offload,
    name: str,
    file: ModelFile,
    graph: Graph,
    cut: Cut,
    *,
    codec: str,
    coding: str,
    samples: Sequence[Mapping[str, Any]],
    engine: Engine,
    options: LoadOptions,
    expected_ms: float = 0.0,
    plain: bool = False,
    whole: Runner | None = None,
    expected_tail_ms: float | None = None,
) -> Opened:
    """Makes head and tail, or takes those kept, and loads the head.

    Args:
        offload: endpoints, deadline, and what the model is called there.
        name: of the model here.
        file: that is cut.
        graph: of the file.
        cut: of the graph.
        codec: how the cut's tensors travel.
        coding: how their bytes are packed.
        samples: requests as the file takes them.
        engine, options: what head and local tail are loaded by and with.
        expected_ms: what a request is predicted to take, where that is known.
        plain: asks the whole model by its own name, as endpoints of others call it, which make no tails.
        whole: runs the file here, for as long as the runner of this way.
        expected_tail_ms: what the tail takes here, as far as that is known.

    Raises:
        EdgeError: the model cannot be cut so, or the head does not load.
    """
    from edge_sdk.engines.samples import made_up_feeds

    parts, tail_content = kept_parts_and_tail(file, cut, codec=codec, samples=samples, graph=graph)
    whole_there = offload.model or PurePath(name).stem
    tail = whole_there if plain else str(TailName.of_cut(whole_there, cut, codec, file.fingerprint, parts.split.scales))
    with open_model(parts.split.tail, name=f"{file.name} (tail)") as made:
        tail_info = made.describe()
    specs = {spec.name: spec for spec in tail_info.inputs}
    sent = tuple(specs[tensor] for tensor in parts.split.sent)
    packing = Packing.of(coding, sent)
    split = open_split(
        file,
        parts.split,
        offload.endpoints,
        tail,
        tail_content=tail_content,
        tail_info=tail_info,
        engine=engine,
        options=options,
        deadline_ms=offload.deadline_ms,
        codings=packing.codings,
        content_coding=packing.content_coding,
        first_patience_ms=patience_ms(expected_ms),
        identified=not plain,
        whole=whole,
        expected_tail_ms=expected_tail_ms,
    )
    if offload.deadline_ms is not None:
        try:
            split.local.prepare(split.cut_of(samples[0] if samples else made_up_feeds(split.inputs)))
        except BaseException:
            split.close()
            raise
    return Opened(split, parts, tail, sent)
