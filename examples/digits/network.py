"""A small convolutional network for 8×8 pictures of digits, trained with numpy alone and written as ONNX.

Layers: 3×3 convolution (1 to 12 channels), ReLU, 3×3 convolution with stride 2 (12 to 24), ReLU, a dense layer to the
ten digits, softmax. Input "picture" float32 [N, 1, 8, 8] in 0..1, output "shares" float32 [N, 10].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CHANNELS = (1, 12, 24)
STRIDES = (1, 2)
SIDE = 8


class DigitsNetwork:
    """The weights, and one step of training (Adam; Kingma and Ba, 2015)."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.weights: dict[str, Array] = {}
        for layer in (1, 2):
            fan_in = CHANNELS[layer - 1] * 9
            kernel = random.normal(0, np.sqrt(2 / fan_in), (CHANNELS[layer], CHANNELS[layer - 1], 3, 3))
            self.weights[f"conv{layer}.weight"] = kernel.astype(np.float32)
            self.weights[f"conv{layer}.bias"] = np.zeros(CHANNELS[layer], np.float32)
        features = CHANNELS[2] * (SIDE // 2) ** 2
        self.weights["dense.weight"] = random.normal(0, np.sqrt(1 / features), (features, 10)).astype(np.float32)
        self.weights["dense.bias"] = np.zeros(10, np.float32)
        self._mean = {name: np.zeros_like(w) for name, w in self.weights.items()}
        self._square = {name: np.zeros_like(w) for name, w in self.weights.items()}
        self._steps = 0

    def step(self, pictures: Array, digits: Array, rate: float) -> float:
        """One step on pictures [n, 1, 8, 8] and their digits [n]; returns the mean cross-entropy before it."""
        activations, patches = [pictures], []
        for layer, stride in zip((1, 2), STRIDES, strict=True):
            patches.append(_patches(activations[-1], stride))
            kernel = self.weights[f"conv{layer}.weight"]
            sums = patches[-1] @ kernel.reshape(len(kernel), -1).T + self.weights[f"conv{layer}.bias"]
            activations.append(np.maximum(sums, 0).transpose(0, 3, 1, 2))
        flat = activations[-1].reshape(len(pictures), -1)
        scores = flat @ self.weights["dense.weight"] + self.weights["dense.bias"]
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        rows = np.arange(len(digits))
        loss = float(-np.log(shares[rows, digits] + 1e-9).mean())

        upstream = shares
        upstream[rows, digits] -= 1
        upstream /= len(digits)
        gradients = {"dense.weight": flat.T @ upstream, "dense.bias": upstream.sum(axis=0)}
        back = (upstream @ self.weights["dense.weight"].T).reshape(activations[-1].shape)
        for layer, stride in ((2, STRIDES[1]), (1, STRIDES[0])):
            back = (back * (activations[layer] > 0)).transpose(0, 2, 3, 1)
            kernel = self.weights[f"conv{layer}.weight"]
            flat_back = back.reshape(-1, len(kernel))
            flat_patches = patches[layer - 1].reshape(len(flat_back), -1)
            gradients[f"conv{layer}.weight"] = (flat_back.T @ flat_patches).reshape(kernel.shape)
            gradients[f"conv{layer}.bias"] = flat_back.sum(axis=0)
            back = _unpatch(back @ kernel.reshape(len(kernel), -1), activations[layer - 1].shape, stride)
        self._adam(gradients, rate)
        return loss

    def _adam(self, gradients: dict[str, Array], rate: float) -> None:
        self._steps += 1
        for name, gradient in gradients.items():
            self._mean[name] = 0.9 * self._mean[name] + 0.1 * gradient
            self._square[name] = 0.999 * self._square[name] + 0.001 * gradient**2
            mean = self._mean[name] / (1 - 0.9**self._steps)
            square = self._square[name] / (1 - 0.999**self._steps)
            self.weights[name] = (self.weights[name] - rate * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)

    def save(self, path: Path) -> None:
        """Writes the network as an ONNX file."""
        from onnx import TensorProto, checker, helper, numpy_helper

        conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes = [
            helper.make_node("Conv", ["picture", "conv1.weight", "conv1.bias"], ["a"], "conv1", **conv),
            helper.make_node("Relu", ["a"], ["b"], "relu1"),
            helper.make_node("Conv", ["b", "conv2.weight", "conv2.bias"], ["c"], "conv2", strides=[2, 2], **conv),
            helper.make_node("Relu", ["c"], ["d"], "relu2"),
            helper.make_node("Flatten", ["d"], ["e"], "flatten"),
            helper.make_node("Gemm", ["e", "dense.weight", "dense.bias"], ["f"], "dense"),
            helper.make_node("Softmax", ["f"], ["shares"], "softmax", axis=1),
        ]
        graph = helper.make_graph(
            nodes,
            "digits",
            [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])],
            [helper.make_tensor_value_info("shares", TensorProto.FLOAT, ["N", 10])],
            [numpy_helper.from_array(weight, name) for name, weight in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(model)
        path.write_bytes(model.SerializeToString())


def _patches(pictures: Array, stride: int) -> Array:
    """[n, c, h, w] to [n, h', w', c·9]: the 3×3 neighbourhoods with a border of zeros."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    count, channels, height, width = windows.shape[:4]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(count, height, width, channels * 9)


def _unpatch(patches: Array, shape: tuple[int, ...], stride: int) -> Array:
    """The transpose of `_patches`: adds every neighbourhood back to where it came from."""
    count, channels, height, width = shape
    padded = np.zeros((count, channels, height + 2, width + 2), np.float32)
    rows, columns = patches.shape[1:3]
    parts = patches.reshape(count, rows, columns, channels, 3, 3)
    for y in range(3):
        for x in range(3):
            target = padded[:, :, y : y + rows * stride : stride, x : x + columns * stride : stride]
            target += parts[..., y, x].transpose(0, 3, 1, 2)
    return padded[:, :, 1:-1, 1:-1]
