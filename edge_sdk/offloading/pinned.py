"""A model cut where the caller said: head and local tail here, the tail at endpoints, and the plan that says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from edge_sdk.errors import InputError, ModelError

if TYPE_CHECKING:
    from edge_sdk.bundle import Cut as KeptCut
    from edge_sdk.engines.base import Engine, LoadOptions, Runner
    from edge_sdk.graph.cuts import Cut
    from edge_sdk.graph.view import Graph
    from edge_sdk.offload import SplitRunner
    from edge_sdk.offloading.asked import Offload
    from edge_sdk.planner import Plan, Variant

__all__ = ["samples_of", "split_runner"]

_CUT_ID = re.compile(r"[0-9a-f]{12}")


def split_runner(
    offload: Offload,
    name: str,
    variant: Variant,
    plan: Plan,
    engine: Engine,
    options: LoadOptions,
    wrap: Callable[[Runner], Runner],
) -> tuple[SplitRunner, Plan]:
    """Head and local tail of the chosen variant, with the tail at the endpoints; and the plan that says so.

    Args:
        offload: what `load` was asked for.
        name: of the model, for messages.
        variant: that was chosen, and `plan` for it.
        engine: that runs head and local tail, loaded with `options`.
        wrap: puts around a runner of the variant's file what a session has around it.

    Raises:
        ModelError: the model cannot be cut there, or head and tail differ from the whole.
        InputError: a request in `offload.data` does not fit, or codec int8 has no requests to take its ranges from.
        MissingExtra: what reads graphs is not installed.
    """
    from edge_sdk.graph import open_graph
    from edge_sdk.graph.codec import wire_bytes
    from edge_sdk.offloading.opening import open_way

    file = variant.file()
    graph = variant.graph() or open_graph(file)  # which says why there is none
    cut = _cut(graph, offload.cut, name, variant.cuts)
    dtypes = {graph.tensors[tensor].dtype for tensor in cut.tensors}
    codec = offload.codec or "none"
    if "float32" not in dtypes and not (codec.startswith("int4") and dtypes & {"int8", "uint8"}):
        codec = "none"
    samples = _samples_for(codec, offload, variant, name, lambda: engine.load(file, options), wrap)
    opened = open_way(
        offload,
        name,
        file,
        graph,
        cut,
        codec=codec,
        coding=offload.coding,
        samples=samples,
        engine=engine,
        options=options,
    )
    opened.split.prepare()
    where = ", ".join(endpoint.name for endpoint in offload.endpoints)
    size_bytes = wire_bytes(graph, cut, codec)
    travels = f"{size_bytes:,} bytes" if size_bytes is not None else "an open number of bytes"
    if codec != "none":
        travels = (
            f"{travels} as {codec} (answers differ by {opened.parts.difference.relative:.2g} of the largest value)"
        )
    reason = f"cut at {', '.join(cut.tensors)}: {travels} travel; tail at {where}, or here; head: {plan.reason}"
    kind = "split" if cut.head_ops else "offload"
    return opened.split, msgspec.structs.replace(plan, kind=kind, reason=reason)


def samples_of(
    offload: Offload, variant: Variant, name: str, load: Callable[[], Runner], wrap: Callable[[Runner], Runner]
) -> list[dict[str, Any]]:
    """Requests as the variant's file takes them: the caller's, or the golden ones of a bundle; none where there are
    neither.

    Args:
        load: loads the variant's file.
        wrap: puts around it what a session has around it.

    Raises:
        InputError: a request does not fit.
    """
    from edge_sdk.offload.sampling import inner_feeds

    if offload.data:
        return inner_feeds(load(), wrap, offload.data, f"{name}: data")
    golden = [one.feeds for one in variant.golden()]
    if golden:  # they are of the bundle's signature: what a session has around that is not for them
        return inner_feeds(load(), variant.wrap, golden, f"{name}: golden request")
    return []


def _samples_for(
    codec: str,
    offload: Offload,
    variant: Variant,
    name: str,
    load: Callable[[], Runner],
    wrap: Callable[[Runner], Runner],
) -> list[dict[str, Any]]:
    """What a codec's ranges come from, and what its answers are compared on; made-up numbers do where nothing is lost.

    Raises:
        InputError: it needs requests, and there are none.
    """
    if codec == "none":
        return []
    samples = samples_of(offload, variant, name, load, wrap)
    if not samples and codec != "fp16":
        raise InputError(
            f"{name}: codec {codec} takes its ranges from requests, and there are none: give some with data=[feeds, …]"
            " (--data), load a bundle with golden requests, or take codec fp16"
        )
    return samples


def _cut(graph: Graph, wanted: str | tuple[str, ...] | None, name: str, kept: Sequence[KeptCut] = ()) -> Cut:
    """The cut that is wanted; `kept` are those that the bundle lists, so that they need not be found anew."""
    from edge_sdk.graph.cuts import cut_at, cuts_of, input_cut
    from edge_sdk.graph.cuts_pareto import pareto_cuts

    if wanted is None:
        able: Sequence[Cut | KeptCut] = [cut for cut in kept if cut.head_ops and cut.tail_ops]
        able = able or [cut for cut in pareto_cuts(graph) if cut.divides]
        if not able:
            raise ModelError(f"{name}: there is no cut that leaves work on both sides; load it without endpoints")
        worth = [cut for cut in able if (cut.tail_macs or 0) >= (cut.head_macs or 0)] or able
        best = min(worth, key=lambda cut: (cut.wire_bytes or float("inf"), cut.head_macs or 0))
        return cut_at(graph, best.tensors, nearest=False, where=name)
    if isinstance(wanted, str) and _CUT_ID.fullmatch(wanted) and wanted not in graph.tensors:
        known = next((cut.tensors for cut in kept if cut.id == wanted), None)
        found = next((cut for cut in cuts_of(graph) if cut.id == wanted), None) if known is None else None
        if known is None and found is None:
            raise ModelError(f"{name}: no cut {wanted!r} is listed; see: edge-sdk split {name} --list")
        return found or cut_at(graph, known or (), nearest=False, where=name)
    names = (wanted,) if isinstance(wanted, str) else wanted
    return input_cut(graph) if set(names) == set(graph.inputs) else cut_at(graph, names, where=name)
