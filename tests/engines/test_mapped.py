"""Variants of one network answer to one signature, whatever their files call, lay out and store their tensors as."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.engines import LoadOptions, find_engine
from edge_sdk.engines.base import Runner
from edge_sdk.engines.mapped import MappedRunner, mapped
from edge_sdk.engines.quantised import FloatRunner
from edge_sdk.engines.simulated import SimulatedBehaviour, SimulatedEngine
from edge_sdk.errors import InputNameError, InputShapeError, InputValueError, InvalidManifest
from edge_sdk.formats import open_model
from edge_sdk.signature import LogicalTensor, Mapping, Signature, TensorMapping
from edge_sdk.tensors import FeedCheck

models = pytest.importorskip("tests.models")

WEIGHTS = np.random.default_rng(1).normal(size=(8, 3, 3, 3)).astype(np.float32)
BIAS = np.linspace(-1, 1, 8, dtype=np.float32)
TO_NHWC = (0, 2, 3, 1)
PICTURE = np.random.default_rng(2).random((1, 3, 6, 6), dtype=np.float32)


def tensor(name: str, shape: Any = None, dtype: str = "float32", **more: Any) -> LogicalTensor:
    return LogicalTensor(name=name, dtype=dtype, shape=shape, **more)


SIGNATURE = Signature(inputs=(tensor("image", (1, 3, 6, 6)),), outputs=(tensor("maps", (1, 8, 4, 4)),))
TWIN = Mapping(
    inputs=(TensorMapping(name="image", tensor="x", transpose=TO_NHWC),),
    outputs=(TensorMapping(name="maps", tensor="y", transpose=TO_NHWC),),
)


def onnx_nchw() -> bytes:
    """maps = relu(conv(image)); image float32[1, 3, 6, 6], maps float32[1, 8, 4, 4]."""
    nodes = [
        models.helper.make_node("Conv", ["image", "w", "b"], ["c"]),
        models.helper.make_node("Relu", ["c"], ["maps"]),
    ]
    constants = [models.constant("w", WEIGHTS), models.constant("b", BIAS)]
    return models.onnx_bytes(
        nodes, [models.value("image", [1, 3, 6, 6])], [models.value("maps", [1, 8, 4, 4])], constants
    )


def tflite_nhwc() -> bytes:
    """The same network: x float32[1, 6, 6, 3], y float32[1, 4, 4, 8]."""
    schema = models.schema
    b = models.TfliteBuilder()
    x = b.tensor("x", [1, 6, 6, 3])
    weights = b.tensor("weights", [8, 3, 3, 3], data=WEIGHTS.transpose(0, 2, 3, 1))
    bias = b.tensor("bias", [8], data=BIAS)
    y = b.tensor("y", [1, 4, 4, 8])
    options = schema.Conv2DOptionsT()
    options.padding, options.strideW, options.strideH = schema.Padding.VALID, 1, 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    b.op(schema.BuiltinOperator.CONV_2D, [x, weights, bias], [y], options, schema.BuiltinOptions.Conv2DOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()  # type: ignore[no-any-return]


def load(engine: str, content: bytes) -> Runner:
    found = find_engine(engine)
    if found.version() is None:
        pytest.skip(f"{engine} is not installed")
    return found.load(open_model(content), LoadOptions())


def simulated(content: bytes, outputs: Any) -> Runner:
    """A runner that computes `outputs(feeds)` in Python, for what no real op shows as plainly."""
    return SimulatedEngine(SimulatedBehaviour(outputs=outputs)).load(open_model(content), LoadOptions())


@pytest.fixture
def pair() -> tuple[Runner, Runner]:
    """One network in both formats, under the signature of the ONNX file."""
    first = mapped(load("onnxruntime", onnx_nchw()), SIGNATURE, Mapping())
    return first, mapped(load("litert", tflite_nhwc()), SIGNATURE, TWIN)


# --- layout: NCHW for the caller, NHWC in the file ---


def test_a_variant_that_answers_to_the_signature_needs_no_wrapper() -> None:
    runner = load("onnxruntime", onnx_nchw())
    assert mapped(runner, SIGNATURE, Mapping()) is runner
    named = Mapping(inputs=(TensorMapping(name="image", tensor="image", transpose=(0, 1, 2, 3)),))
    assert mapped(runner, SIGNATURE, named) is runner


def test_two_formats_of_one_network_give_one_answer(pair: tuple[Runner, Runner]) -> None:
    first, second = pair
    assert isinstance(second, MappedRunner)
    for runner in pair:
        assert [(s.name, s.dtype, s.shape) for s in runner.inputs] == [("image", "float32", (1, 3, 6, 6))]
        assert [(s.name, s.dtype, s.shape) for s in runner.outputs] == [("maps", "float32", (1, 8, 4, 4))]
    expected, answer = first.run({"image": PICTURE}), second.run({"image": PICTURE})
    np.testing.assert_allclose(answer["maps"], expected["maps"], atol=1e-5)
    assert answer["maps"].flags.c_contiguous


def test_the_callers_own_array_is_written_into(pair: tuple[Runner, Runner]) -> None:
    expected = pair[0].run({"image": PICTURE})["maps"]
    out = np.empty((1, 8, 4, 4), np.float32)
    assert pair[1].run({"image": PICTURE}, {"maps": out})["maps"] is out
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_arrays_handed_out_never_change_and_what_was_fed_stays_as_it_is(pair: tuple[Runner, Runner]) -> None:
    fed = PICTURE.copy()
    first = pair[1].run({"image": fed})["maps"]
    kept = first.copy()
    pair[1].run({"image": fed * 2})
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(fed, PICTURE)


def test_any_number_of_threads_may_call(pair: tuple[Runner, Runner]) -> None:
    def difference(number: int) -> float:
        feeds = {"image": PICTURE * number}
        return float(np.abs(pair[1].run(feeds)["maps"] - pair[0].run(feeds)["maps"]).max())

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(difference, range(64))) < 1e-3


def test_a_buffer_that_became_an_answer_is_not_used_again() -> None:
    """An engine written in Python may hand its input on."""
    content = models.onnx_bytes(
        [models.helper.make_node("Identity", ["x"], ["y"])], [models.value("x", [2, 3])], [models.value("y", [2, 3])]
    )
    signature = Signature(inputs=(tensor("x", (3, 2)),), outputs=(tensor("y", (2, 3)),))
    mapping = Mapping(inputs=(TensorMapping(name="x", tensor="x", transpose=(1, 0)),))
    runner = mapped(simulated(content, lambda feeds: {"y": feeds["x"]}), signature, mapping)
    first = runner.run({"x": np.ones((3, 2), np.float32)})["y"]
    runner.run({"x": np.zeros((3, 2), np.float32)})
    assert first.sum() == 6


# --- names, order, shapes ---


def test_names_and_order_follow_the_signature() -> None:
    signature = Signature(
        inputs=(tensor("right", (3,)), tensor("left", (3,))), outputs=(tensor("times", (3,)), tensor("plus", (3,)))
    )
    mapping = Mapping(
        inputs=(TensorMapping(name="left", tensor="a"), TensorMapping(name="right", tensor="b")),
        outputs=(TensorMapping(name="plus", tensor="sum"), TensorMapping(name="times", tensor="product")),
    )
    runner = mapped(load("onnxruntime", models.onnx_two_inputs()), signature, mapping)
    assert [spec.name for spec in runner.inputs] == ["right", "left"]
    feeds = {"left": np.float32([1, 2, 3]), "right": np.float32([4, 5, 6])}
    out = {"plus": np.empty(3, np.float32)}
    answer = runner.run(feeds, out)
    assert list(answer) == ["times", "plus"]
    assert answer["plus"] is out["plus"]
    assert answer["plus"].tolist() == [5, 7, 9]
    assert answer["times"].tolist() == [4, 10, 18]


def test_an_output_that_the_signature_does_not_name_is_dropped() -> None:
    signature = Signature(inputs=(tensor("a", (3,)), tensor("b", (3,))), outputs=(tensor("product", (3,)),))
    runner = mapped(load("onnxruntime", models.onnx_two_inputs()), signature, Mapping())
    assert list(runner.run({"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)})) == ["product"]


def test_a_dropped_axis_comes_and_goes_without_a_copy() -> None:
    """features float32[1, 8, 1, 1] in the file, float32[1, 8] for the caller."""
    signature = Signature(inputs=(tensor("image", (4, 8, 8)),), outputs=(tensor("features", (1, 8)),))
    mapping = Mapping(
        inputs=(TensorMapping(name="image", tensor="image", shape=(1, 4, 8, 8)),),
        outputs=(TensorMapping(name="features", tensor="features", shape=(1, 8, 1, 1)),),
    )
    whole = load("onnxruntime", models.onnx_conv())
    picture = np.random.default_rng(0).random((1, 4, 8, 8), dtype=np.float32)
    expected = whole.run({"image": picture})["features"]
    runner = mapped(whole, signature, mapping)
    assert runner.outputs[0].shape == (1, 8)
    out = np.empty((1, 8), np.float32)
    assert runner.run({"image": picture[0]}, {"features": out})["features"] is out
    np.testing.assert_array_equal(out, expected.reshape(1, 8))
    np.testing.assert_array_equal(runner.run({"image": picture[0]})["features"], out)


def test_reshape_and_transpose_together_go_there_and_back() -> None:
    """The file takes [1, 6, 4] for the caller's [2, 3, 4] with its first two axes swapped."""
    content = models.onnx_bytes(
        [models.helper.make_node("Identity", ["x"], ["y"])],
        [models.value("x", [1, 6, 4])],
        [models.value("y", [1, 6, 4])],
    )
    logical = (2, 3, 4)
    way = {"transpose": (1, 0, 2), "shape": (1, 6, 4)}
    signature = Signature(inputs=(tensor("x", logical),), outputs=(tensor("y", logical),))
    mapping = Mapping(
        inputs=(TensorMapping(name="x", tensor="x", **way),),  # type: ignore[arg-type]
        outputs=(TensorMapping(name="y", tensor="y", **way),),  # type: ignore[arg-type]
    )
    runner = mapped(load("onnxruntime", content), signature, mapping)
    value = np.arange(24, dtype=np.float32).reshape(logical)
    np.testing.assert_array_equal(runner.run({"x": value})["y"], value)


