"""What ONNX Runtime makes of quantised graphs: an op between dequantising and quantising becomes an integer kernel."""

from __future__ import annotations

from edge_sdk.graph.kernels import Kernel, Kernels

__all__ = ["fold_dequantised", "join_dynamic", "join_quantised"]

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
# Ops with an integer kernel that needs the scales of what goes in and comes out.
_COMPUTING = {
    "Conv": "QLinearConv", "MatMul": "QLinearMatMul", "Gemm": "com.microsoft.QGemm", "Add": "com.microsoft.QLinearAdd",
    "Mul": "com.microsoft.QLinearMul", "Concat": "com.microsoft.QLinearConcat", "Where": "com.microsoft.QLinearWhere",
    "Sigmoid": "com.microsoft.QLinearSigmoid", "LeakyRelu": "com.microsoft.QLinearLeakyRelu",
    "AveragePool": "com.microsoft.QLinearAveragePool", "Softmax": "com.microsoft.QLinearSoftmax",
    "GlobalAveragePool": "com.microsoft.QLinearGlobalAveragePool", "MaxPool": "com.microsoft.NhwcMaxPool",
}  # fmt: skip
_FLOAT_OUTPUT = {"MatMul": "com.microsoft.MatMulIntegerToFloat", "Gemm": "com.microsoft.QGemm"}
"""Ops whose integer kernel can hand out floats."""
_MOVING = frozenset(
    {
        "ArgMax", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "Pad", "Reshape", "Slice",
        "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Ops that move numbers without looking at them: they run on integers as they stand."""
_INTEGER = frozenset({*_COMPUTING.values(), *_FLOAT_OUTPUT.values()})
_CLIPPING = frozenset({"Relu", "Clip"})


def join_quantised(kernels: Kernels) -> None:
    """Joins each op with the dequantising before and the quantising behind it."""
    _drop_clipping(kernels)
    for kernel in kernels:
        if kernel.type in _MOVING:
            _join(kernels, kernel, kernel.type)
    for kernel in kernels:
        if kernel.type in _COMPUTING:
            _join(kernels, kernel, _COMPUTING[kernel.type])


def _drop_clipping(kernels: Kernels) -> None:
    """A Relu before quantising goes: the range of the quantised type does its work."""
    for kernel in kernels:
        reader = kernels.only_reader(kernel)
        maker = kernels.maker(kernel.inputs[0]) if kernel.inputs else None
        quantised = kernel.type in _CLIPPING and reader is not None and reader.type == _Q
        if quantised and maker is not None and kernels.only_reader(maker) is kernel:
            kernels.join(maker, kernel)


def _join(kernels: Kernels, kernel: Kernel, type: str) -> None:
    floats = [name for name in kernel.inputs if kernels.graph.tensors[name].dtype.startswith("float")]
    before = [kernels.maker(name) for name in floats]
    if not floats or any(maker is None or maker.type != _DQ for maker in before):
        return
    behind = [reader for name in kernel.outputs for reader in kernels.readers(name)]
    whole = (
        all(reader.type == _Q for reader in behind)
        and len(behind) == len(kernel.outputs)
        and not any(kernels.is_output(name) for name in kernel.outputs)
    )
    if whole:
        made = kernels.join(kernel, *behind, type=type)
    elif kernel.type in _FLOAT_OUTPUT:
        kernel.type = _FLOAT_OUTPUT[kernel.type]
        made = kernel
    else:
        return
    for maker in before:
        assert maker is not None
        if kernels.only_reader(maker) is made:
            made = kernels.join(made, maker)
        else:  # others need the floats too: the integers are read beside them
            kernels.reroute(made, maker.outputs[0], maker.inputs[0])


def fold_dequantised(kernels: Kernels) -> None:
    """Takes out the dequantising of weights that integer kernels took up.

    What float kernels read is dequantised anew in every request: ONNX Runtime keeps it, in case a later step can use
    the integers.
    """
    read_as_floats = {
        name
        for kernel in kernels
        if kernel.type not in _INTEGER
        for op in kernel.ops
        if op.type != _DQ
        for name in op.inputs
    }
    for kernel in kernels:
        if kernel.type == _DQ and not kernel.inputs and not read_as_floats.intersection(kernel.outputs):
            kernels.fold(kernel)


def join_dynamic(kernels: Kernels) -> None:
    """MatMulInteger, Cast, Mul with the scales, Add of the bias: one kernel that hands out floats.

    It quantises its input itself where nobody else needs that.
    """
    for kernel in kernels:
        if kernel.type != "MatMulInteger":
            continue
        cast = _reader(kernels, kernel, "Cast")
        scaled = _reader(kernels, cast, "Mul") if cast is not None else None
        if cast is None or scaled is None:
            continue
        chain = [cast, scaled]
        for name in scaled.inputs:
            maker = kernels.maker(name)
            if maker is not None and maker.type == "Mul" and kernels.only_reader(maker) is scaled:
                chain.append(maker)
        bias = _reader(kernels, scaled, "Add")
        if bias is not None and bias.inputs == scaled.outputs:
            chain.append(bias)
        joined = kernels.join(kernel, *chain, type="com.microsoft.MatMulIntegerToFloat", kind="gemm")
        maker = kernels.maker(joined.inputs[0])
        if maker is not None and maker.type == "DynamicQuantizeLinear":
            readers = {id(reader) for name in maker.outputs for reader in kernels.readers(name)}
            if readers == {id(joined)}:
                kernels.join(joined, maker, type="com.microsoft.DynamicQuantizeMatMul")


def _reader(kernels: Kernels, kernel: Kernel, type: str) -> Kernel | None:
    reader = kernels.only_reader(kernel)
    return reader if reader is not None and reader.type == type else None
