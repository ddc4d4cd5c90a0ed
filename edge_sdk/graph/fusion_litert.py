"""What LiteRT makes of a TFLite graph on the CPU: nearly every op is a kernel, since the converter fused already.

An activation that a convolution ends with is part of the op in the file. XNNPACK, which LiteRT applies by itself, adds
little: constants are dequantised and weights packed when the model is loaded; a reshape gives the same memory another
name.
"""

from __future__ import annotations

from edge_sdk.graph.kernels import Kernels

__all__ = ["fuse"]

_STATIC = frozenset({"SHAPE", "RANK"})


def fuse(kernels: Kernels) -> None:
    """Folds what is known before the first run."""
    for kernel in kernels:
        known = all(kernels.graph.tensors[name].constant for name in kernel.outputs)
        # Shapes are settled when tensors are allocated.
        if known or kernel.type in _STATIC or (not kernel.inputs and kernel.ops[0].inputs):
            kernels.fold(kernel)
    _join_pads(kernels)


def _join_pads(kernels: Kernels) -> None:
    """XNNPACK pads with zeros while it convolves."""
    for kernel in kernels:
        reader = kernels.only_reader(kernel)
        if kernel.type == "PAD" and reader is not None and reader.type in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            kernels.join(reader, kernel)