def test_open_sizes_go_through_and_sizes_that_the_variant_fixes_are_told() -> None:
    """The ONNX file takes any batch, its TFLite twin one picture at a time: each says what it takes."""
    signature = Signature(inputs=(tensor("x", ("batch", 8)),), outputs=(tensor("y", ("batch", 4)),))
    runner = load("onnxruntime", models.onnx_mlp())
    assert mapped(runner, signature, Mapping()) is runner
    open_nhwc = Signature(inputs=(tensor("image", (None, 3, 6, 6)),), outputs=(tensor("maps"),))
    twin = mapped(load("litert", tflite_nhwc()), open_nhwc, TWIN)
    assert twin.inputs[0].shape == (1, 3, 6, 6)
    assert twin.outputs[0].shape == (1, 8, 4, 4)
    with pytest.raises(InputShapeError):
        FeedCheck(twin.inputs)({"image": np.zeros((2, 3, 6, 6), np.float32)})


# --- dtypes ---


def test_a_quantised_variant_takes_and_gives_real_numbers() -> None:
    """x int8[1, 4] and y int8[1, 3] in the file, float32 for the caller; scales from the file, or from the mapping."""
    content = models.tflite_int8()
    signature = Signature(inputs=(tensor("x", (1, 4)),), outputs=(tensor("y", (1, 3)),))
    explicit = Mapping(
        inputs=(TensorMapping(name="x", tensor="x", dtype="int8", scale=0.5, zero_point=3),),
        outputs=(TensorMapping(name="y", tensor="y", dtype="int8", scale=1.0, zero_point=-5),),
    )
    real = np.float32([[1, -2, 3.5, 0]])
    expected = FloatRunner(load("litert", content)).run({"x": real})["y"]
    for mapping in (Mapping(), explicit):
        runner = mapped(load("litert", content), signature, mapping)
        assert [(s.dtype, s.quantization) for s in (*runner.inputs, *runner.outputs)] == [("float32", None)] * 2
        np.testing.assert_array_equal(runner.run({"x": real})["y"], expected)
        out = np.empty((1, 3), np.float32)
        assert runner.run({"x": real}, {"y": out})["y"] is out
        np.testing.assert_array_equal(out, expected)
    with pytest.raises(InputValueError, match="NaN"):
        runner.run({"x": np.full((1, 4), np.nan, np.float32)})


