"""Small models for everybody's tests: plain functions that return the bytes of a file.

Each function says what the model computes, so that a test can compare. Weights are drawn from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

F32 = TensorProto.FLOAT
I64 = TensorProto.INT64


# --- ONNX ---


def onnx_bytes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 17,
    ir_version: int = 8,
    domains: Sequence[tuple[str, int]] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    metadata: dict[str, str] | None = None,
) -> bytes:
    """A model from its parts."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in domains)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=ir_version, functions=functions, producer_name="edge-sdk tests"
    )
    helper.set_model_props(model, metadata or {})
    return model.SerializeToString()


def value(name: str, shape: Sequence[int | str | None] | None, dtype: int = F32) -> onnx.ValueInfoProto:
    """An input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, array: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    """An initialiser."""
    return numpy_helper.from_array(np.asarray(array, dtype), name)


def onnx_add() -> bytes:
    """y = x + 1; float32[2, 3]."""
    return onnx_bytes(
        [helper.make_node("Add", ["x", "one"], ["y"], name="add")],
        [value("x", [2, 3])],
        [value("y", [2, 3])],
        [constant("one", 1.0)],
        metadata={"author": "tests"},
    )


def onnx_mlp(inputs: int = 8, hidden: int = 16, outputs: int = 4) -> bytes:
    """softmax(relu(x W1 + b1) W2 + b2); x float32[batch, inputs]."""
    rng = np.random.default_rng(0)
    weights = [
        constant("w1", rng.normal(size=(inputs, hidden))),
        constant("b1", rng.normal(size=hidden)),
        constant("w2", rng.normal(size=(hidden, outputs))),
        constant("b2", rng.normal(size=outputs)),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], name="layer1"),
        helper.make_node("Relu", ["h1"], ["h2"], name="relu"),
        helper.make_node("Gemm", ["h2", "w2", "b2"], ["h3"], name="layer2"),
        helper.make_node("Softmax", ["h3"], ["y"], name="softmax", axis=-1),
    ]
    return onnx_bytes(nodes, [value("x", ["batch", inputs])], [value("y", ["batch", outputs])], weights)


def onnx_conv(group: int = 1) -> bytes:
    """A 3×3 convolution, ReLU and global average pool; image float32[1, 4, 8, 8], features float32[1, 8, 1, 1]."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], name="conv", kernel_shape=[3, 3], group=group),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["features"], name="pool"),
    ]
    weights = [constant("w", rng.normal(size=(8, 4 // group, 3, 3))), constant("b", rng.normal(size=8))]
    return onnx_bytes(nodes, [value("image", [1, 4, 8, 8])], [value("features", [1, 8, 1, 1])], weights)


def onnx_two_inputs() -> bytes:
    """sum = a + b, product = a · b; float32[3] each."""
    return onnx_bytes(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])],
        [value("a", [3]), value("b", [3])],
        [value("sum", [3]), value("product", [3])],
    )


def onnx_dynamic() -> bytes:
    """y = 2x and total = sum(x) over the last axis; x float32[batch, n] of any size."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["y"]),
        helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0),
    ]
    return onnx_bytes(
        nodes,
        [value("x", ["batch", "n"])],
        [value("y", ["batch", "n"]), value("total", ["batch"])],
        [constant("two", 2.0), constant("axes", [-1], np.int64)],
    )


def onnx_with_initializer_inputs(ir_version: int = 3) -> bytes:
    """relu(x W + b); x float32[1, 4], y float32[1, 3]; W and b are listed as inputs too, as older exporters do."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["s"])]
    nodes.append(helper.make_node("Relu", ["s"], ["y"]))
    return onnx_bytes(
        nodes,
        [value("x", [1, 4]), value("w", [4, 3]), value("b", [3])],
        [value("y", [1, 3])],
        [constant("w", rng.normal(size=(4, 3))), constant("b", rng.normal(size=3))],
        opset=8,
        ir_version=ir_version,
    )


def onnx_sequence_output() -> bytes:
    """parts = x cut in two along its first axis, as a sequence; x float32[4, 2]."""
    output = helper.make_tensor_sequence_value_info("parts", F32, None)
    node = helper.make_node("SplitToSequence", ["x", "n"], ["parts"], axis=0)
    return onnx_bytes([node], [value("x", [4, 2])], [output], [constant("n", 2, np.int64)])


def onnx_map_output() -> bytes:
    """A linear classifier: label int64[batch], and probabilities as a sequence of maps from label to score."""
    classifier = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        coefficients=[1.0, 0.0, 0.0, 1.0, -1.0, -1.0],
        intercepts=[0.0, 0.0, 0.0],
        classlabels_ints=[10, 20, 30],
        post_transform="SOFTMAX",
    )
    zipmap = helper.make_node(
        "ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[10, 20, 30]
    )
    to_map = helper.make_map_type_proto(I64, helper.make_tensor_type_proto(F32, None))
    output = helper.make_value_info("probabilities", helper.make_sequence_type_proto(to_map))
    return onnx_bytes(
        [classifier, zipmap], [value("x", ["batch", 2])], [value("label", ["batch"], I64), output],
        domains=[("ai.onnx.ml", 3)], opset=15,
    )  # fmt: skip


