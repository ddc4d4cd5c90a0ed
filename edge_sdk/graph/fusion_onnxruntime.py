"""What ONNX Runtime makes of a graph on the CPU with all its optimisations on.

Source: the graph transformers of ONNX Runtime (onnxruntime/core/optimizer), in the order it applies them.
"""

from __future__ import annotations

from edge_sdk.graph.fusion_blocked import block_channels
from edge_sdk.graph.fusion_channels_last import move_channels_last
from edge_sdk.graph.fusion_patterns import (
    join_attention_products,
    join_gelu,
    join_layer_norm,
    join_quick_gelu,
    join_skip_layer_norm,
)
from edge_sdk.graph.fusion_quantised import fold_dequantised, join_dynamic, join_quantised
from edge_sdk.graph.kernels import Kernel, Kernels

__all__ = ["fuse"]

_CONVS = frozenset({"Conv", "com.microsoft.FusedConv"})
_AFTER_CONV = frozenset({"Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSigmoid"})
_AFTER_GEMM = frozenset(
    {
        "Elu", "HardSigmoid", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip
_POOLS = frozenset({"MaxPool", "AveragePool"})
_NEVER_FOLDED = frozenset({"RandomNormal", "RandomUniform", "If", "Loop", "Scan", "Multinomial", "Bernoulli"})


def fuse(kernels: Kernels, channel_block: int) -> None:
    """Applies the optimisations step by step; pictures in blocks of so many channels, 0 for the plain layout."""
    _fold_constants(kernels)
    _fold_shapes(kernels)
    _hand_on(kernels)
    _join_pads(kernels)
    _join_linear(kernels)
    _join_matmul_add(kernels)
    join_quantised(kernels)
    fold_dequantised(kernels)
    join_dynamic(kernels)
    join_layer_norm(kernels)
    join_gelu(kernels)
    join_quick_gelu(kernels)
    join_attention_products(kernels)
    _join_activations(kernels, frozenset({"Gemm"}), _AFTER_GEMM)
    join_skip_layer_norm(kernels)
    _join_activations(kernels, _CONVS, _AFTER_CONV)
    move_channels_last(kernels)
    if channel_block:
        block_channels(kernels, channel_block)
    _join_sums(kernels)
    _expand_hard_swish(kernels)


def _fold_constants(kernels: Kernels) -> None:
    for kernel in kernels:
        constant = kernel.outputs and all(kernels.graph.tensors[name].constant for name in kernel.outputs)
        if constant and kernel.type != "DequantizeLinear":  # of which some remain, see `fold_dequantised`
            kernels.fold(kernel)


def _fold_shapes(kernels: Kernels) -> None:
    """Works out what depends on shapes alone. With open dimensions in the file none of it is known when loading."""
    if kernels.graph.assumed:
        return
    for kernel in kernels:
        known = kernel.type in ("Shape", "Size") or (not kernel.inputs and _takes_shapes(kernels, kernel))
        if known and not any(kernels.is_output(name) for name in kernel.outputs):
            kernels.fold(kernel)


def _takes_shapes(kernels: Kernels, kernel: Kernel) -> bool:
    """Whether something but weights went into a kernel of which all inputs were folded."""
    taken = [name for name in kernel.ops[0].inputs if name and not kernels.graph.tensors[name].constant]
    return bool(taken) and kernel.type not in _NEVER_FOLDED


def _expand_hard_swish(kernels: Kernels) -> None:
    """A HardSwish that no convolution took up runs as two kernels: there is none of that name."""
    for kernel in kernels:
        if kernel.type == "HardSwish":
            kernel.type = "HardSigmoid"
            kernels.follow_up(kernel, "Mul", "elementwise")


def _hand_on(kernels: Kernels) -> None:
    for kernel in kernels:
        inner = kernel.type == "Dropout" and not kernels.is_output(kernel.outputs[0])
        if inner or kernel.type == "Identity" or (kernel.type == "Cast" and _keeps_dtype(kernels, kernel)):
            kernels.bypass(kernel)


def _keeps_dtype(kernels: Kernels, kernel: Kernel) -> bool:
    tensors = kernels.graph.tensors
    return bool(kernel.inputs) and tensors[kernel.inputs[0]].dtype == tensors[kernel.outputs[0]].dtype


def _join_pads(kernels: Kernels) -> None:
    for kernel in kernels:
        reader = kernels.only_reader(kernel)
        if kernel.type == "Pad" and reader is not None and reader.type in _CONVS | _POOLS:
            kernels.join(reader, kernel)


def _join_linear(kernels: Kernels) -> None:
    """A convolution takes up a normalisation, a factor or an offset per channel behind it: they become its weights."""
    for kernel in kernels:
        current = kernel
        fixed = kernels.has_fixed_weights(kernel)
        while fixed and current.type == "Conv" and (reader := kernels.only_reader(current)) is not None:
            linear = reader.type in ("BatchNormalization", "Mul", "Add") and reader.inputs == current.outputs
            if not linear or (reader.type != "BatchNormalization" and not _per_channel(kernels, reader)):
                break
            current = kernels.join(current, reader)
        reader = kernels.only_reader(kernel) if kernel.type == "MatMul" else None
        if reader is not None and reader.type == "BatchNormalization" and len(kernel.inputs) == 1:
            kernels.join(kernel, reader, type="Gemm", kind="gemm")


def _per_channel(kernels: Kernels, kernel: Kernel) -> bool:
    """Whether the constant of a Mul or Add has one number per channel of the second axis, or one in all."""
    op = kernel.ops[0]
    shapes = [kernels.shape(name) for name in op.inputs if name and kernels.graph.tensors[name].constant]
    data = kernels.shape(kernel.inputs[0])
    if len(shapes) != 1 or shapes[0] is None or data is None:
        return False
    shape = (1,) * (len(data) - len(shapes[0])) + shapes[0]
    return len(shape) == len(data) and all(size == 1 for axis, size in enumerate(shape) if axis != 1)


def _join_matmul_add(kernels: Kernels) -> None:
    """A product with weights and an offset per column is a Gemm; of more axes than two behind a reshape."""
    for kernel in kernels:
        reader = kernels.only_reader(kernel)
        if kernel.type != "MatMul" or len(kernel.inputs) != 1 or reader is None or reader.type != "Add":
            continue
        constants = [name for name in reader.ops[0].inputs if kernels.graph.tensors[name].constant]
        output = kernels.shape(kernel.outputs[0])
        if len(constants) == 1 and output and kernels.shape(constants[0]) in ((output[-1],), (1, output[-1])):
            kernels.join(kernel, reader, type="Gemm", kind="gemm")


def _join_activations(kernels: Kernels, types: frozenset[str], activations: frozenset[str]) -> None:
    for kernel in kernels:
        reader = kernels.only_reader(kernel)
        if kernel.type not in types or "activation" in kernel.marks or reader is None:
            continue
        if reader.type in activations and reader.inputs == kernel.outputs:
            kernels.join(kernel, reader, mark="activation")


def _join_sums(kernels: Kernels) -> None:
    """A convolution of pictures that has a bias adds another tensor of the same shape, and applies an activation behind
    that."""
    for kernel in kernels:
        if kernel.type != "Add" or len(kernel.inputs) != 2 or len(kernel.ops) != 1:
            continue
        if len({kernels.shape(name) for name in kernel.inputs}) != 1:
            continue
        conv = _conv_to_join(kernels, kernel)
        if conv is None:
            continue
        joined = kernels.join(conv, kernel, mark="sum")
        reader = kernels.only_reader(joined)
        if reader is not None and reader.type in _AFTER_CONV and reader.inputs == joined.outputs:
            kernels.join(joined, reader, mark="activation")


def _conv_to_join(kernels: Kernels, kernel: Kernel) -> Kernel | None:
    for name in kernel.inputs:
        maker = kernels.maker(name)
        if maker is None or maker.type not in _CONVS or maker.marks & {"activation", "sum"}:
            continue
        shape = kernels.shape(name)
        biased = len(maker.ops) > 1 or len([name for name in maker.ops[0].inputs if name]) > 2
        if biased and shape is not None and len(shape) == 4 and kernels.only_reader(maker) is kernel:
            return maker
    return None