def test_a_float_variant_of_a_quantised_signature_takes_stored_numbers() -> None:
    """The other way round: the signature is that of the int8 file, the variant computes in float."""
    content = models.onnx_bytes(
        [models.helper.make_node("Add", ["x", "one"], ["y"])],
        [models.value("x", [4])],
        [models.value("y", [4])],
        [models.constant("one", 1.0)],
    )
    signature = Signature(
        inputs=(tensor("x", (4,), "uint8", scale=0.5, zero_point=128),),
        outputs=(tensor("y", (4,), "uint8", scale=0.25, zero_point=0),),
    )
    runner = mapped(load("onnxruntime", content), signature, Mapping())
    assert runner.inputs[0].quantization is not None
    answer = runner.run({"x": np.array([128, 130, 100, 255], np.uint8)})["y"]
    assert answer.dtype == np.uint8
    assert answer.tolist() == [4, 8, 0, 255], "real 0, 1, -14, 63.5; plus 1; in quarters, saturated"


def test_two_scales_of_one_dtype_are_translated() -> None:
    signature = Signature(
        inputs=(tensor("x", (1, 4), "uint8", scale=0.25, zero_point=131),),
        outputs=(tensor("y", (1, 3), "uint8", scale=1.0, zero_point=123),),
    )
    runner = mapped(load("litert", models.tflite_int8("uint8")), signature, Mapping())
    plain = load("litert", models.tflite_int8("uint8"))
    stored = np.array([[131, 133, 129, 135]], np.uint8)
    in_quarters = ((stored.astype(int) - 131) * 2 + 131).astype(np.uint8)
    np.testing.assert_array_equal(runner.run({"x": in_quarters})["y"], plain.run({"x": stored})["y"])


