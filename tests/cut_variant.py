"""A variant of a bundle that knows what packing takes at each of its cuts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_sdk.bundle import Cut, CutCodec
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import input_cut
from edge_sdk.graph.cuts_pareto import pareto_cuts
from edge_sdk.planner import Variant
from edge_sdk.planner.remote import RemoteWay
from tests import models

PACKING = 0.5
"""Of a request to the whole on one core."""


@contextmanager
def cut_variant(folder: Path) -> Iterator[Variant]:
    """Each cut raw, and packed by deflate."""
    path = folder / "net.onnx"
    path.write_bytes(models.onnx_mlp(64, 16, 4))
    with open_model(path) as file:
        graph = open_graph(file)
        ways = (
            CutCodec(codec="none", wire_bytes=64.0, drop=0.0),
            CutCodec(codec="none", coding="deflate", wire_bytes=32.0, drop=0.0, encode_share=PACKING),
        )
        cuts = tuple(
            Cut(variant="fp32", id=cut.id, tensors=cut.tensors, head_ops=cut.head_ops, codecs=ways)
            for cut in [input_cut(graph), *pareto_cuts(graph)]
        )
        yield Variant("fp32", "onnx", "d", lambda: file, cuts=cuts)


def by_coding(ways: list[RemoteWay], kind: str) -> dict[str, RemoteWay]:
    """Of the first cut of a kind."""
    cut = next(way.cut for way in ways if way.kind == kind)
    return {way.coding: way for way in ways if way.cut == cut}
