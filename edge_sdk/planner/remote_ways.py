"""The ways to run one variant with a part of it at an endpoint, as its graph, its bundle and the cost model tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_sdk.errors import EdgeError
from edge_sdk.planner.cost import CostModel
from edge_sdk.planner.rates import Rates
from edge_sdk.planner.remote import RemoteWay
from edge_sdk.planner.variants import Variant
from edge_sdk.schedule.placing import Placement

if TYPE_CHECKING:
    from edge_sdk.bundle import Cut as KeptCut
    from edge_sdk.bundle import CutCodec
    from edge_sdk.graph.cuts import Cut
    from edge_sdk.graph.view import Graph

__all__ = ["LocalRun", "remote_ways"]

_log = logging.getLogger(__name__)

LEAST_TAIL = 0.01
"""A tail with less of the work is none."""
UNTOLD_CODECS = ("none", "fp16")
"""Those that are listed where no bundle tells of any."""
FURTHER_CORE = 0.75
"""What each further thread adds to one where nothing is known of the device's cores: packing has but one."""
UNTOLD = "nobody measured what {} costs in accuracy: edge-sdk build --cuts does"
AGREEMENT = "agreement"
_REVERSIBLE = frozenset({"quantize", "dequantize", "reshape", "transpose", "pad", "elementwise"})
"""Kinds of ops behind which the input is still there for whoever knows the model."""


@dataclass(frozen=True, slots=True)
class LocalRun:
    """How a variant runs on this device when all of it does.

    Attributes:
        engine, placement: as chosen.
        latency_ms: of one request.
    """

    engine: str
    placement: Placement
    latency_ms: float


def remote_ways(variant: Variant, local: LocalRun, rates: Rates | None, max_drop: float = 0.01) -> list[RemoteWay]:
    """All of one variant: the whole model elsewhere, and each cut of its Pareto set, by codec and coding.

    Heads are predicted: the cost model shares out what the whole was measured to take. Bytes and accuracy are those of
    the bundle, where it tells; otherwise as the graph has them, and only what loses nothing may be chosen.

    Args:
        variant: of a bundle, or a plain file.
        local: how the whole runs here.
        rates: of the device; None where not even its cores are known: work is then shared out by multiplications.
        max_drop: what a codec may cost in accuracy, as a share.

    Returns:
        Those that may not be chosen have `barred`. Nothing where the graph cannot be cut or read.
    """
    from edge_sdk.graph.cuts import head_ops, input_cut

    graph = variant.graph()
    if graph is None:
        return []
    try:
        cuts = [input_cut(graph), *_cuts(graph, variant.cuts)]
        heads = head_ops(graph, cuts)
        costs = CostModel(graph, local.engine, rates) if rates is not None and rates.covers(local.engine) else None
        shares = _shares(cuts, heads, local, costs)
    except EdgeError as error:
        _log.info("%s: no split: %s", variant.name, error)
        return []
    kept = {cut.id: cut for cut in variant.cuts}
    inputs = frozenset(graph.inputs)
    ways: list[RemoteWay] = []
    kinds = {op.name: op.kind for op in graph.ops}
    one_core_ms = local.latency_ms * _one_core(local, costs)
    for cut, head, share in zip(cuts, heads, shares, strict=True):
        if 1.0 - share < LEAST_TAIL and cut.head_ops:
            continue  # all of it would run here, and only its answer travel
        hides_nothing = not inputs.isdisjoint(cut.tensors) or all(kinds[op] in _REVERSIBLE for op in head)
        known = kept.get(cut.id)
        for travelling in _travelling(graph, cut, known, max_drop):
            way = RemoteWay(
                kind="split" if cut.head_ops else "offload",
                variant=variant.name,
                cut=cut.id,
                tensors=cut.tensors,
                sends_input=hides_nothing,
                codec=travelling.codec,
                coding=travelling.coding,
                up_bytes=round(travelling.up_bytes),
                down_bytes=sum(graph.tensors[name].bytes or 0 for name in cut.tail_outputs),
                head_ms=local.latency_ms * share + one_core_ms * travelling.encode_share,
                tail_share=1.0 - share,
                decode_share=travelling.decode_share,
                accuracy=variant.accuracy if travelling.accuracy is None else travelling.accuracy,
                leakage=1.0 if hides_nothing else None if known is None else known.leakage,
                barred=travelling.barred,
            )
            ways.append(way)
    return ways


def _cuts(graph: Graph, kept: Sequence[KeptCut]) -> list[Cut]:
    from edge_sdk.graph.cuts import cut_at
    from edge_sdk.graph.cuts_pareto import pareto_cuts

    if kept:
        found = [cut_at(graph, cut.tensors, nearest=False) for cut in kept]
    else:
        found = list(pareto_cuts(graph))
    return [cut for cut in found if cut.divides]


def _shares(
    cuts: Sequence[Cut], heads: Sequence[frozenset[str]], local: LocalRun, costs: CostModel | None
) -> list[float]:
    if costs is not None:
        return costs.head_shares(heads, local.placement)
    return [cut.head_macs / max(cut.head_macs + cut.tail_macs, 1) for cut in cuts]


def _one_core(local: LocalRun, costs: CostModel | None) -> float:
    """How many times as long a request to the whole takes on one core as where it runs."""
    placement = local.placement
    if costs is not None:
        alone = Placement(cpus=placement.cpus, threads=1, label=placement.label)
        return costs.predict(alone).latency_ms / max(costs.predict(placement).latency_ms, 1e-9)
    return 1 + FURTHER_CORE * ((placement.threads or 1) - 1)


@dataclass(frozen=True, slots=True)
class _Travelling:
    """One way for a cut's tensors to travel; times as shares of a request to the whole on one core of the machine."""

    codec: str
    coding: str
    up_bytes: float
    encode_share: float = 0.0
    decode_share: float = 0.0
    accuracy: float | None = None
    barred: str = ""


def _travelling(graph: Graph, cut: Cut, kept: KeptCut | None, max_drop: float) -> list[_Travelling]:
    from edge_sdk.graph.codec import wire_bytes

    if kept is not None and kept.codecs:
        return [
            _Travelling(
                one.codec,
                one.coding,
                one.wire_bytes,
                one.encode_share or 0.0,
                one.decode_share or 0.0,
                None if one.metric == AGREEMENT else one.accuracy,
                _against(one, max_drop),
            )
            for one in kept.codecs
        ]
    floats = any(graph.tensors[name].dtype == "float32" for name in cut.tensors)
    sizes = [(codec, wire_bytes(graph, cut, codec)) for codec in (UNTOLD_CODECS if floats else UNTOLD_CODECS[:1])]
    return [
        _Travelling(codec, "none", size, barred="" if codec == "none" else UNTOLD.format(codec))
        for codec, size in sizes
        if size is not None
    ]


def _against(told: CutCodec, max_drop: float) -> str:
    """What stands against a codec and coding; "" where they cost no more than is allowed."""
    name = told.codec if told.coding == "none" else f"{told.codec}+{told.coding}"
    if told.drop is not None and told.drop > max_drop:
        return f"{name} costs {told.drop:.3g} of {told.metric or 'accuracy'}, more than {max_drop:g}"
    if told.drop is None and (told.codec != "none" or "@" in told.coding):
        return UNTOLD.format(name)
    return ""