def test_whole_numbers_of_another_width_are_cast_where_they_fit() -> None:
    content = models.onnx_bytes(
        [models.helper.make_node("Identity", ["ids"], ["same"])],
        [models.value("ids", [2], models.TensorProto.INT32)],
        [models.value("same", [2], models.TensorProto.INT32)],
    )
    signature = Signature(inputs=(tensor("ids", (2,), "int64"),), outputs=(tensor("same", (2,), "int64"),))
    runner = mapped(load("onnxruntime", content), signature, Mapping())
    answer = runner.run({"ids": np.array([7, -7])})["same"]
    assert (answer.dtype, answer.tolist()) == (np.dtype(np.int64), [7, -7])
    with pytest.raises(InputValueError, match="beyond -2147483648 to 2147483647"):
        runner.run({"ids": np.array([2**40, 0])})


@given(
    st.permutations(range(4)), st.tuples(*[st.integers(1, 4)] * 4), st.sampled_from(["float16", "float64", "float32"])
)
def test_every_order_of_axes_is_undone_by_its_inverse(
    axes: list[int], shape: tuple[int, int, int, int], dtype: str
) -> None:
    stored = [shape[axis] for axis in axes]
    kind = {"float16": models.TensorProto.FLOAT16, "float64": models.TensorProto.DOUBLE, "float32": models.F32}[dtype]
    content = models.onnx_bytes(
        [models.helper.make_node("Identity", ["x"], ["y"])],
        [models.value("x", stored, kind)],
        [models.value("y", stored, kind)],
    )
    signature = Signature(inputs=(tensor("x", shape),), outputs=(tensor("y", shape),))
    mapping = Mapping(
        inputs=(TensorMapping(name="x", tensor="x", transpose=tuple(axes), dtype=dtype),),
        outputs=(TensorMapping(name="y", tensor="y", transpose=tuple(axes), dtype=dtype),),
    )
    runner = mapped(simulated(content, lambda feeds: {"y": feeds["x"]}), signature, mapping)
    value = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    answer = runner.run({"x": value})["y"]
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, value)


# --- what does not fit ---


