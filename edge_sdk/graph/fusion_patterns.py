"""Chains of small ops that ONNX Runtime knows as one: normalisation over the last axis, Gelu, and their like."""

from __future__ import annotations

from edge_sdk.graph.kernels import Kernel, Kernels

__all__ = ["join_attention_products", "join_gelu", "join_layer_norm", "join_quick_gelu", "join_skip_layer_norm"]


def join_layer_norm(kernels: Kernels) -> None:
    """ReduceMean, Sub, Pow (or Mul), ReduceMean, Add, Sqrt, Div, Mul, Add: LayerNormalization. Without the first two
    and the last: SimplifiedLayerNormalization."""
    for kernel in kernels:
        if kernel.type != "Sqrt":
            continue
        before = _chain_before(kernels, kernel, ("Add",), ("ReduceMean",), ("Pow", "Mul"))
        after = _chain_after(kernels, kernel, ("Reciprocal",)) or []
        scaling = _chain_after(kernels, after[-1] if after else kernel, ("Div", "Mul"), ("Mul",))
        if before is None or scaling is None or not before[-1].inputs:
            continue
        divide, scale = scaling
        centred = before[-1].inputs[0]
        if centred not in divide.inputs:
            continue
        chain = [*before, *after, divide, scale]
        centring = _centring(kernels, centred)
        offset = _after(kernels, scale, "Add")
        if centring and offset is not None and offset.inputs == scale.outputs:
            kernels.join(kernel, *chain, *centring, offset, type="LayerNormalization", kind="normalization")
        elif not centring:
            kernels.join(kernel, *chain, type="SimplifiedLayerNormalization", kind="normalization")


def _centring(kernels: Kernels, name: str) -> list[Kernel]:
    """The kernels that take the mean of a tensor and subtract it, which gives the tensor of this name."""
    subtract = kernels.maker(name)
    if subtract is None or subtract.type != "Sub":
        return []
    means = [maker for n in subtract.inputs if (maker := kernels.maker(n)) is not None and maker.type == "ReduceMean"]
    return [subtract, means[0]] if means else []


def join_gelu(kernels: Kernels) -> None:
    """Div (or Mul), Erf, Add, and two Mul, with x and with 0.5 in any order: Gelu. With a constant added before it all:
    BiasGelu."""
    for kernel in kernels:
        if kernel.type != "Erf":
            continue
        before = _chain_before(kernels, kernel, ("Div", "Mul"))
        after = _chain_after(kernels, kernel, ("Add",), ("Mul",))
        if before is None or after is None or not before[0].inputs:
            continue
        data = before[0].inputs[0]
        halved = [
            maker
            for name in after[1].inputs
            if (maker := kernels.maker(name)) is not None and maker.type == "Mul" and maker.inputs == [data]
        ]
        last = _after(kernels, after[1], "Mul")
        if halved:  # (0.5 * x) * (1 + erf)
            chain = [*before, *after, *halved]
        elif last is not None and data in (*after[1].inputs, *last.inputs):
            chain = [*before, *after, last]
        else:
            continue
        joined = kernels.join(kernel, *chain, type="com.microsoft.Gelu", kind="activation")
        bias = kernels.maker(data)
        if bias is not None and bias.type == "Add" and len(bias.inputs) == 1 and kernels.only_reader(bias) is joined:
            kernels.join(joined, bias, type="com.microsoft.BiasGelu")


def join_quick_gelu(kernels: Kernels) -> None:
    """Sigmoid (behind a factor, perhaps) and the product with what it was taken of: QuickGelu."""
    for kernel in kernels:
        if kernel.type != "Sigmoid":
            continue
        product = kernels.only_reader(kernel)
        if product is None or product.type != "Mul" or len(product.inputs) != 2:
            continue
        factor = _before(kernels, kernel, "Mul")
        if factor is not None and factor.inputs[:1] == factor.inputs and factor.inputs[0] in product.inputs:
            kernels.join(kernel, factor, product, type="com.microsoft.QuickGelu", kind="activation")
        elif kernel.inputs[0] in product.inputs:
            kernels.join(kernel, product, type="com.microsoft.QuickGelu", kind="activation")


