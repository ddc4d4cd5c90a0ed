"""`Writer`: one ONNX graph, layer by layer, with weights that keep activations in a plausible range.

Weights are drawn from a seed (He et al. 2015). The statistics of batch normalisations are those that the network really
has on smooth noise: they are measured by running it once with every normalisation written out over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from .norms import EPSILON, SMALLEST_VARIANCE, Array, folded, written_out

OPSET = 17
IR_VERSION = 8
CALIBRATION_BATCH = 8


class Writer:
    """Collects nodes and weights; every method that adds a layer returns the name of its output.

    Args:
        name: of the graph.
        seed: of the weights.
        folded: whether batch normalisations are folded into the convolutions before them, as PyTorch's exporter does.
        batch: size of the first dimension of inputs; a name makes it dynamic.

    Attributes:
        shapes: of every value, the first dimension taken as 1.
        macs: multiply-accumulates of convolutions, matrix products and recurrent layers so far.
    """

    def __init__(self, name: str, seed: int = 0, *, folded: bool = False, batch: int | str = 1) -> None:
        self.name = name
        self.random = np.random.default_rng(seed)
        self.folded = folded
        self.batch = batch
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.macs = 0
        self._types: dict[str, onnx.TypeProto] = {}
        self._counts: dict[str, int] = {}

    # --- values ---

    def input(self, name: str, shape: Sequence[int], dtype: int = TensorProto.FLOAT) -> str:
        """An input; `shape` leaves the batch out."""
        self.inputs[name] = dtype
        self._know(name, helper.make_tensor_type_proto(dtype, [1, *shape]))
        return name

    def output(self, value: str, name: str) -> None:
        """Makes a value an output under a name of its own."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"output_{name}"))
        self._know(name, self._types[value])
        self.outputs[name] = value

    def weight(self, array: Any, label: str = "weight") -> str:
        """A constant."""
        name = self._fresh(label)
        self.weights[name] = np.asarray(array)
        kind = helper.np_dtype_to_tensor_dtype(self.weights[name].dtype)
        self._know(name, helper.make_tensor_type_proto(kind, self.weights[name].shape))
        return name

    def integers(self, *values: int) -> str:
        """A constant int64 vector, as Reshape, Slice and their like want it."""
        return self.weight(np.array(values, np.int64), "integers")

    def scalar(self, value: float) -> str:
        """A constant float."""
        return self.weight(np.float32(value), "scalar")

    # --- ops ---

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Any op with one output that is used."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Any op with several outputs."""
        label = self._fresh(kind.lower())
        names = [label if outputs == 1 else f"{label}_{index}" for index in range(outputs)]
        node = helper.make_node(kind, list(inputs), names, name=label, **attributes)
        types = {name: self._types[name] for name in inputs if name}
        small = {
            name: numpy_helper.from_array(self.weights[name], name)
            for name in inputs
            if name in self.weights and self.weights[name].size < 64
        }
        schema = onnx.defs.get_schema(kind, OPSET, "")
        opsets = [helper.make_opsetid("", OPSET)]
        known = shape_inference.infer_node_outputs(
            schema, node, types, small, opset_imports=opsets, ir_version=IR_VERSION
        )
        for name in names:
            self._know(name, known[name])
        self.nodes.append(node)
        self.macs += self._macs(node)
        return names

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int | tuple[int, ...] = 3,
        stride: int | tuple[int, ...] = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        pad: int | None = None,
        norm: bool = True,
        activation: str | None = "relu",
        gain: float = 2.0,
    ) -> str:
        """Convolution over one or two dimensions, then batch normalisation (else a bias), then an activation.

        Padding keeps the size at stride 1 unless `pad` says otherwise. `groups` may be -1: one group per channel.
        """
        shape = self.shapes[x]
        rank = len(shape) - 2
        kernels = (kernel,) * rank if isinstance(kernel, int) else kernel
        strides = (stride,) * rank if isinstance(stride, int) else stride
        groups = shape[1] if groups == -1 else groups
        pads = [(size - 1) * dilation // 2 if pad is None else pad for size in kernels]
        weight = self.drawn((channels, shape[1] // groups, *kernels), shape[1] // groups * math.prod(kernels), gain)
        inputs = [x, weight] if norm else [x, weight, self.weight(self.small(channels), "bias")]
        y = self.op(
            "Conv",
            *inputs,
            kernel_shape=kernels,
            strides=strides,
            pads=pads * 2,
            dilations=[dilation] * rank,
            group=groups,
        )
        if norm:
            y = self.batch_norm(y)
        return self.activate(y, activation)

    def batch_norm(self, x: str) -> str:
        """Batch normalisation over channels; its mean and variance are set when the model is made."""
        channels = self.shapes[x][1]
        return self.op(
            "BatchNormalization",
            x,
            self.weight(self.random.uniform(0.6, 1.4, channels).astype(np.float32), "gamma"),
            self.weight(self.small(channels, 0.2), "beta"),
            self.weight(np.zeros(channels, np.float32), "mean"),
            self.weight(np.ones(channels, np.float32), "variance"),
            epsilon=EPSILON,
        )

    def linear(self, x: str, features: int, *, activation: str | None = None, gemm: bool = False) -> str:
        """A dense layer over the last dimension: MatMul and Add, or one Gemm for two dimensions."""
        width = self.shapes[x][-1]
        bias = self.weight(self.small(features), "bias")
        if gemm:
            weight = self.drawn((features, width), width)
            return self.activate(self.op("Gemm", x, weight, bias, transB=1), activation)
        weight = self.drawn((width, features), width)
        return self.activate(self.op("Add", self.op("MatMul", x, weight), bias), activation)

    def activate(self, x: str, kind: str | None) -> str:
        """An activation by name; None leaves the value as it is."""
        if kind is None:
            return x
        if kind == "relu6":
            return self.op("Clip", x, self.scalar(0.0), self.scalar(6.0))
        if kind == "silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if kind == "gelu":
            erf = self.op("Erf", self.op("Div", x, self.scalar(math.sqrt(2.0))))
            return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.scalar(1.0))), self.scalar(0.5))
        if kind == "leaky":
            return self.op("LeakyRelu", x, alpha=0.1)
        if kind == "hardsigmoid":
            return self.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)
        plain = {"relu": "Relu", "hardswish": "HardSwish", "sigmoid": "Sigmoid", "tanh": "Tanh"}
        return self.op(plain[kind], x)

    def layer_norm(self, x: str) -> str:
        """Layer normalisation over the last dimension."""
        width = self.shapes[x][-1]
        scale = self.weight(self.random.uniform(0.8, 1.2, width).astype(np.float32), "gamma")
        return self.op("LayerNormalization", x, scale, self.weight(self.small(width), "beta"), axis=-1, epsilon=EPSILON)

    def pool(self, x: str, kind: str = "MaxPool", kernel: int = 2, stride: int = 2, pad: int = 0) -> str:
        """MaxPool or AveragePool over two dimensions."""
        return self.op(kind, x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def reshape(self, x: str, *sizes: int) -> str:
        """A new shape; 0 keeps a dimension, -1 takes what is left."""
        return self.op("Reshape", x, self.integers(*sizes))

    def transpose(self, x: str, *order: int) -> str:
        """Dimensions in another order."""
        return self.op("Transpose", x, perm=order)

    def classifier(self, x: str, classes: int) -> str:
        """Global average, then one dense layer."""
        return self.linear(self.op("Flatten", self.op("GlobalAveragePool", x), axis=1), classes, gemm=True)

    # --- weights ---

    def drawn(self, shape: Sequence[int], fan_in: int, gain: float = 2.0) -> str:
        """Normal weights whose variance is `gain` over the number of inputs to one output."""
        scale = math.sqrt(gain / fan_in)
        return self.weight((self.random.standard_normal(shape, np.float32) * np.float32(scale)).astype(np.float32))

    def small(self, size: int, scale: float = 0.05) -> Array:
        """A small random vector, as biases are."""
        return (self.random.standard_normal(size, np.float32) * np.float32(scale)).astype(np.float32)

    # --- the model ---

    def model(self, feeds: Mapping[str, Array] | None = None) -> onnx.ModelProto:
        """The checked model.

        Args:
            feeds: a batch for the statistics of normalisations; smooth noise where none is given.
        """
        self._measure_norms(feeds or self.feeds(CALIBRATION_BATCH, seed=1))
        nodes, weights = folded(self.nodes, self.weights) if self.folded else (self.nodes, self.weights)
        model = self._model(nodes, weights, self.batch, list(self.outputs))
        onnx.checker.check_model(model)
        return model

    def feeds(self, batch: int = 1, seed: int = 0) -> dict[str, Array]:
        """Smooth noise for float inputs, small whole numbers for the others."""
        random = np.random.default_rng(seed)
        found: dict[str, Array] = {}
        for name, dtype in self.inputs.items():
            shape = (batch, *self.shapes[name][1:])
            if dtype == TensorProto.FLOAT:
                noise = random.standard_normal(shape).astype(np.float32)
                coarse = random.standard_normal((*shape[:2], *(-(-size // 8) for size in shape[2:]))).astype(np.float32)
                for axis, size in enumerate(shape[2:], 2):
                    coarse = np.repeat(coarse, 8, axis).take(range(size), axis)
                found[name] = (0.4 * noise + 0.9 * coarse).astype(np.float32)
            else:
                found[name] = random.integers(0, 2, shape).astype(helper.tensor_dtype_to_np_dtype(dtype))
        return found

    def _model(
        self, nodes: Sequence[onnx.NodeProto], weights: dict[str, Array], batch: int | str, outputs: Sequence[str]
    ) -> onnx.ModelProto:
        def value(name: str, batch: int | str) -> onnx.ValueInfoProto:
            kind = self._types[name].tensor_type.elem_type
            first, *others = self.shapes[name]
            return helper.make_tensor_value_info(name, kind, [batch if first == 1 else first, *others])

        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            self.name,
            [value(name, batch) for name in self.inputs],
            [value(name, batch) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in weights.items() if name in used],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edge-sdk zoo")

    def _measure_norms(self, feeds: Mapping[str, Array]) -> None:
        norm = "BatchNormalization"
        norms = [node for node in self.nodes if node.op_type == norm]
        if not norms:
            return
        import onnxruntime

        nodes = [
            part
            for node in self.nodes
            for part in (written_out(node, len(self.shapes[node.input[0]])) if node.op_type == norm else [node])
        ]
        model = self._model(nodes, self.weights, "batch", list(self.outputs))
        names = [f"{node.name}_{part}" for node in norms for part in ("mean", "variance")]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        found = session.run(names, feeds)
        for node, mean, variance in zip(norms, found[::2], found[1::2], strict=True):
            self.weights[node.input[3]] = mean.reshape(-1)
            self.weights[node.input[4]] = np.maximum(variance.reshape(-1), SMALLEST_VARIANCE)

    # --- bookkeeping ---

    def _fresh(self, label: str) -> str:
        count = self._counts[label] = self._counts.get(label, -1) + 1
        return f"{label}_{count}"

    def _know(self, name: str, kind: onnx.TypeProto) -> None:
        self._types[name] = kind
        self.shapes[name] = tuple(dimension.dim_value for dimension in kind.tensor_type.shape.dim)

    def _macs(self, node: onnx.NodeProto) -> int:
        shapes = [self.shapes[name] if name else () for name in node.input]
        made = math.prod(self.shapes[node.output[0]])
        if node.op_type == "Conv":
            return made * math.prod(shapes[1][1:])
        if node.op_type == "ConvTranspose":
            return math.prod(shapes[0]) * math.prod(shapes[1][1:])
        if node.op_type in ("MatMul", "Gemm"):
            return made * shapes[0][-1]
        if node.op_type in ("LSTM", "GRU"):
            return shapes[0][0] * (math.prod(shapes[1]) + math.prod(shapes[2]))
        return 0
