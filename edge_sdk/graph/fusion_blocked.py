"""How ONNX Runtime lays out pictures on x86: channels in blocks, with kernels that reorder data on the way in and out.

Convolutions and poolings work on blocks; sums, activations and concatenations between them follow. Where another op, or
the caller, needs the plain layout, a reordering kernel is added.

Source: nchwc_transformer.cc of ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.graph.kernels import Kernel, Kernels

__all__ = ["block_channels"]

BLOCKED = "com.microsoft.nchwc."
_ALIGNMENT = 4
"""Channels that are padded to a block must come in multiples of this."""
_JOINED_ACTIVATIONS = frozenset({"HardSigmoid", "HardSwish", "Relu", "Sigmoid", "Tanh"})
_LOOSE_ACTIVATIONS = frozenset({"com.microsoft.Gelu", "com.microsoft.QuickGelu"})
_TO_CHANNELS_LAST = (0, 2, 3, 1)


@dataclass(slots=True)
class _Held:
    """A tensor that is kept in blocks: its channels, and how many readers it had and has left in the plain layout."""

    channels: int
    uses: int
    left: int


def block_channels(kernels: Kernels, block: int) -> None:
    """Moves kernels to the blocked layout where ONNX Runtime does, joins what it joins there, adds the reordering.

    Args:
        kernels: after all other steps but the joining of sums.
        block: channels in a block: 16 with AVX-512, 8 on other x86.
    """
    _Blocker(kernels, block).run()


class _Blocker:
    def __init__(self, kernels: Kernels, block: int) -> None:
        self.kernels = kernels
        self.block = block
        self.held: dict[str, _Held] = {}
        self.copies: dict[str, str] = {}

    def run(self) -> None:
        for kernel in self.kernels:
            if len(kernel.outputs) == 1:
                self._visit(kernel)
        for name, held in self.held.items():
            if held.left > 0:
                self._reorder_output(name)

    def _visit(self, kernel: Kernel) -> None:
        if kernel.type in ("Conv", "com.microsoft.FusedConv"):
            self._conv(kernel)
        elif kernel.type in ("MaxPool", "AveragePool"):
            self._pool(kernel)
        elif kernel.inputs and all(name in self.held for name in kernel.inputs):
            if kernel.type in ("Add", "Sum", "Mul"):
                self._binary(kernel)
            elif kernel.type == "Concat":
                self._concat(kernel)
            elif kernel.type in _JOINED_ACTIVATIONS | _LOOSE_ACTIVATIONS:
                self._activation(kernel)
            elif kernel.type == "BatchNormalization":
                self._follow(kernel, type=BLOCKED + "Conv")
            elif kernel.type == "Transpose" and kernel.ops[0].attributes.get("perm") == _TO_CHANNELS_LAST:
                self._take(kernel.inputs[0])
                kernel.type = BLOCKED + "ReorderOutput"
            elif kernel.type in ("Resize", "Upsample"):
                self._resize(kernel)
            elif kernel.type in ("GlobalAveragePool", "GlobalMaxPool"):
                self._pool(kernel)

    def _conv(self, kernel: Kernel) -> None:
        op = kernel.lead
        if op is None or len(op.attributes.get("kernel", ())) != 2 or not self._is_plain_float(kernel):
            return
        group, into, out = (int(op.attributes[key]) for key in ("group", "in_channels", "out_channels"))
        depthwise = group > 1 and into == group == out
        if group > 1:
            if out % _ALIGNMENT or (not depthwise and ((into // group) % self.block or (out // group) % self.block)):
                return
        elif into >= self.block and into % _ALIGNMENT:
            return
        if group > 1 or into >= self.block:
            self._enter(kernel)
        kernel.type = BLOCKED + "Conv"
        self._hold(kernel.outputs[0], out)

    def _is_plain_float(self, kernel: Kernel) -> bool:
        """Whether weights are constants and everything is float32."""
        assert kernel.lead is not None
        dtype = self.kernels.graph.tensors[kernel.lead.outputs[0]].dtype
        return dtype == "float32" and self.kernels.has_fixed_weights(kernel)

    def _pool(self, kernel: Kernel) -> None:
        shape = self.kernels.shape(kernel.inputs[0]) if kernel.inputs else None
        if shape is None or len(shape) != 4 or shape[1] % self.block:
            return
        if self.kernels.graph.tensors[kernel.ops[0].outputs[0]].dtype != "float32":
            return
        self._enter(kernel)
        kernel.type = BLOCKED + kernel.type
        self._hold(kernel.outputs[0], shape[1])

    def _binary(self, kernel: Kernel) -> None:
        channels = self.held[kernel.inputs[0]].channels
        constants = [name for name in kernel.ops[0].inputs if self.kernels.graph.tensors[name].constant]
        if constants:
            shape = self.kernels.shape(constants[0])
            if kernel.type == "Mul" and len(constants) == 1 and shape in ((channels, 1, 1), (1, channels, 1, 1)):
                self._follow(kernel, type=BLOCKED + "Conv")
            return
        if len({self.kernels.shape(name) for name in kernel.inputs}) != 1:
            return
        for name in kernel.inputs:
            self._take(name)
        if kernel.type != "Mul" and len(kernel.inputs) == 2:
            for name in kernel.inputs:
                conv = self._open_conv(name, {"sum", "activation"})
                if conv is not None:
                    kernel = self.kernels.join(conv, kernel, mark="sum")
                    break
        self._hold(kernel.outputs[0], channels)

    def _open_conv(self, name: str, closed: set[str]) -> Kernel | None:
        """The convolution that makes a tensor for one reader alone and has not taken up what `closed` says."""
        maker = self.kernels.maker(name)
        if maker is None or maker.type != BLOCKED + "Conv" or self.held[name].uses != 1 or maker.marks & closed:
            return None
        return maker

    def _activation(self, kernel: Kernel) -> None:
        name = kernel.inputs[0]
        channels = self.held[name].channels
        self._take(name)
        conv = self._open_conv(name, {"activation"}) if kernel.type in _JOINED_ACTIVATIONS else None
        if conv is not None:
            kernel = self.kernels.join(conv, kernel, mark="activation")
        self._hold(kernel.outputs[0], channels)

    def _concat(self, kernel: Kernel) -> None:
        channels = [self.held[name].channels for name in kernel.inputs]
        whole = len(kernel.inputs) == len([name for name in kernel.ops[0].inputs if name])
        if kernel.ops[0].attributes.get("axis") == 1 and whole and not any(count % self.block for count in channels):
            for name in kernel.inputs:
                self._take(name)
            self._hold(kernel.outputs[0], sum(channels))

    def _resize(self, kernel: Kernel) -> None:
        before, after = self.kernels.shape(kernel.inputs[0]), self.kernels.shape(kernel.outputs[0])
        if before is None or after is None or len(before) != 4 or before[:2] != after[:2]:
            return
        if kernel.ops[0].attributes.get("mode") == "cubic":
            return
        if all(size and grown % size == 0 for size, grown in zip(before[2:], after[2:], strict=True)):
            self._follow(kernel, type=BLOCKED + "Upsample")

    def _follow(self, kernel: Kernel, type: str) -> None:
        """A kernel of one input that works on blocks as that input does."""
        channels = self.held[kernel.inputs[0]].channels
        self._take(kernel.inputs[0])
        kernel.type = type
        self._hold(kernel.outputs[0], channels)

    def _enter(self, kernel: Kernel) -> None:
        """Makes the input of a kernel blocked."""
        name = kernel.inputs[0]
        if name in self.held:
            self._take(name)
            return
        if name not in self.copies:
            self.copies[name] = f"{name} (in blocks)"
            self.kernels.add_copy(BLOCKED + "ReorderInput", name, self.copies[name], kernel.place - 0.5)
        self.kernels.reroute(kernel, name, self.copies[name])

    def _take(self, name: str) -> None:
        if name in self.held:
            self.held[name].left -= 1

    def _hold(self, name: str, channels: int) -> None:
        uses = len(self.kernels.readers(name)) + self.kernels.is_output(name)
        self.held[name] = _Held(channels, uses, uses)

    def _reorder_output(self, name: str) -> None:
        maker = self.kernels.maker(name)
        if maker is None:
            return
        plain = f"{name} (plain)"
        readers = [r for r in self.kernels.readers(name) if not self._reads_blocks(r)]
        self.kernels.add_copy(BLOCKED + "ReorderOutput", name, plain, maker.place + 0.5)
        for reader in readers:
            self.kernels.reroute(reader, name, plain)

    def _reads_blocks(self, kernel: Kernel) -> bool:
        return kernel.type.startswith(BLOCKED) or any(name in self.held for name in kernel.outputs)
