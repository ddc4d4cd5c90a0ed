"""How much each layer of an int8 model adds to the error, measured for all layers in one run.

Every layer is run twice on the same float inputs: as in the source, and with its inputs and weights rounded as in
the int8 model. What others do to its inputs does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_sdk.compress.onnx_graphs import copied, makers_of
from edge_sdk.compress.onnx_running import run_samples
from edge_sdk.compress.tools import needed
from edge_sdk.tensors import Array

__all__ = ["local_errors"]

_PREFIX = "float/"
_TINY = float(np.finfo(np.float32).tiny)


def local_errors(model: Any, quantised: Any, samples: Sequence[Mapping[str, Array]]) -> dict[str, float]:
    """Relative squared error each layer adds by itself, by node name, largest first.

    Args:
        model: the prepared `ModelProto`.
        quantised: what `static_int8` made of it.
        samples: calibration data.
    """
    joined, compared = _joined(model, quantised)
    if not compared:
        return {}
    added: dict[str, float] = {}
    power: dict[str, float] = {}
    for answer in run_samples(joined, samples):
        for node, (tensor, swallowed) in compared.items():
            real, rounded = answer[_PREFIX + tensor], answer[tensor]
            if swallowed and real.size:
                rounded = np.clip(rounded, real.min(), real.max())
            difference = rounded.astype(np.float64) - real
            added[node] = added.get(node, 0.0) + float((difference * difference).sum())
            power[node] = power.get(node, 0.0) + float((real.astype(np.float64) ** 2).sum())
    errors = {node: added[node] / max(power[node], _TINY) for node in compared}
    return dict(sorted(errors.items(), key=lambda entry: -entry[1]))


def _joined(model: Any, quantised: Any) -> tuple[Any, dict[str, tuple[str, bool]]]:
    """One graph that holds the float model, and beside it every layer of the int8 model fed with the float model's
    tensors.

    Also by layer which tensor to compare, and whether that is what came out of an activation that the quantizer
    swallowed (int8 clips by itself).
    """
    onnx = needed("onnx")
    makers = makers_of(model)
    weights = {weight.name for weight in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        twin = copied(node)
        twin.name = _PREFIX + node.name
        twin.input[:] = [_PREFIX + name if name in makers or name in weights else name for name in node.input]
        twin.output[:] = [_PREFIX + name if name else "" for name in node.output]
        nodes.append(twin)
    compared: dict[str, tuple[str, bool]] = {}
    rounding = {"QuantizeLinear", "DequantizeLinear"}
    for node in quantised.graph.node:
        twin = copied(node)
        # Real numbers come from the float model wherever it has them.
        twin.input[:] = [_PREFIX + name if name in makers else name for name in node.input]
        nodes.append(twin)
        rounded = any(name.endswith("DequantizeLinear_Output") or "_DequantizeLinear" in name for name in node.input)
        if node.op_type not in rounding and rounded and node.output[0] in makers:
            compared[node.name] = (node.output[0], makers[node.output[0]].name != node.name)
    listed = {name for tensor, _ in compared.values() for name in (tensor, _PREFIX + tensor)}
    held = [onnx.TensorProto.FromString(weight.SerializeToString()) for weight in model.graph.initializer]
    for weight in held:
        weight.name = _PREFIX + weight.name
    graph = onnx.helper.make_graph(
        nodes,
        "joined",
        list(model.graph.input),
        [onnx.ValueInfoProto(name=name) for name in sorted(listed)],
        [*held, *quantised.graph.initializer],
    )
    imports = {entry.domain: entry for entry in [*model.opset_import, *quantised.opset_import]}
    return onnx.helper.make_model(
        graph, opset_imports=list(imports.values()), ir_version=max(model.ir_version, quantised.ir_version)
    ), compared
