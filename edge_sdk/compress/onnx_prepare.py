"""Bringing a cleaned ONNX model into the form that quantizers, pruning and factoring expect.

A current opset, batch normalisation folded into convolutions, biases as plain vectors, shapes inferred. Each step is
proven to keep the results.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_sdk.compress.onnx_cleanup import same_results
from edge_sdk.compress.onnx_files import save
from edge_sdk.compress.onnx_graphs import copied, initializers, name_nodes, opset, readers_of
from edge_sdk.compress.onnx_running import run_samples
from edge_sdk.compress.tools import needed, one_line, quiet
from edge_sdk.errors import CompressionError
from edge_sdk.tensors import Array

__all__ = ["inferred", "prepare"]

OPSET = 17
"""Quantisation per channel needs 13; LayerNormalization is an op from 17 on."""
_PER_CHANNEL_OPSET = 13


def prepare(model: Any, samples: Sequence[Mapping[str, Array]]) -> Any:
    """A model with the same results, ready to be quantised.

    Args:
        model: a cleaned `ModelProto`.
        samples: to prove that the results stay.

    Raises:
        CompressionError: it cannot be brought to an opset that can express int8 per channel.
        MissingExtra: `onnx` is not installed.
    """
    wanted = list(run_samples(model, samples))
    if opset(model) < _PER_CHANNEL_OPSET:
        model = _raised(model, wanted, samples)
    folded = _folded(model, wanted, samples)
    return inferred(_flat_biases(folded if folded is not None else model))


def inferred(model: Any) -> Any:
    """The model with what shapes can be inferred; quantizers leave alone what they know no type of."""
    onnx = needed("onnx")
    try:
        with_shapes = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # noqa: BLE001 - too large, or an op without inference: what is known stays known
        return model
    return with_shapes


def _raised(model: Any, wanted: Sequence[Mapping[str, Array]], samples: Sequence[Mapping[str, Array]]) -> Any:
    """The model at a current opset."""
    onnx = needed("onnx")
    source = opset(model)
    last = ""
    for version in (OPSET, 15, _PER_CHANNEL_OPSET):
        try:
            raised = onnx.version_converter.convert_version(_with_upsample_replaced(model), version)
            raised.ir_version = max(raised.ir_version, model.ir_version)
            name_nodes(raised)
            same_results(wanted, raised, samples)
        except CompressionError as error:
            last = str(error)
        except Exception as error:  # noqa: BLE001 - the converter raises RuntimeError and worse for what it cannot do
            last = one_line(error)
        else:
            return raised
    raise CompressionError(
        f"the model is of opset {source}, and int8 per channel needs {_PER_CHANNEL_OPSET}; it could not be"
        f" converted: {last}; export it with a newer opset"
    )


def _with_upsample_replaced(model: Any) -> Any:
    """Upsample ended at opset 9; the converter knows no successor for it."""
    if opset(model) > 10 or not any(node.op_type == "Upsample" for node in model.graph.node):
        return model
    fusions = needed("onnxruntime.quantization.fusions")
    wrapper = needed("onnxruntime.quantization.onnx_model")
    copy = copied(model)
    with quiet():
        fusions.ReplaceUpsampleWithResize(wrapper.ONNXModel(copy), opset(copy)).apply()
    return needed("onnx").version_converter.convert_version(copy, 11)


def _folded(model: Any, wanted: Sequence[Mapping[str, Array]], samples: Sequence[Mapping[str, Array]]) -> Any | None:
    """The model after ONNX Runtime's basic optimisations, which any runtime can run; None where they cannot be used."""
    ort = needed("onnxruntime")
    onnx = needed("onnx")
    with tempfile.TemporaryDirectory(prefix="edge-sdk-") as folder:
        given, target = Path(folder, "given.onnx"), Path(folder, "folded.onnx")
        save(model, given)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        try:
            ort.InferenceSession(str(given), options, providers=["CPUExecutionProvider"])
            folded = onnx.load(str(target))
            foreign = {entry.domain for entry in folded.opset_import} - {entry.domain for entry in model.opset_import}
            used = {node.domain for node in folded.graph.node}
            if foreign & used:
                return None
            kept = [entry for entry in folded.opset_import if entry.domain not in foreign]
            del folded.opset_import[:]
            folded.opset_import.extend(kept)
            name_nodes(folded)
            same_results(wanted, folded, samples)
        except Exception:  # noqa: BLE001 - only an optimisation: without it quantising is less effective, not wrong
            return None
    return folded


def _flat_biases(model: Any) -> Any:
    """Biases of Gemm as vectors: [1, n] is legal, and the quantizer stumbles over it."""
    onnx = needed("onnx")
    weights = initializers(model)
    readers = readers_of(model)
    for node in model.graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[2] not in weights:
            continue
        bias = weights[node.input[2]]
        if len(bias.dims) == 2 and bias.dims[0] == 1 and len(readers[bias.name]) == 1:
            bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias).reshape(-1), bias.name))
    return model
