"""`fused`: which ops of a graph an engine runs as one kernel."""

from __future__ import annotations

from edge_sdk.graph.kernels import FusedGroup, Kernels
from edge_sdk.graph.view import Graph

__all__ = ["FusedGroup", "fused"]


def fused(graph: Graph, engine: str, *, channel_block: int = 16) -> tuple[FusedGroup, ...]:
    """The kernels an engine makes of a graph, in the order they run.

    An op that is in no group costs nothing in a request: it is worked out when the model is loaded (constants, shapes)
    or hands on what it takes (Identity, Dropout).

    Args:
        graph: from `open_graph`.
        engine: "onnxruntime" or "litert" (on the CPU, all its optimisations on); for any other each op is a group.
        channel_block: ONNX Runtime lays pictures out in blocks of so many channels and adds kernels that reorder them:
            16 with AVX-512, 8 on other x86 processors, 0 (never) on ARM.
    """
    kernels = Kernels(graph)
    if engine == "onnxruntime" and graph.format == "onnx":
        from edge_sdk.graph.fusion_onnxruntime import fuse

        fuse(kernels, channel_block)
    elif engine == "litert" and graph.format == "tflite":
        from edge_sdk.graph.fusion_litert import fuse as fuse_litert

        fuse_litert(kernels)
    else:
        for kernel in kernels:
            if all(graph.tensors[name].constant for name in kernel.outputs):
                kernels.fold(kernel)
    return kernels.groups()
