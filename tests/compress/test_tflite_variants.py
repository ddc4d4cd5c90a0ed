"""Variants of TFLite files through ai-edge-quantizer: smaller, floats in and out, the same names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.tflite_quantising import METHODS, calibrated, prepared, quantised, recipe_for
from edge_sdk.compress.variants import Maker, available, make
from edge_sdk.errors import CompressionError
from edge_sdk.formats import open_model
from tests import models

pytest.importorskip("ai_edge_quantizer")


pytestmark = pytest.mark.usefixtures("untried")


def fully_connected(inputs: int = 64, hidden: int = 128, old: bool = False) -> bytes:
    """x → fully connected → ReLU → fully connected → y; with `old` op codes only in the field of old converters."""
    random = np.random.default_rng(0)
    b = models.TfliteBuilder()
    kinds, options = schema.BuiltinOperator, schema.BuiltinOptions
    x, h, y = b.tensor("x", [1, inputs]), b.tensor("h", [1, hidden]), b.tensor("y", [1, 10])
    first = b.tensor("w1", [hidden, inputs], data=random.normal(size=(hidden, inputs)) / 8)
    second = b.tensor("w2", [10, hidden], data=random.normal(size=(10, hidden)) / 11)
    zeros = [b.tensor(f"b{size}", [size], data=np.zeros(size)) for size in (hidden, 10)]
    relu = schema.FullyConnectedOptionsT()
    relu.fusedActivationFunction = schema.ActivationFunctionType.RELU
    b.op(kinds.FULLY_CONNECTED, [x, first, zeros[0]], [h], relu, options.FullyConnectedOptions)
    b.op(
        kinds.FULLY_CONNECTED,
        [h, second, zeros[1]],
        [y],
        schema.FullyConnectedOptionsT(),
        options.FullyConnectedOptions,
    )
    b.graph.inputs, b.graph.outputs = [x], [y]
    for code in b.model.operatorCodes if old else ():
        code.builtinCode = 0
    return bytes(b.bytes())


def samples(name: str, shape: tuple[int, ...], count: int = 24) -> Data:
    random = np.random.default_rng(1)
    return Data("noise", [{name: random.normal(size=shape).astype(np.float32)} for _ in range(count)])


def saved(content: bytes, folder: Path) -> Path:
    path = folder / "source.tflite"
    path.write_bytes(content)
    return path


MODELS: list[tuple[Callable[[], bytes], str, tuple[int, ...]]] = [
    (fully_connected, "x", (1, 64)),
    (lambda: fully_connected(60, 100), "x", (1, 60)),
    (lambda: fully_connected(old=True), "x", (1, 64)),
    (models.tflite_float_conv, "image", (1, 8, 8, 3)),
]


@pytest.mark.parametrize(("build", "name", "shape"), MODELS)
def test_every_variant_is_made_or_says_why(
    build: Callable[[], bytes], name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    source = saved(build(), tmp_path)
    data = samples(name, shape)
    guard = Guard(source, data, 0.1)
    errors: dict[str, float] = {}
    before = open_model(source).describe()
    with Maker(source, data, guard) as maker:
        for kind in available(source):
            try:
                made = maker.make(kind, tmp_path / "out")
            except CompressionError as error:
                assert str(error).startswith(f"{kind}: ") and "\n" not in str(error)
                continue
            errors[kind] = guard.judge(made.file).mean_error
            after = open_model(made.file).describe()
            assert [(s.name, s.dtype) for s in (*after.inputs, *after.outputs)] == [
                (s.name, s.dtype) for s in (*before.inputs, *before.outputs)
            ]
    assert errors["fp32"] == 0.0
    assert errors["fp16"] < 0.01
    assert errors["int8-dynamic"] < 0.03
    assert errors["int8-static"] < 0.05
    assert errors.get("int4-weights", 0.0) < 0.3


def test_precision_and_recipe_tell_what_was_done(tmp_path: Path) -> None:
    source = saved(fully_connected(), tmp_path)
    data = samples("x", (1, 64))
    made = {
        kind: make(source, kind, tmp_path, data) for kind in ("fp16", "int8-dynamic", "int8-static", "int4-weights")
    }
    assert [variant.precision for variant in made.values()] == ["float16", "int8 (dynamic)", "int8", "int4 (dynamic)"]
    sizes = [variant.file.stat().st_size for variant in made.values()]
    assert source.stat().st_size > sizes[0] > sizes[2] > sizes[3]
    assert made["int8-static"].recipe["calibration"].endswith("on 24 samples of noise")
    assert all("ai-edge-quantizer" in variant.recipe["method"] for variant in made.values())


def test_the_calibration_method_with_the_better_result_is_kept(tmp_path: Path) -> None:
    source = saved(fully_connected(), tmp_path)
    data, guard = samples("x", (1, 64)), None
    content = prepared(source)
    guard = Guard(source, data, 0.5)
    errors = {}
    for method in METHODS:
        ranges = calibrated(content, recipe_for("int8-static"), method, data.feeds)
        (tmp_path / "trial.tflite").write_bytes(quantised(content, recipe_for("int8-static"), ranges))
        errors[method] = guard.judge(tmp_path / "trial.tflite").mean_error
    made = make(source, "int8-static", tmp_path, data, guard)
    assert made.recipe["calibration"].startswith(min(errors, key=errors.__getitem__))


def test_mixed_precision_leaves_layers_in_float_until_the_guard_passes(tmp_path: Path) -> None:
    source = saved(fully_connected(), tmp_path)
    data = samples("x", (1, 64))
    with Maker(source, data, Guard(source, data, 0.5)) as maker, pytest.raises(CompressionError, match="bound already"):
        maker.make("int8-mixed", tmp_path)

    class Strict(Guard):
        """Fails what has no float layer."""

        def judge(self, file: Path, mapping: Any = None) -> Any:
            import dataclasses

            verdict = super().judge(file, mapping)
            return dataclasses.replace(verdict, passed="float32" in open_model(file).describe().precision)

    made = make(source, "int8-mixed", tmp_path, data, Strict(source, data, 0.5))
    assert made.recipe["float layers"] in ("h", "y")
    assert made.precision == "mixed float32 + int8"


def test_a_signature_is_added_that_keeps_the_names(tmp_path: Path) -> None:
    source = saved(models.tflite_two_io(), tmp_path)
    before, after = open_model(source).describe(), open_model(prepared(source)).describe()
    assert not before.signatures and len(after.signatures) == 1
    assert [spec.name for spec in after.inputs] == [spec.name for spec in before.inputs]
    assert [spec.name for spec in after.outputs] == [spec.name for spec in before.outputs]


def test_a_signature_that_is_there_stays(tmp_path: Path) -> None:
    source = saved(models.tflite_signature(), tmp_path)
    assert open_model(prepared(source)).describe().signatures == open_model(source).describe().signatures


def test_buffers_lie_inside_the_file(tmp_path: Path) -> None:
    source = saved(fully_connected(), tmp_path)
    made = make(source, "int8-static", tmp_path, samples("x", (1, 64)))
    model = schema.ModelT.InitFromPackedBuf(bytearray(made.file.read_bytes()), 0)
    assert all(buffer.offset <= 1 for buffer in model.buffers)


@pytest.mark.parametrize("build", [models.tflite_add, models.tflite_if, models.tflite_custom_op])
def test_a_model_without_such_layers_is_told(build: Callable[[], bytes], tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="no layer that ai-edge-quantizer can quantise"):
        make(saved(build(), tmp_path), "int8-dynamic", tmp_path)


def test_what_is_made_of_onnx_only_is_refused(tmp_path: Path) -> None:
    source = saved(fully_connected(), tmp_path)
    data = samples("x", (1, 64))
    with pytest.raises(CompressionError, match="made of onnx sources, not of tflite"):
        make(source, "pruned-50", tmp_path, data)
    with pytest.raises(CompressionError, match="not combined"):
        make(source, "fp32+int8-static", tmp_path, data)


def test_data_the_model_does_not_take_is_told_in_one_line(tmp_path: Path) -> None:
    source = saved(fully_connected(), tmp_path)
    with pytest.raises(CompressionError, match="calibration failed") as caught:
        calibrated(prepared(source), recipe_for("int8-static"), "min-max", samples("x", (1, 3)).feeds)
    assert "\n" not in str(caught.value)