@pytest.mark.parametrize(
    ("signature", "mapping", "message"),
    [
        (
            SIGNATURE,
            Mapping(inputs=(TensorMapping(name="image", tensor="picture"),)),
            "'picture', which the model does not",
        ),
        (SIGNATURE, Mapping(inputs=(TensorMapping(name="picture", tensor="image"),)), "which the signature does not"),
        (SIGNATURE, Mapping(inputs=(TensorMapping(name="image", tensor="image", dtype="int8"),)), "dtype int8"),
        (SIGNATURE, TWIN, "'x', which the model does not have"),
        (
            SIGNATURE,
            Mapping(inputs=(TensorMapping(name="image", tensor="image", transpose=TO_NHWC),)),
            r"shape \[1, 3, 6, 6\], the model as mapped \[1, 6, 3, 6\]",
        ),
        (
            SIGNATURE,
            Mapping(inputs=(TensorMapping(name="image", tensor="image", transpose=(1, 0)),)),
            r"transpose \[1, 0\] does not fit",
        ),
        (Signature(inputs=(), outputs=SIGNATURE.outputs), Mapping(), "the model needs 'image'"),
        (
            Signature(inputs=(tensor("image", (1, 3, 6, 6), "uint8"),), outputs=SIGNATURE.outputs),
            Mapping(),
            "expected one scale and zero_point",
        ),
        (
            Signature(inputs=SIGNATURE.inputs, outputs=(tensor("maps", (1, 8, 4, 4), "string"),)),
            Mapping(),
            "nothing says how",
        ),
        (
            Signature(inputs=SIGNATURE.inputs, outputs=(tensor("maps", (None, None)),)),
            Mapping(outputs=(TensorMapping(name="maps", tensor="maps", shape=(1, 8, 4, 4)),)),
            "more than one of its sizes open",
        ),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_when_it_is_loaded(
    signature: Signature, mapping: Mapping, message: str
) -> None:
    with pytest.raises(InvalidManifest, match=message):
        mapped(load("onnxruntime", onnx_nchw()), signature, mapping)


def test_feeds_that_do_not_fit_are_input_errors(pair: tuple[Runner, Runner]) -> None:
    with pytest.raises(InputNameError, match="'picture'"):
        pair[1].run({"picture": PICTURE})
    with pytest.raises(InputShapeError, match=r"shape \[3, 6, 6\]; expected 4 dimensions"):
        pair[1].run({"image": PICTURE[0]})
    signature = Signature(inputs=(tensor("image"),), outputs=(tensor("features"),))
    mapping = Mapping(inputs=(TensorMapping(name="image", tensor="image", shape=(1, 4, 8, 8)),))
    reshaped = mapped(load("onnxruntime", models.onnx_conv()), signature, mapping)
    with pytest.raises(InputShapeError, match=r"shape \[5\]; expected what makes \[1, 4, 8, 8\]"):
        reshaped.run({"image": np.zeros(5, np.float32)})


def test_the_rest_of_a_runner_is_that_of_the_one_behind_it(pair: tuple[Runner, Runner]) -> None:
    inner = load("litert", tflite_nhwc())
    runner = MappedRunner(inner, SIGNATURE, TWIN)
    assert (runner.engine, runner.model, runner.options, runner.queue) == (
        inner.engine, inner.model, inner.options, inner.queue,
    )  # fmt: skip
    runner.reset_state()
    runner.run({"image": PICTURE})
    assert runner.placement() == inner.placement()
    runner.close()
    runner.close()


# --- the shared face detector: one network, two exporters ---


def test_the_face_detector_answers_alike_in_both_formats(assets: Path) -> None:
    first = load("onnxruntime", (assets / "models" / "ultraface_rfb320.onnx").read_bytes())
    second = load("litert", (assets / "models" / "ultraface_rfb320.tflite").read_bytes())
    (image,) = first.inputs
    signature = Signature(
        inputs=(tensor("input", image.shape, layout="NCHW"),),
        outputs=tuple(tensor(spec.name, spec.shape) for spec in first.outputs),
    )
    (stored,) = second.inputs
    by_width = {spec.shape[-1]: spec for spec in second.outputs if spec.shape}
    mapping = Mapping(
        inputs=(TensorMapping(name="input", tensor=stored.name, transpose=TO_NHWC),),
        outputs=tuple(
            TensorMapping(name=spec.name, tensor=by_width[spec.shape[-1]].name) for spec in first.outputs if spec.shape
        ),
    )
    twin = mapped(second, signature, mapping)
    picture = np.random.default_rng(0).normal(size=(1, 3, 240, 320)).astype(np.float32)
    expected, answer = first.run({"input": picture}), twin.run({"input": picture})
    assert answer.keys() == expected.keys()
    for name, value in expected.items():
        # Not closer: the exporters round differently, to 3e-4 on noise.
        np.testing.assert_allclose(answer[name], value, atol=1e-3)
