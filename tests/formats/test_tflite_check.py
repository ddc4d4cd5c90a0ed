"""`ModelFile.check` on TFLite: a model that contradicts itself is refused, and the message says where."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import DamagedModel, EdgeError, UnsupportedVersion
from edge_sdk.formats import open_model
from tests import models

schema = models.schema


def refusal(content: bytes, error: type[EdgeError] = DamagedModel) -> str:
    with pytest.raises(error) as caught:
        open_model(content, name="m.tflite").check()
    message = str(caught.value)
    assert message.startswith("m.tflite: ") and "\n" not in message
    return message


def changed(content: bytes, change: Callable[[Any], object]) -> bytes:
    """The model after a change to its object tree, whose root is a `ModelT`."""
    builder = models.TfliteBuilder()
    builder.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    change(builder.model)
    return builder.bytes()


def change_tensor(index: int, **fields: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0].tensors[index], name, value)

    return change


def change_operator(**fields: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0].operators[0], name, value)

    return change


@pytest.mark.parametrize("name", models.TFLITE_MODELS)
def test_well_formed_models_pass(name: str) -> None:
    model = open_model(models.TFLITE_MODELS[name]())
    model.check()
    model.check()


@pytest.mark.parametrize("make", [models.tflite_float_conv, models.tflite_if, models.tflite_int8])
def test_a_file_cut_off_at_any_place_is_refused(make: Callable[[], bytes]) -> None:
    content = make()
    for length in range(8, len(content) - 4):
        with pytest.raises(DamagedModel):
            open_model(content[:length]).check()


def test_another_schema_version() -> None:
    assert "schema version 4" in refusal(models.tflite_newer_schema(), UnsupportedVersion)


def test_a_constant_whose_buffer_is_too_small() -> None:
    text = refusal(changed(models.tflite_float_conv(), change_tensor(1, shape=[4, 3, 3, 4])))
    assert "'weights'" in text and "has 432 bytes in its buffer, expected 576" in text


def test_a_tensor_type_that_does_not_exist() -> None:
    assert "type 99" in refusal(changed(models.tflite_add(), change_tensor(0, type=99)))


@pytest.mark.parametrize("shape", [[-5, 3], [1 << 30, 1 << 30], [1 << 30], [1] * 40])
def test_an_impossible_shape(shape: list[int]) -> None:
    assert "'x' has shape" in refusal(changed(models.tflite_add(), change_tensor(0, shape=shape)))


def test_indices_that_lead_nowhere() -> None:
    add = models.tflite_add()
    assert "takes tensor 7 of 3" in refusal(changed(add, change_operator(inputs=[0, 7])))
    assert "makes tensor -2 of 3" in refusal(changed(add, change_operator(outputs=[-2])))
    assert "is op 9 of 1" in refusal(changed(add, change_operator(opcodeIndex=9)))
    assert "buffer 44 of 2" in refusal(changed(add, change_tensor(0, buffer=44)))
    assert "tensor 3 of 3 as an input" in refusal(changed(add, lambda m: setattr(m.subgraphs[0], "inputs", [3])))
    assert "tensor -1 of 3 as an output" in refusal(changed(add, lambda m: setattr(m.subgraphs[0], "outputs", [-1])))
    signature = models.tflite_signature()
    assert "subgraph 5 of 1" in refusal(changed(signature, lambda m: setattr(m.signatureDefs[0], "subgraphIndex", 5)))
    tensor = refusal(changed(signature, lambda m: setattr(m.signatureDefs[0].inputs[0], "tensorIndex", 5)))
    assert "signature 'serving_default' names tensor 5 of 2" in tensor


def test_an_input_left_out_where_the_op_needs_it() -> None:
    assert "input 1 is left out" in refusal(changed(models.tflite_add(), change_operator(inputs=[0, -1])))
    open_model(models.tflite_int8_dynamic()).check()  # the bias of a FULLY_CONNECTED may be left out


def test_quantisation_that_does_not_fit() -> None:
    channels = models.tflite_int8_per_channel()

    def change(**fields: Any) -> bytes:
        def apply(model: Any) -> None:
            for name, value in fields.items():
                setattr(model.subgraphs[0].tensors[1].quantization, name, value)

        return changed(channels, apply)

    assert "axis 4" in refusal(change(quantizedDimension=4))
    assert "along axis 3 of size 2" in refusal(change(quantizedDimension=3))
    assert "3 scales but 2 zero points" in refusal(change(zeroPoint=[0, 0]))
    assert "negative or no number" in refusal(change(scale=[0.1, float("nan"), 0.3]))


def test_sparse_weights() -> None:
    def change(level: int, **fields: Any) -> bytes:
        def apply(model: Any) -> None:
            metadata = model.subgraphs[0].tensors[2].sparsity.dimMetadata[level]
            for name, value in fields.items():
                vector = getattr(metadata, name)
                if isinstance(value, list):
                    vector.values = value
                else:
                    setattr(metadata, name, value)

        return changed(models.tflite_sparse(), apply)

    open_model(models.tflite_sparse()).check()
    assert "expected 2" in refusal(change(0, denseSize=3))
    assert "out of range" in refusal(change(1, arraySegments=[0, 1, 200]))
    assert "out of range" in refusal(change(1, arraySegments=[0, 3]))
    assert "out of range" in refusal(change(1, arrayIndices=[1, 0, 4]))
    assert "stores 3 elements, expected 2" in refusal(change(1, arraySegments=[0, 1, 2], arrayIndices=[1, 0]))


def test_too_few_operands() -> None:
    assert "has 1 inputs, expected at least 2" in refusal(changed(models.tflite_add(), change_operator(inputs=[0])))
    assert "has 0 outputs, expected at least 1" in refusal(changed(models.tflite_add(), change_operator(outputs=[])))


def test_an_operator_that_would_write_over_a_constant() -> None:
    text = refusal(changed(models.tflite_add(), change_operator(outputs=[1])))
    assert "makes tensor 'one', which is a constant" in text


def test_subgraphs_that_are_missing_or_run_themselves() -> None:
    def branch(index: int) -> Callable[[Any], None]:
        return lambda m: setattr(m.subgraphs[0].operators[0].builtinOptions, "thenSubgraphIndex", index)

    assert "then_subgraph_index is 3 of 3" in refusal(changed(models.tflite_if(), branch(3)))

    def ring(model: Any) -> None:
        model.subgraphs[1].operators = model.subgraphs[0].operators
        model.subgraphs[1].tensors = model.subgraphs[0].tensors

    assert "'main' runs subgraphs without end" in refusal(changed(models.tflite_if(), ring))


def test_a_scale_of_zero() -> None:
    def flatten(model: Any) -> None:
        model.subgraphs[0].tensors[0].quantization.scale = [0.0]

    assert "scale 0" in refusal(changed(models.tflite_int8(), flatten))


def test_arithmetic_on_integers_without_a_scale() -> None:
    def forget(model: Any) -> None:
        model.subgraphs[0].tensors[3].quantization = None

    assert "'y' (int8) has no scale" in refusal(changed(models.tflite_int8(), forget))


def test_a_sum_whose_scales_lie_too_far_apart() -> None:
    b = models.TfliteBuilder()
    x, y = b.tensor("x", [2], "int8", scale=1.0), b.tensor("y", [2], "int8", scale=1e-9)
    b.op(schema.BuiltinOperator.ADD, [x, x], [y], schema.AddOptionsT(), schema.BuiltinOptions.AddOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    assert "too large for scale" in refusal(b.bytes())


def test_a_constant_among_the_inputs() -> None:
    assert "input 'one' is a constant" in refusal(
        changed(models.tflite_add(), lambda m: setattr(m.subgraphs[0], "inputs", [0, 1]))
    )


def test_no_subgraph() -> None:
    assert "no subgraph" in refusal(changed(models.tflite_add(), lambda m: setattr(m, "subgraphs", [])))


def test_a_file_that_shares_endlessly_makes_little_work() -> None:
    """Many offsets may lead to one table: a small file could otherwise stand for a tree of any size."""

    def share(model: Any) -> None:
        model.subgraphs[0].tensors = [model.subgraphs[0].tensors[0]]

    content = bytearray(changed(models.tflite_add(), share))
    count = 100_000
    root = struct.unpack_from("<I", content, 0)[0]
    vtable = root - struct.unpack_from("<i", content, root)[0]
    subgraphs = root + struct.unpack_from("<H", content, vtable + 8)[0]
    vector = subgraphs + struct.unpack_from("<I", content, subgraphs)[0]
    target = vector + 4 + struct.unpack_from("<I", content, vector + 4)[0]
    content += bytes(-len(content) % 4)
    struct.pack_into("<I", content, subgraphs, len(content) - subgraphs)
    # Offsets lead forward only, so the shared subgraph has to stand behind its vector: copy the whole file there.
    base = len(content) + 4 + 4 * count
    offsets = [(base + target - (len(content) + 4 + 4 * i)) for i in range(count)]
    copy = bytes(content)
    content += struct.pack("<I", count) + struct.pack(f"<{count}I", *offsets) + copy
    assert "share" in refusal(bytes(content))


def test_buffers_behind_the_tables_are_found() -> None:
    """The form of files above 2 GB: a buffer's offset and size instead of its bytes."""
    weights = np.asarray([1.0], np.float32).tobytes()

    def move(model: Any) -> None:
        model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, 4096, 4

    content = changed(models.tflite_add(), move).ljust(4096, b"\0")
    open_model(content + weights).check()
    assert open_model(content + weights).describe().parameter_bytes == 4
    assert "buffer 1 ends at byte 4100" in refusal(content)