def join_skip_layer_norm(kernels: Kernels) -> None:
    """A sum that goes into a LayerNormalization over three axes: SkipLayerNormalization."""
    for kernel in kernels:
        if kernel.type != "LayerNormalization" or not kernel.inputs:
            continue
        total = kernels.maker(kernel.inputs[0])
        if total is None or total.type != "Add" or len(total.ops) != 1:
            continue
        shapes = [kernels.shape(name) for name in (*total.ops[0].inputs, *total.outputs)]
        same = len(set(shapes)) == 1 and shapes[0] is not None and len(shapes[0]) == 3
        if same and kernels.only_reader(total) is kernel:
            kernels.join(kernel, total, type="com.microsoft.SkipLayerNormalization")


def join_attention_products(kernels: Kernels) -> None:
    """A product of two activations takes up the transposition of its last axes, and a factor before or behind it."""
    for kernel in kernels:
        if kernel.type != "MatMul" or len(kernel.inputs) != 2:
            continue
        current = kernel
        for name in list(kernel.inputs):
            maker = kernels.maker(name)
            if maker is None or kernels.only_reader(maker) is not current:
                continue
            if (maker.type == "Transpose" and _swaps_last_axes(maker)) or _is_factor(kernels, maker):
                current = kernels.join(current, maker, type="com.microsoft.FusedMatMul")
        reader = kernels.only_reader(current)
        if reader is not None and _is_factor(kernels, reader):
            kernels.join(current, reader, type="com.microsoft.FusedMatMul")


def _swaps_last_axes(kernel: Kernel) -> bool:
    perm = kernel.ops[0].attributes.get("perm") if kernel.ops else None
    if not perm or len(perm) < 2:
        return False
    rank = len(perm)
    return tuple(perm) == (*range(rank - 2), rank - 1, rank - 2)


def _is_factor(kernels: Kernels, kernel: Kernel) -> bool:
    """Whether a kernel multiplies or divides by one constant number."""
    if kernel.type not in ("Mul", "Div") or len(kernel.ops) != 1 or len(kernel.inputs) != 1:
        return False
    tensors = kernels.graph.tensors
    constants = [tensors[name] for name in kernel.ops[0].inputs if tensors[name].constant]
    if len(constants) != 1 or (kernel.type == "Div" and tensors[kernel.ops[0].inputs[0]].constant):
        return False
    return constants[0].shape is not None and all(size == 1 for size in constants[0].shape)


def _before(kernels: Kernels, kernel: Kernel, type: str) -> Kernel | None:
    """The kernel of that type whose output this one alone reads."""
    for name in kernel.inputs:
        maker = kernels.maker(name)
        if maker is not None and maker.type == type and kernels.only_reader(maker) is kernel:
            return maker
    return None


def _after(kernels: Kernels, kernel: Kernel, type: str) -> Kernel | None:
    """The one reader of a kernel, where it is of that type."""
    reader = kernels.only_reader(kernel)
    return reader if reader is not None and reader.type == type else None


def _chain_before(kernels: Kernels, kernel: Kernel, *types: tuple[str, ...]) -> list[Kernel] | None:
    """The kernels of these types that stand before one, each read by the next alone; None where one is missing."""
    found: list[Kernel] = []
    for wanted in types:
        current = found[-1] if found else kernel
        maker = next((maker for type in wanted if (maker := _before(kernels, current, type)) is not None), None)
        if maker is None:
            return None
        found.append(maker)
    return found


def _chain_after(kernels: Kernels, kernel: Kernel, *types: tuple[str, ...]) -> list[Kernel] | None:
    """The kernels of these types that follow one, each the only reader of the one before; None where one is missing."""
    found: list[Kernel] = []
    for wanted in types:
        reader = kernels.only_reader(found[-1] if found else kernel)
        if reader is None or reader.type not in wanted:
            return None
        found.append(reader)
    return found
