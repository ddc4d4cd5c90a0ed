"""State carried from call to call, and real numbers for quantised models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.engines import LoadOptions, find_engine
from edge_sdk.engines.quantised import FloatRunner
from edge_sdk.engines.state import StatefulRunner
from edge_sdk.errors import InputNameError, InputTypeError, InputValueError
from edge_sdk.formats import open_model
from edge_sdk.tensors import Quantization, TensorSpec, dequantize, quantize

models = pytest.importorskip("tests.models")


def counter() -> StatefulRunner:
    pytest.importorskip("onnxruntime")
    inner = find_engine("onnxruntime").load(open_model(models.onnx_state()), LoadOptions())
    return StatefulRunner(inner, {"state": "next_state"})


def test_state_begins_with_zeros_and_goes_on() -> None:
    runner = counter()
    x = np.ones((1, 2), np.float32)
    assert "state" in runner.optional_inputs
    sums = [runner.run({"x": x})["y"][0, 0] for _ in range(3)]
    assert sums == [1, 2, 3]
    runner.reset_state()
    assert runner.run({"x": x})["y"][0, 0] == 1


def test_a_fed_state_counts_for_what_follows() -> None:
    runner = counter()
    x = np.ones((1, 2), np.float32)
    runner.run({"x": x, "state": 10 * x})
    assert runner.run({"x": x})["y"][0, 0] == 12


def test_writing_into_the_returned_state_does_not_change_the_next_call() -> None:
    runner = counter()
    x = np.ones((1, 2), np.float32)
    runner.run({"x": x})["next_state"][:] = 100
    assert runner.run({"x": x})["y"][0, 0] == 2


@pytest.mark.parametrize("state", [{"stat": "next_state"}, {"state": "next"}])
def test_names_that_are_none_of_the_models_are_refused(state: dict[str, str]) -> None:
    pytest.importorskip("onnxruntime")
    inner = find_engine("onnxruntime").load(open_model(models.onnx_state()), LoadOptions())
    with pytest.raises(InputNameError, match="state: there is no"):
        StatefulRunner(inner, state)


def test_a_state_of_another_dtype_is_refused() -> None:
    pytest.importorskip("onnxruntime")
    from onnx import helper

    nodes = [helper.make_node("Cast", ["x"], ["y"], to=models.I64)]
    model = models.onnx_bytes(nodes, [models.value("x", [1])], [models.value("y", [1], models.I64)])
    inner = find_engine("onnxruntime").load(open_model(model), LoadOptions())
    with pytest.raises(InputTypeError, match="int64"):
        StatefulRunner(inner, {"x": "y"})


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20),
    st.floats(0.01, 10),
    st.integers(-128, 127),
)
def test_quantising_is_right_to_half_a_step_or_saturates(values: list[float], scale: float, zero_point: int) -> None:
    spec = TensorSpec("x", "int8", (None,), quantization=Quantization((scale,), (zero_point,)))
    real = np.array(values, np.float32)
    back = dequantize(quantize(real, spec), spec)
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    np.testing.assert_allclose(back, np.clip(real, low, high), atol=scale * 0.51, rtol=1e-4)


def test_scales_per_channel_go_along_their_axis() -> None:
    spec = TensorSpec("x", "int8", (2, 2), quantization=Quantization((1.0, 10.0), (0, 1), axis=1))
    stored = quantize(np.array([[1, 10], [2, 20]], np.float32), spec)
    assert stored.tolist() == [[1, 2], [2, 3]]
    np.testing.assert_array_equal(dequantize(stored, spec), [[1, 10], [2, 20]])


def test_a_quantised_model_takes_and_gives_real_numbers() -> None:
    litert = find_engine("litert")
    if litert.version() is None:
        pytest.skip("no TFLite engine here")
    file = open_model(models.tflite_int8())
    stored, real = litert.load(file, LoadOptions()), FloatRunner(litert.load(file, LoadOptions()))
    (spec,), (wish,) = stored.inputs, real.inputs
    assert (spec.dtype, wish.dtype, wish.quantization) == ("int8", "float32", None)
    values = np.random.default_rng(0).random([d or 1 for d in spec.shape or ()], dtype=np.float32)
    expected = stored.run({spec.name: quantize(values, spec)})
    (out_spec,) = stored.outputs
    target = np.empty(expected[out_spec.name].shape, np.float32)
    outputs = real.run({spec.name: values}, {out_spec.name: target})
    assert outputs[out_spec.name] is target
    np.testing.assert_allclose(target, dequantize(expected[out_spec.name], out_spec))
    with pytest.raises(InputValueError, match="NaN"):
        real.run({spec.name: np.full_like(values, np.nan)})