def onnx_optional() -> bytes:
    """maybe = x as an optional, there = whether it is there; x float32[2]."""
    maybe = helper.make_value_info("maybe", helper.make_optional_type_proto(helper.make_tensor_type_proto(F32, [2])))
    nodes = [
        helper.make_node("Optional", ["x"], ["maybe"]),
        helper.make_node("OptionalHasElement", ["maybe"], ["there"]),
    ]
    return onnx_bytes(nodes, [value("x", [2])], [maybe, value("there", [], TensorProto.BOOL)])


def onnx_string() -> bytes:
    """twice = each word written twice ("ab" → "abab"); string[n]."""
    node = helper.make_node("StringConcat", ["words", "words"], ["twice"])
    text = TensorProto.STRING
    return onnx_bytes([node], [value("words", ["n"], text)], [value("twice", ["n"], text)], opset=20, ir_version=9)


def onnx_loop() -> bytes:
    """y = x + n · step, added n times in a Loop; n int64[], x float32[2], step is a constant of the outer graph."""
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "step"], ["next"]), helper.make_node("Identity", ["going"], ["go_on"])],
        "body",
        [value("i", [], I64), value("going", [], TensorProto.BOOL), value("state", [2])],
        [value("go_on", [], TensorProto.BOOL), value("next", [2])],
    )
    return onnx_bytes(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=body)],
        [value("n", [], I64), value("x", [2])],
        [value("y", [2])],
        [constant("step", [0.5, 0.25])],
    )


def onnx_if() -> bytes:
    """y = x + 1 where flag, else x · 2; flag bool[], x float32[2]."""
    out = [value("branch", [2])]
    then = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["branch"])], "then", [], out, [constant("one", 1.0)]
    )
    other = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["branch"])], "else", [], out, [constant("two", 2.0)]
    )
    return onnx_bytes(
        [helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other)],
        [value("flag", [], TensorProto.BOOL), value("x", [2])],
        [value("y", [2])],
    )


def onnx_scan() -> bytes:
    """totals = running sums of xs along its first axis; xs float32[n, 2], start float32[2]."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum_in", "x"], ["sum_out"]),
            helper.make_node("Identity", ["sum_out"], ["scan_out"]),
        ],
        "body",
        [value("sum_in", [2]), value("x", [2])],
        [value("sum_out", [2]), value("scan_out", [2])],
    )
    return onnx_bytes(
        [helper.make_node("Scan", ["start", "xs"], ["end", "totals"], num_scan_inputs=1, body=body)],
        [value("start", [2]), value("xs", ["n", 2])],
        [value("end", [2]), value("totals", ["n", 2])],
    )


def onnx_state() -> bytes:
    """A counter: y = x + state, and next_state = y, to be fed as state in the next call; float32[1, 2] each."""
    nodes = [helper.make_node("Add", ["x", "state"], ["y"]), helper.make_node("Identity", ["y"], ["next_state"])]
    return onnx_bytes(
        nodes,
        [value("x", [1, 2]), value("state", [1, 2])],
        [value("y", [1, 2]), value("next_state", [1, 2])],
    )


def onnx_custom_op() -> bytes:
    """Holds the op "acme.Frobnicate" that no engine has."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Frobnicate", ["r"], ["y"], name="frob", domain="acme", knob=3),
    ]
    return onnx_bytes(nodes, [value("x", [2])], [value("y", [2])], domains=[("acme", 1)])


def onnx_unknown_op() -> bytes:
    """Holds the op "Frobnicate" in the default domain, where the standard has none of that name."""
    return onnx_bytes([helper.make_node("Frobnicate", ["x"], ["y"], name="frob")], [value("x", [2])], [value("y", [2])])


