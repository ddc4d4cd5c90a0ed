"""Networks that read handwritten digits, made in seconds: random convolutions with a readout solved in closed form.

Random features with a linear readout separate small pictures well (Saxe et al. 2011), so that accuracy means something
without training. `spread` gives the same function weights whose channels differ by decades, as networks with depthwise
convolutions come to have in training (Nagel et al. 2019).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from .norms import Array
from .writer import Writer

SIZE = 32
HELD_OUT = 600
DECADES = 3.0
PENALTIES = (1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Digits as the networks take them.

    Attributes:
        image: float32[n, 1, 32, 32], mean 0 and deviation 1 over all of them.
        labels: int64[n], 0 to 9.
    """

    image: Array
    labels: Array


def load_pictures() -> tuple[Pictures, Pictures]:
    """scikit-learn's digits, enlarged from 8×8: those to learn from, and 600 held out."""
    from sklearn.datasets import load_digits

    data = load_digits()
    small = (data.images - data.images.mean()) / data.images.std()
    place = (np.arange(SIZE) + 0.5) * 8 / SIZE - 0.5
    near = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(8)[None]))
    image = np.einsum("ip,npq,jq->nij", near, small, near).astype(np.float32)[:, None]
    order = np.random.default_rng(7).permutation(len(image))
    learn, held_out = order[HELD_OUT:], order[:HELD_OUT]
    labels = data.target.astype(np.int64)
    return Pictures(image[learn], labels[learn]), Pictures(image[held_out], labels[held_out])


def plain(net: Writer, width: int = 32) -> None:
    """Three 3×3 convolutions with strides, averages over a 2×2 grid, ten scores."""
    x = net.conv(net.input("image", [1, SIZE, SIZE]), width, 5, 2)
    x = net.conv(net.conv(x, width * 2, 3), width * 4, 3, 2)
    _readout(net, x)


def depthwise(net: Writer, width: int = 64) -> None:
    """A 3×3 convolution, then depthwise and 1×1 in turn, averages over a 2×2 grid, ten scores."""
    x = net.conv(net.input("image", [1, SIZE, SIZE]), width, 5, 2)
    for channels, stride in ((width * 2, 1), (width * 4, 2), (width * 4, 1)):
        x = net.conv(x, net.shapes[x][1], 3, stride, groups=-1)
        x = net.conv(x, channels, 1)
    _readout(net, x)


def _readout(net: Writer, x: str) -> None:
    side = net.shapes[x][2] // 2
    x = net.op("Flatten", net.pool(x, "AveragePool", side, side), axis=1)
    net.output(net.linear(x, 10, gemm=True), "scores")


def trained(build: Callable[[Writer], None], name: str, pictures: Pictures, seed: int = 0) -> onnx.ModelProto:
    """The network with its last layer solved on the pictures; batch dynamic, normalisations folded.

    Ridge regression of the labels on the features, the penalty chosen on a fifth of the pictures.
    """
    net = Writer(name, seed, folded=True, batch="batch")
    build(net)
    model = net.model({"image": pictures.image[:256]})
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    features = _values(model, gemm.input[0], pictures.image)
    mean, scale = features.mean(0), features.std(0) + 1e-6
    normal = np.c_[(features - mean) / scale, np.ones(len(features))]
    weights = _solved(normal, pictures.labels)
    kernel = (weights[:-1] / scale[:, None]).T.astype(np.float32)
    bias = (weights[-1] - mean @ kernel.T).astype(np.float32)
    for tensor in model.graph.initializer:
        if tensor.name in gemm.input[1:]:
            array = kernel if tensor.name == gemm.input[1] else bias
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def _values(model: onnx.ModelProto, name: str, image: Array) -> Array:
    import onnxruntime

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    tapped.graph.output.append(onnx.ValueInfoProto(name=name))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    parts = [session.run([name], {"image": image[first : first + 128]})[0] for first in range(0, len(image), 128)]
    return np.concatenate(parts).astype(np.float64)


def _solved(features: Array, labels: Array) -> Array:
    targets = np.eye(10)[labels] * 10 - 1
    fifth = len(features) // 5

    def solve(first: int, penalty: float) -> Array:
        chosen = features[first:]
        gram = chosen.T @ chosen + penalty * np.eye(chosen.shape[1])
        found: Array = np.linalg.solve(gram, chosen.T @ targets[first:])
        return found

    def right(penalty: float) -> int:
        return int((np.argmax(features[:fifth] @ solve(fifth, penalty), 1) == labels[:fifth]).sum())

    return solve(0, max(PENALTIES, key=right))


def spread(model: onnx.ModelProto, seed: int = 0, decades: float = DECADES) -> onnx.ModelProto:
    """The same function with channels scaled apart: each convolution's output channel by its own factor, and the next
    convolution's weights by the inverse. Exact through ReLU, since relu(s·x) = s·relu(x) for s > 0.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    random = np.random.default_rng(seed)
    weights = {tensor.name: tensor for tensor in made.graph.initializer}
    chain = [node for node in made.graph.node if node.op_type == "Conv"]
    for before, after in itertools.pairwise(chain):
        kernel, bias, following = (numpy_helper.to_array(weights[n]) for n in (*before.input[1:], after.input[1]))
        # Powers of two, so that float32 results stay bit for bit what they were.
        factors = np.exp2(np.rint(random.uniform(-0.5, 0.5, len(kernel)) * decades * np.log2(10))).astype(np.float32)
        depthwise_next = following.shape[1] == 1 and len(following) == len(kernel)
        shape = (-1, 1, 1, 1) if depthwise_next else (1, -1, 1, 1)
        changed = {
            before.input[1]: kernel * factors.reshape(-1, 1, 1, 1),
            before.input[2]: bias * factors,
            after.input[1]: following / factors.reshape(shape),
        }
        for name, array in changed.items():
            weights[name].CopyFrom(numpy_helper.from_array(array, name))
    return made
