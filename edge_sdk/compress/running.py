"""Running a model file on samples to look at its answers: any engine, real numbers out."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk import signature
from edge_sdk.engines.base import LoadOptions, Runner
from edge_sdk.errors import EdgeError
from edge_sdk.tensors import Array, TensorSpec, dequantize, quantize

__all__ = ["Subject", "isa_name", "logical_signature", "try_first"]


class Subject:
    """A loaded model file whose answers are looked at. A context manager: leaving it frees the engine.

    Args:
        file: the model, or the bytes of one.
        mapping: how its tensors map to those of the source; None where they bear the same names.
        like: signature of the source, where there is a mapping.
        foreign: whether the file comes from elsewhere, so that it is tried in a child process first.
        spin: whether the engine's idle workers may spin; not while another model is measured.

    Attributes:
        engine: name of the engine.
        inputs, outputs: as fed and given here (of the source where there is a mapping).

    Raises:
        ModelError: no engine loads it.
    """

    def __init__(
        self,
        file: Path | bytes,
        mapping: signature.Mapping | None = None,
        like: signature.Signature | None = None,
        *,
        foreign: bool = False,
        spin: bool = True,
    ) -> None:
        from edge_sdk.engines.registry import engines_for
        from edge_sdk.formats import open_model

        if foreign:
            try_first(file)
        with open_model(file) as model:
            model.check()
            runner = engines_for(model.format)[0].load(model, LoadOptions(cache=False, spin=spin))
        if mapping is not None and like is not None:
            from edge_sdk.engines.mapped import mapped

            runner = mapped(runner, like, mapping)
        self._runner: Runner = runner
        self.engine = runner.engine
        self.inputs = tuple(spec for spec in runner.inputs if spec.name not in runner.optional_inputs)
        self.outputs = runner.outputs
        self._quantised = {s.name: s for s in runner.inputs if s.quantization is not None}
        self._specs = {s.name: s for s in runner.outputs}

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stored(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one sample; the outputs as the model stores them. Real numbers for quantised inputs are quantised.

        Raises:
            InputError: the feeds do not fit the model.
            EngineError: it failed.
        """
        fitting = {}
        for name, value in feeds.items():
            spec = self._quantised.get(name)
            is_real = spec is not None and isinstance(value, np.ndarray) and value.dtype.kind == "f"
            fitting[name] = quantize(value, spec) if is_real and spec is not None else value
        return self._runner.run(fitting)

    def answer(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """Runs one sample; the outputs as arrays of real numbers, whatever the model calls them in.

        Raises:
            As `stored`.
        """
        answer: dict[str, Array] = {}
        for name, value in self.stored(feeds).items():
            for key, array in _arrays(name, value):
                spec = self._specs.get(key)
                answer[key] = dequantize(array, spec) if spec is not None else array
        return answer

    def made_up(self) -> dict[str, Any] | None:
        """Random feeds that the model runs on; open sizes grow until it does. None where it runs on none."""
        from edge_sdk.engines.samples import OPEN_SIZES, made_up_feeds

        for size in OPEN_SIZES:
            feeds = made_up_feeds(self.inputs, (), size)
            try:
                self._runner.run(feeds)
            except EdgeError:
                continue
            return feeds
        return None

    def request(self, feeds: Mapping[str, Any]) -> Any:
        """A callable that runs this sample once, for measuring."""
        runner = self._runner
        return lambda: runner.run(feeds)

    def close(self) -> None:
        """Frees the engine."""
        self._runner.close()


def try_first(file: Path | bytes) -> None:
    """Loads and runs a file once in a child process, so that one which crashes an engine does not end this process.

    Raises:
        ModelError: it is damaged, or it crashed.
        EngineNotInstalled: no engine for its format is installed.
    """
    from edge_sdk.engines.registry import engines_for
    from edge_sdk.engines.trial import require_trial
    from edge_sdk.formats import open_model

    with open_model(file) as model:
        model.check()
        engine = engines_for(model.format)[0]
        if engine.native:
            require_trial(model, engine, LoadOptions())


def _arrays(name: str, value: Any) -> list[tuple[str, Array]]:
    """An output as arrays: sequences item by item, maps as the row of their values in the order of their keys."""
    if isinstance(value, np.ndarray):
        return [(name, value)]
    if isinstance(value, Mapping):
        keys = sorted(value, key=str)
        return [(name, np.asarray([value[key] for key in keys]))]
    if isinstance(value, (list, tuple)):
        return [pair for index, item in enumerate(value) for pair in _arrays(f"{name}[{index}]", item)]
    return [(name, np.asarray(value))]


def logical_signature(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> signature.Signature:
    """The signature of a model as its own file has it; layouts told where the shape tells them."""
    return signature.Signature(inputs=tuple(map(_logical, inputs)), outputs=tuple(map(_logical, outputs)))


def _logical(spec: TensorSpec) -> signature.LogicalTensor:
    quantised = spec.quantization if spec.quantization is not None and spec.quantization.axis is None else None
    return signature.LogicalTensor(
        name=spec.name,
        dtype=spec.dtype,
        shape=spec.shape,
        layout=_layout(spec.shape),
        scale=quantised.scales[0] if quantised is not None else None,
        zero_point=quantised.zero_points[0] if quantised is not None else None,
    )


def _layout(shape: tuple[int | str | None, ...] | None) -> str | None:
    """ "NCHW" or "NHWC" of a picture: where the first or the last of three sizes is the count of colours."""
    if shape is None or len(shape) != 4:
        return None
    first, last = shape[1] in (1, 3, 4), shape[3] in (1, 3, 4)
    if first == last:
        return None
    return "NCHW" if first else "NHWC"


@functools.cache
def isa_name() -> str:
    """What this process computes with: "x86_64 avx2 avx512 vnni". int8 kernels saturate on x86 without VNNI, so a
    figure for accuracy means little without it. `isa_name.cache_clear()` forgets it."""
    from edge_sdk.device import probe

    device = probe()
    telling = [name for name in device.isa if name in _TELLING]
    return " ".join((device.arch, *telling))


_TELLING = frozenset(
    ("avx2", "avx512", "vnni", "amx", "neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2", "sme", "sme2")
)