def onnx_function() -> bytes:
    """y = (x + x)²; through a model-local function "local.DoubleSquare"."""
    function = helper.make_function(
        "local",
        "DoubleSquare",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["d"]), helper.make_node("Mul", ["d", "d"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    node = helper.make_node("DoubleSquare", ["x"], ["y"], domain="local")
    return onnx_bytes([node], [value("x", [2])], [value("y", [2])], domains=[("local", 1)], functions=[function])


def onnx_external_data(folder: Path, name: str = "model.onnx") -> Path:
    """Writes y = x + w with w (float32[64], 0 … 63) in the file `NAME.data` beside it; returns the model's path."""
    model = onnx.load_model_from_string(
        onnx_bytes(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            [value("x", [64])],
            [value("y", [64])],
            [constant("w", np.arange(64))],
        )
    )
    path = folder / name
    onnx.save_model(
        model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=f"{name}.data", size_threshold=0
    )
    return path


def onnx_newer_opset() -> bytes:
    """y = relu(x) of opset 9999, which no engine knows."""
    return onnx_bytes([helper.make_node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", [2])], opset=9999)


def onnx_newer_ir() -> bytes:
    """y = relu(x) of IR version 9999, which no engine knows."""
    node = helper.make_node("Relu", ["x"], ["y"])
    return onnx_bytes([node], [value("x", [2])], [value("y", [2])], ir_version=9999)


def onnx_scalar() -> bytes:
    """y = x · x; float32[] both."""
    return onnx_bytes([helper.make_node("Mul", ["x", "x"], ["y"])], [value("x", [])], [value("y", [])])


def onnx_float16() -> bytes:
    """y = x W; float16[1, 4] to float16[1, 2]."""
    rng = np.random.default_rng(0)
    half = TensorProto.FLOAT16
    return onnx_bytes(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", [1, 4], half)],
        [value("y", [1, 2], half)],
        [constant("w", rng.normal(size=(4, 2)), np.float16)],
    )


def onnx_int8_qdq() -> bytes:
    """y ≈ x W, both int8 through QuantizeLinear/DequantizeLinear; float32[1, 16] to float32[1, 8]."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "zero"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    weights = [
        constant("x_scale", 0.02),
        constant("w_scale", 0.01),
        constant("zero", 0, np.int8),
        constant("w", rng.integers(-127, 128, size=(16, 8)), np.int8),
    ]
    return onnx_bytes(nodes, [value("x", [1, 16])], [value("y", [1, 8])], weights)


def onnx_int8_dynamic() -> bytes:
    """y ≈ x W with W int8 and x quantised while running; float32[1, 16] to float32[1, 8]."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "x_scale", "x_zero"]),
        helper.make_node("MatMulInteger", ["xq", "w", "x_zero"], ["p"]),
        helper.make_node("Cast", ["p"], ["pf"], to=F32),
        helper.make_node("Mul", ["x_scale", "w_scale"], ["scale"]),
        helper.make_node("Mul", ["pf", "scale"], ["y"]),
    ]
    weights = [constant("w_scale", 0.01), constant("w", rng.integers(-127, 128, size=(16, 8)), np.int8)]
    return onnx_bytes(nodes, [value("x", [1, 16])], [value("y", [1, 8])], weights)


def onnx_uint8_io() -> bytes:
    """y = x · 2 in uint8, saturated, through QuantizeLinear/DequantizeLinear; uint8[4] both."""
    u8 = TensorProto.UINT8
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["xf"]),
        helper.make_node("Add", ["xf", "xf"], ["yf"]),
        helper.make_node("QuantizeLinear", ["yf", "scale", "zero"], ["y"]),
    ]
    return onnx_bytes(
        nodes, [value("x", [4], u8)], [value("y", [4], u8)], [constant("scale", 0.1), constant("zero", 0, np.uint8)]
    )


ONNX_MODELS: dict[str, Callable[[], bytes]] = {
    function.__name__: function
    for function in (
        onnx_add, onnx_mlp, onnx_conv, onnx_two_inputs, onnx_dynamic, onnx_with_initializer_inputs,
        onnx_sequence_output, onnx_map_output, onnx_optional, onnx_string, onnx_loop, onnx_if, onnx_scan,
        onnx_state, onnx_custom_op, onnx_unknown_op, onnx_function, onnx_newer_opset, onnx_newer_ir, onnx_scalar,
        onnx_float16, onnx_int8_qdq, onnx_int8_dynamic, onnx_uint8_io,
    )
}  # fmt: skip
"""All of them that need no folder, by name."""
ONNX_NOT_RUNNABLE = frozenset({"onnx_custom_op", "onnx_unknown_op", "onnx_newer_opset", "onnx_newer_ir"})
"""Those that are well formed but that no engine runs."""


# --- TFLite ---

_TYPES = {
    "float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32, "int64": schema.TensorType.INT64, "bool": schema.TensorType.BOOL,
    "string": schema.TensorType.STRING, "float16": schema.TensorType.FLOAT16,
}  # fmt: skip
_Op = schema.BuiltinOperator
_Options = schema.BuiltinOptions


class TfliteBuilder:
    """Puts a TFLite model together: tensors first, then operators by the tensors' indices, then `bytes`."""

    def __init__(self, description: str = "edge-sdk tests") -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = description
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]
        self.model.subgraphs = []
        self.begin()

    def begin(self, name: str = "main") -> int:
        """Begins a subgraph and returns its index; everything added from now on goes there."""
        graph = schema.SubGraphT()
        graph.name = name
        graph.tensors, graph.operators = [], []
        graph.inputs, graph.outputs = [], []
        self.model.subgraphs.append(graph)
        self.graph = graph
        return len(self.model.subgraphs) - 1

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        *,
        data: Any = None,
        signature: Sequence[int] | None = None,
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] = 0,
        axis: int = 0,
        variable: bool = False,
    ) -> int:
        """Adds a tensor, constant where `data` is given, and returns its index."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), _TYPES[dtype]
        tensor.hasRank, tensor.isVariable = True, variable
        tensor.shapeSignature = None if signature is None else list(signature)
        tensor.buffer = 0 if data is None else self.buffer(np.asarray(data, dtype).tobytes())
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.asarray(scale, np.float32)).tolist()
            quantization.zeroPoint = np.atleast_1d(np.asarray(zero_point, np.int64)).tolist()
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def buffer(self, content: bytes) -> int:
        """Adds a buffer and returns its index."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def op(
        self,
        code: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        options_type: int = _Options.NONE,
        custom: str | None = None,
        version: int = 1,
    ) -> None:
        """Adds an operator."""
        operator_code = schema.OperatorCodeT()
        operator_code.builtinCode = code
        operator_code.deprecatedBuiltinCode = min(code, 127)
        operator_code.customCode, operator_code.version = custom, version
        self.model.operatorCodes.append(operator_code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        operator.builtinOptions, operator.builtinOptionsType = options, options_type
        self.graph.operators.append(operator)

    def signature(self, key: str, inputs: dict[str, int], outputs: dict[str, int], subgraph: int = 0) -> None:
        """Adds an entry point."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, subgraph
        signature.inputs, signature.outputs = (
            [_tensor_map(*i) for i in inputs.items()],
            [_tensor_map(*o) for o in outputs.items()],
        )
        self.model.signatureDefs = [*(self.model.signatureDefs or []), signature]

    def bytes(self) -> bytes:
        """The file."""
        import flatbuffers

        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _tensor_map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def _with(options: Any, **fields: Any) -> Any:
    for name, setting in fields.items():
        setattr(options, name, setting)
    return options


def tflite_add() -> bytes:
    """y = x + 1; float32[2, 3]."""
    b = TfliteBuilder()
    x, one, y = b.tensor("x", [2, 3]), b.tensor("one", [1], data=[1.0]), b.tensor("y", [2, 3])
    b.op(_Op.ADD, [x, one], [y], schema.AddOptionsT(), _Options.AddOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def tflite_two_io() -> bytes:
    """sum = a + b, product = a · b; float32[3] each."""
    b = TfliteBuilder()
    left, right, total, product = (b.tensor(n, [3]) for n in ("a", "b", "sum", "product"))
    b.op(_Op.ADD, [left, right], [total], schema.AddOptionsT(), _Options.AddOptions)
    b.op(_Op.MUL, [left, right], [product], schema.MulOptionsT(), _Options.MulOptions)
    b.graph.inputs, b.graph.outputs = [left, right], [total, product]
    return b.bytes()


def tflite_dynamic() -> bytes:
    """y = x + x; float32[1, 3], the first dimension of any size."""
    b = TfliteBuilder()
    x, y = b.tensor("x", [1, 3], signature=[-1, 3]), b.tensor("y", [1, 3], signature=[-1, 3])
    b.op(_Op.ADD, [x, x], [y], schema.AddOptionsT(), _Options.AddOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def tflite_float_conv() -> bytes:
    """A 3×3 convolution with ReLU, mean over the picture, softmax; image float32[1, 8, 8, 3], scores float32[1, 4]."""
    rng = np.random.default_rng(0)
    b = TfliteBuilder()
    image = b.tensor("image", [1, 8, 8, 3])
    weights = b.tensor("weights", [4, 3, 3, 3], data=rng.normal(size=(4, 3, 3, 3)))
    bias = b.tensor("bias", [4], data=rng.normal(size=4))
    maps, axes = b.tensor("maps", [1, 8, 8, 4]), b.tensor("axes", [2], "int32", data=[1, 2])
    means, scores = b.tensor("means", [1, 4]), b.tensor("scores", [1, 4])
    convolution = _with(schema.Conv2DOptionsT(), strideW=1, strideH=1, fusedActivationFunction=1)
    b.op(_Op.CONV_2D, [image, weights, bias], [maps], convolution, _Options.Conv2DOptions)
    b.op(_Op.MEAN, [maps, axes], [means], schema.ReducerOptionsT(), _Options.ReducerOptions)
    b.op(_Op.SOFTMAX, [means], [scores], _with(schema.SoftmaxOptionsT(), beta=1.0), _Options.SoftmaxOptions)
    b.graph.inputs, b.graph.outputs = [image], [scores]
    return b.bytes()


def tflite_int8(dtype: str = "int8") -> bytes:
    """y ≈ x W + b, all quantised; x int8[1, 4] (scale 0.5, zero point 3), y int8[1, 3] (scale 1.0, zero point -5).

    With dtype "uint8" the zero points are 131 and 123.
    """
    shift = 128 if dtype == "uint8" else 0
    b = TfliteBuilder()
    x = b.tensor("x", [1, 4], dtype, scale=0.5, zero_point=3 + shift)
    matrix = np.arange(-6, 6).reshape(3, 4) + shift
    weights = b.tensor("weights", [3, 4], dtype, data=matrix, scale=0.25, zero_point=shift)
    bias = b.tensor("bias", [3], "int32", data=[8, 0, -8], scale=0.125)
    y = b.tensor("y", [1, 3], dtype, scale=1.0, zero_point=-5 + shift)
    version = 1 if dtype == "uint8" else 4
    options = schema.FullyConnectedOptionsT()
    b.op(_Op.FULLY_CONNECTED, [x, weights, bias], [y], options, _Options.FullyConnectedOptions, version=version)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def tflite_int8_per_channel() -> bytes:
    """A 1×1 convolution with one scale per output channel; x int8[1, 2, 2, 2], y int8[1, 2, 2, 3]."""
    b = TfliteBuilder()
    x = b.tensor("x", [1, 2, 2, 2], "int8", scale=0.5)
    weights = b.tensor(
        "weights",
        [3, 1, 1, 2],
        "int8",
        data=np.arange(6).reshape(3, 1, 1, 2),
        scale=[0.1, 0.2, 0.3],
        zero_point=[0, 0, 0],
    )
    bias = b.tensor("bias", [3], "int32", data=[0, 0, 0], scale=[0.05, 0.1, 0.15], zero_point=[0, 0, 0])
    y = b.tensor("y", [1, 2, 2, 3], "int8", scale=0.5)
    options = _with(schema.Conv2DOptionsT(), strideW=1, strideH=1)
    b.op(_Op.CONV_2D, [x, weights, bias], [y], options, _Options.Conv2DOptions, version=3)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def tflite_int8_dynamic() -> bytes:
    """y ≈ x W with W int8 and x float32, quantised while running; float32[1, 4] to float32[1, 3]."""
    b = TfliteBuilder()
    x, y = b.tensor("x", [1, 4]), b.tensor("y", [1, 3])
    weights = b.tensor("weights", [3, 4], "int8", data=np.arange(-6, 6).reshape(3, 4), scale=0.25)
    options = schema.FullyConnectedOptionsT()
    b.op(_Op.FULLY_CONNECTED, [x, weights, -1], [y], options, _Options.FullyConnectedOptions, version=3)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def tflite_custom_op() -> bytes:
    """Holds the custom op "Frobnicate" that no engine has."""
    b = TfliteBuilder()
    x, y = b.tensor("x", [2]), b.tensor("y", [2])
    b.op(_Op.CUSTOM, [x], [y], custom="Frobnicate")
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def tflite_signature() -> bytes:
    """y = x + x with the signature "serving_default" that calls them "in" and "out"; float32[2]."""
    b = TfliteBuilder()
    x, y = b.tensor("x", [2]), b.tensor("y", [2])
    b.op(_Op.ADD, [x, x], [y], schema.AddOptionsT(), _Options.AddOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    b.signature("serving_default", {"in": x}, {"out": y})
    return b.bytes()


def tflite_if() -> bytes:
    """y = x + x where flag, else x · x; flag bool[1], x float32[2]; three subgraphs."""
    b = TfliteBuilder()
    flag, x, y = b.tensor("flag", [1], "bool"), b.tensor("x", [2]), b.tensor("y", [2])
    b.graph.inputs, b.graph.outputs = [flag, x], [y]
    main = b.graph
    for name, code, options, kind in (
        ("then", _Op.ADD, schema.AddOptionsT(), _Options.AddOptions),
        ("else", _Op.MUL, schema.MulOptionsT(), _Options.MulOptions),
    ):
        b.begin(name)
        given, made = b.tensor("given", [2]), b.tensor("made", [2])
        b.op(code, [given, given], [made], options, kind)
        b.graph.inputs, b.graph.outputs = [given], [made]
    b.graph = main
    branches = _with(schema.IfOptionsT(), thenSubgraphIndex=1, elseSubgraphIndex=2)
    b.op(_Op.IF, [flag, x], [y], branches, _Options.IfOptions)
    return b.bytes()


def tflite_scalar() -> bytes:
    """y = x · x; float32[] both."""
    b = TfliteBuilder()
    x, y = b.tensor("x", []), b.tensor("y", [])
    b.op(_Op.MUL, [x, x], [y], schema.MulOptionsT(), _Options.MulOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def tflite_state() -> bytes:
    """A counter: y = x + state, and next_state = y; float32[1, 2] each."""
    b = TfliteBuilder()
    x, state, y, following = (b.tensor(n, [1, 2]) for n in ("x", "state", "y", "next_state"))
    b.op(_Op.ADD, [x, state], [y], schema.AddOptionsT(), _Options.AddOptions)
    b.op(_Op.ADD, [x, state], [following], schema.AddOptionsT(), _Options.AddOptions)
    b.graph.inputs, b.graph.outputs = [x, state], [y, following]
    return b.bytes()


def tflite_sparse() -> bytes:
    """y = x W with W float32[2, 4] stored as compressed rows: [[0, 5, 0, 0], [7, 0, 0, 9]]."""
    b = TfliteBuilder()
    x, y = b.tensor("x", [1, 4]), b.tensor("y", [1, 2])
    weights = b.tensor("weights", [2, 4], data=[5.0, 7.0, 9.0])
    sparsity, rows, columns = schema.SparsityParametersT(), schema.DimensionMetadataT(), schema.DimensionMetadataT()
    rows.format, rows.denseSize = schema.DimensionType.DENSE, 2
    columns.format = schema.DimensionType.SPARSE_CSR
    columns.arraySegmentsType = columns.arrayIndicesType = schema.SparseIndexVector.Uint8Vector
    columns.arraySegments = _with(schema.Uint8VectorT(), values=[0, 1, 3])
    columns.arrayIndices = _with(schema.Uint8VectorT(), values=[1, 0, 3])
    sparsity.traversalOrder, sparsity.dimMetadata = [0, 1], [rows, columns]
    b.graph.tensors[weights].sparsity = sparsity
    options = schema.FullyConnectedOptionsT()
    b.op(_Op.FULLY_CONNECTED, [x, weights, -1], [y], options, _Options.FullyConnectedOptions, version=8)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def tflite_newer_schema() -> bytes:
    """y = x + x of schema version 4, which no engine knows."""
    b = TfliteBuilder()
    b.model.version = 4
    x, y = b.tensor("x", [2]), b.tensor("y", [2])
    b.op(_Op.ADD, [x, x], [y], schema.AddOptionsT(), _Options.AddOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


TFLITE_MODELS: dict[str, Callable[[], bytes]] = {
    function.__name__: function
    for function in (
        tflite_add, tflite_two_io, tflite_dynamic, tflite_float_conv, tflite_int8, tflite_int8_per_channel,
        tflite_int8_dynamic, tflite_custom_op, tflite_signature, tflite_if, tflite_scalar, tflite_state,
        tflite_sparse,
    )
}  # fmt: skip
"""All of them that are well formed, by name."""
TFLITE_NOT_RUNNABLE = frozenset({"tflite_custom_op"})
"""Those that no engine runs."""
