"""How ONNX Runtime lays out integer pictures: channels last, with transpositions where plain layout is needed.

Integer convolutions and poolings work on it; ops between them follow where that saves a transposition.

Source: nhwc_transformer.cc and the transpose optimizer of ONNX Runtime.
"""

from __future__ import annotations

from edge_sdk.graph.kernels import Kernel, Kernels

__all__ = ["move_channels_last"]

_WORKING = frozenset(
    {
        "QLinearConv",
        "com.microsoft.NhwcMaxPool",
        "com.microsoft.QLinearAveragePool",
        "com.microsoft.QLinearGlobalAveragePool",
    }
)
_FOLLOWING = frozenset(
    {
        "Add", "Clip", "Concat", "DequantizeLinear", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Pad",
        "QuantizeLinear", "Relu", "Resize", "Sigmoid", "Tanh", "com.microsoft.QLinearAdd",
        "com.microsoft.QLinearConcat", "com.microsoft.QLinearLeakyRelu", "com.microsoft.QLinearMul",
        "com.microsoft.QLinearSigmoid", "com.microsoft.QuickGelu",
    }
)  # fmt: skip

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def move_channels_last(kernels: Kernels) -> None:
    """Adds the transpositions at the borders between the two layouts. Comes after the quantised kernels were joined."""
    if any(kernel.type in _WORKING for kernel in kernels):
        _Mover(kernels).run()


class _Mover:
    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels
        self.held: set[str] = set()
        self.copies: dict[str, str] = {}
        self.wanted = self._wanted()

    def _wanted(self) -> set[str]:
        """Tensors that an integer kernel further on takes with channels last."""
        wanted: set[str] = set()
        for kernel in reversed(list(self.kernels)):
            if kernel.type in _WORKING:
                wanted.update(kernel.inputs[:1])
                continue
            follows = kernel.type in _FOLLOWING and any(name in wanted for name in kernel.outputs)
            if follows or _permutes(kernel, _TO_LAST):
                wanted.update(kernel.inputs)
        return wanted

    def run(self) -> None:
        for kernel in self.kernels:
            if kernel.type in _WORKING and kernel.inputs:
                if kernel.inputs[0] not in self.held:
                    self._transpose(kernel, kernel.inputs[0], "channels last")
                self.held.update(kernel.outputs)
            elif self._cancels(kernel):
                self.kernels.remove(kernel)
            elif self._follows(kernel):
                self.held.update(kernel.outputs)
            else:
                for name in [name for name in kernel.inputs if name in self.held]:
                    self._transpose(kernel, name, "channels first")
        for name in self.kernels.graph.outputs:
            if name in self.held:
                maker = self.kernels.maker(name)
                if maker is not None:
                    self._transpose(maker, name, "channels first")

    def _cancels(self, kernel: Kernel) -> bool:
        """Whether a transposition of the model itself only names what is there: the data lie as it wants them."""
        if any(self.kernels.is_output(name) for name in kernel.outputs):
            return False
        if _permutes(kernel, _TO_LAST) and kernel.inputs[0] in self.held:
            return True
        if _permutes(kernel, _TO_FIRST) and kernel.inputs[0] not in self.held and kernel.outputs[0] in self.wanted:
            self.held.add(kernel.outputs[0])
            return True
        return False

    def _follows(self, kernel: Kernel) -> bool:
        if kernel.type not in _FOLLOWING or not any(name in self.wanted for name in kernel.outputs):
            return False
        return bool(kernel.inputs) and all(name in self.held for name in kernel.inputs)

    def _transpose(self, kernel: Kernel, name: str, layout: str) -> None:
        """Makes a kernel read a tensor in the other layout. With one channel or one place nothing has to move."""
        shape = self.kernels.shape(name)
        if shape is None or len(shape) < 3 or shape[1] == 1 or all(size == 1 for size in shape[2:]):
            return
        if name not in self.copies:
            self.copies[name] = f"{name} ({layout})"
            place = kernel.place - 0.25 if name in kernel.inputs else kernel.place + 0.25
            self.kernels.add_copy("Transpose", name, self.copies[name], place)
        if name in kernel.inputs:
            self.kernels.reroute(kernel, name, self.copies[name])


def _permutes(kernel: Kernel, perm: tuple[int, ...]) -> bool:
    return kernel.type == "Transpose" and bool(kernel.ops) and kernel.ops[0].attributes.get("perm") == perm
