"""Small ONNX networks for the tests of compression, put together layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


class Net:
    """A network on its way: each method adds a layer and returns the name of what it gives.

    Weights are drawn from a seed. With `dead` set, every second output channel of a convolution is zero (filter and
    bias), so that pruning exactly those leaves the function as it is.
    """

    def __init__(self, shape: tuple[int | str, ...] = (1, 3, 16, 16), seed: int = 0, dead: bool = False) -> None:
        self.random = np.random.default_rng(seed)
        self.dead = dead
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = shape
        self.input = "image"

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Any op; the name of its output, or names where there are several."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        names = [name if place == 0 else f"{name}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, f"n_{name}", **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, array: Any, dtype: Any = np.float32) -> str:
        """An initialiser."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def kernel(self, outputs: int, inputs: int, size: int) -> Array:
        """He-initialised weights."""
        return self.random.normal(size=(outputs, inputs, size, size)) * np.sqrt(2 / (inputs * size * size))

    def conv(
        self, x: str, inputs: int, outputs: int, size: int = 3, *, group: int = 1, stride: int = 1, kernel: Any = None
    ) -> str:
        """A convolution with bias that keeps the size."""
        kernel = self.kernel(outputs, inputs // group, size) if kernel is None else kernel
        bias = self.random.normal(size=outputs) * 0.1
        if self.dead and group == 1:
            kernel[1::2], bias[1::2] = 0, 0
        if self.dead and group > 1:
            bias[1::2] = 0
        half = size // 2
        return str(
            self.op(
                "Conv", x, self.weight(kernel), self.weight(bias),
                kernel_shape=[size, size], pads=[half] * 4, strides=[stride] * 2, group=group,
            )
        )  # fmt: skip

    def relu(self, x: str) -> str:
        return str(self.op("Relu", x))

    def gemm(self, x: str, inputs: int, outputs: int, matrix: Any = None) -> str:
        """A fully connected layer with transposed weights and bias."""
        matrix = self.random.normal(size=(outputs, inputs)) / np.sqrt(inputs) if matrix is None else matrix
        return str(self.op("Gemm", x, self.weight(matrix), self.weight(self.random.normal(size=outputs)), transB=1))

    def head(self, x: str, channels: int, classes: int = 10) -> str:
        """Average over the picture, then scores."""
        return self.gemm(self.op("Flatten", self.op("GlobalAveragePool", x)), channels, classes)

    def model(self, *outputs: str, opset: int = 17) -> onnx.ModelProto:
        """The whole."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(self.input, TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.weights,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made)


def pictures(count: int, shape: tuple[int, ...] = (1, 3, 16, 16), seed: int = 1) -> list[dict[str, Array]]:
    """Samples: smooth noise, so that neighbours are alike as in photographs."""
    random = np.random.default_rng(seed)
    return [{"image": random.normal(size=shape).astype(np.float32).cumsum(-1) / 4} for _ in range(count)]


def answers(model: Any, feeds: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """What a model (`ModelProto` or path) answers, by the engine alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]


def apart(model: Any, other: Any, feeds: list[dict[str, Array]]) -> float:
    """Mean over samples of |other - model| / |model|, all outputs joined in their order."""
    errors = []
    for one, two in zip(answers(model, feeds), answers(other, feeds), strict=True):
        first, second = (
            np.concatenate([v.reshape(-1) for v in answer.values()]).astype(np.float64) for answer in (one, two)
        )
        assert first.shape == second.shape
        errors.append(float(np.linalg.norm(second - first) / max(np.linalg.norm(first), 1e-12)))
    return float(np.mean(errors))


def small_classifier(seed: int = 0, *, dead: bool = False) -> onnx.ModelProto:
    """conv 3→16, ReLU, depthwise, ReLU, conv 16→32, ReLU, average, 10 scores."""
    net = Net(seed=seed, dead=dead)
    x = net.relu(net.conv("image", 3, 16))
    x = net.relu(net.conv(x, 16, 16, group=16))
    x = net.relu(net.conv(x, 16, 32, 1))
    return net.model(net.head(x, 32))


def written(model: onnx.ModelProto, path: Path) -> Path:
    """The model as a file."""
    path.write_bytes(model.SerializeToString())
    return path
