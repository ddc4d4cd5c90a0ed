"""A TFLite file through ai-edge-quantizer: what it needs to know put into the file first, its recipes, its errors in
one line."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.compress.tools import needed, one_line, quiet
from edge_sdk.errors import CompressionError
from edge_sdk.formats import open_model
from edge_sdk.tensors import Array

__all__ = ["METHODS", "calibrated", "prepared", "quantised", "recipe_for"]

_IDENTIFIER = b"TFL3"
_PLACEHOLDER = 127
"""Ops with a higher number than a byte holds carry this in the old field."""
_KEY = "serving_default"
METHODS = ("min-max", "moving average")
"""min-max: the whole range seen. moving average: of each sample's own range, so that one odd sample counts little."""
_LARGEST_FLATBUFFER = 1 << 31


def prepared(source: Path) -> bytes:
    """The file with a signature, op codes in the field that newer tools read, and tensor names that tell tensors apart.

    The signature names inputs and outputs as `ModelInfo` does, so that feeds stay as they are.

    Raises:
        MissingExtra: ai-edge-litert is not installed.
    """
    schema = needed("ai_edge_litert.schema_py_generated")
    info = open_model(source).describe()
    model = schema.ModelT.InitFromPackedBuf(bytearray(source.read_bytes()), 0)
    for code in model.operatorCodes:
        if code.deprecatedBuiltinCode != _PLACEHOLDER:
            code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    taken: set[bytes] = set()
    for graph in model.subgraphs:
        for number, tensor in enumerate(graph.tensors):
            name = tensor.name or b"tensor"
            if name in taken:
                tensor.name = name + f"#{number}".encode()
            taken.add(tensor.name or name)
    if not model.signatureDefs:
        graph = model.subgraphs[0]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = _KEY.encode(), 0
        signature.inputs = _named(schema, [spec.name for spec in info.inputs], graph.inputs)
        signature.outputs = _named(schema, [spec.name for spec in info.outputs], graph.outputs)
        model.signatureDefs = [signature]
    return _packed(model)


def recipe_for(kind: str, float_layers: Collection[str] = (), *, blocks: bool = True) -> list[dict[str, Any]]:
    """The quantizer's recipe of a kind: "fp16", "int8-dynamic", "int8-static" or "int4-weights".

    Args:
        kind: the name of the variant.
        float_layers: names of output tensors of layers that stay in float.
        blocks: whether 4-bit weights have a scale a block of 32, as opposed to one a channel.
    """
    import re

    manager = needed("ai_edge_quantizer.recipe_manager").RecipeManager()
    types = needed("ai_edge_quantizer.qtyping")
    algorithms = needed("ai_edge_quantizer.algorithm_manager").AlgorithmName
    every, name = ".*", types.TFLOperationName
    if kind == "fp16":
        config = types.OpQuantizationConfig(
            weight_tensor_config=types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT),
            compute_precision=types.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        )
        manager.add_quantization_config(every, name.ALL_SUPPORTED, config, algorithms.FLOAT_CASTING)
    elif kind == "int8-dynamic":
        manager.add_dynamic_config(every, name.ALL_SUPPORTED, num_bits=8)
    elif kind == "int4-weights":
        # Not convolutions: with one scale a channel 4 bits are too few for them, and their kernel is slower than int8.
        manager.add_dynamic_config(every, name.ALL_SUPPORTED, num_bits=8)
        grain = types.QuantGranularity.BLOCKWISE_32 if blocks else types.QuantGranularity.CHANNELWISE
        for operation in (name.FULLY_CONNECTED, name.EMBEDDING_LOOKUP):
            manager.add_dynamic_config(every, operation, num_bits=4, granularity=grain)
    else:
        manager.add_static_config(every, name.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
        for edge in (name.INPUT, name.OUTPUT, name.SOFTMAX):
            # Callers go on feeding and receiving real numbers; softmax in int8 rounds shares to 1/256.
            manager.add_quantization_config(every, edge, None, algorithms.NO_QUANTIZE)
    for layer in float_layers:
        manager.add_quantization_config(f"^{re.escape(layer)}(;|$)", name.ALL_SUPPORTED, None, algorithms.NO_QUANTIZE)
    return list(manager.get_quantization_recipe())


def calibrated(content: bytes, recipe: list[dict[str, Any]], method: str, feeds: Sequence[Mapping[str, Array]]) -> Any:
    """Ranges of all activations over the samples, as the quantizer holds them.

    Args:
        content: of `prepared`.
        recipe: of `recipe_for`.
        method: one of `METHODS`.
        feeds: the samples.

    Raises:
        CompressionError: the model cannot be run on the samples.
    """
    ranges = needed("ai_edge_quantizer.utils.qsv_utils")
    merge = ranges.min_max_update if method == METHODS[0] else ranges.moving_average_update
    manager = needed("ai_edge_quantizer.recipe_manager").RecipeManager()
    manager.load_quantization_recipe(recipe)
    signatures = open_model(content).describe().signatures
    try:
        with quiet():
            calibrator = needed("ai_edge_quantizer.calibrator").Calibrator(
                content, num_threads=1, qsv_update_func=merge
            )
            calibrator.calibrate({signatures[0].key: [dict(feed) for feed in feeds]}, manager)
            return calibrator.get_model_qsvs()
    except Exception as error:  # noqa: BLE001 - the quantizer and the engine have no error class of their own
        raise CompressionError(f"calibration failed: {one_line(error)}") from None


def quantised(content: bytes, recipe: list[dict[str, Any]], ranges: Any = None) -> bytes:
    """The quantised file.

    Raises:
        CompressionError: the quantizer fails, or leaves everything as it was.
    """
    quantizer = needed("ai_edge_quantizer.quantizer")
    before = open_model(content).describe()
    try:
        with quiet():
            made = bytes(quantizer.Quantizer(bytearray(content), recipe).quantize(ranges).quantized_model)
    except Exception as error:  # noqa: BLE001 - as above
        raise CompressionError(f"ai-edge-quantizer fails: {one_line(error)}") from None
    made = _self_contained(made)
    after = open_model(made, name="quantised model").describe()
    if after.precision == before.precision:
        raise CompressionError("it holds no layer that ai-edge-quantizer can quantise")
    return made


def _self_contained(content: bytes) -> bytes:
    """The file with its buffers inside the flatbuffer: behind it, where the quantizer may put them, older runtimes
    and tools do not look."""
    schema = needed("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    behind = [buffer for buffer in model.buffers if buffer.offset > 1]
    if not behind or len(content) > _LARGEST_FLATBUFFER:
        return content
    for buffer in behind:
        buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    return _packed(model)


def _packed(model: Any) -> bytes:
    builder = needed("flatbuffers").Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _named(schema: Any, names: Sequence[str], tensors: Sequence[int]) -> list[Any]:
    maps = []
    for name, index in zip(names, tensors, strict=True):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), int(index)
        maps.append(entry)
    return maps
