"""A variant of a bundle as a whole and in two parts, fed and read as the bundle's signature has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk import signature as signatures
from edge_sdk.engines.base import LoadOptions, PlacementReport, Runner
from edge_sdk.engines.mapped import mapped
from edge_sdk.engines.registry import engines_for
from edge_sdk.errors import EdgeError
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.codec import CODECS, Range, scaled_as
from edge_sdk.graph.codec_ranges import RangeWatch
from edge_sdk.graph.cuts import cut_at
from edge_sdk.graph.flow import Cut, input_cut
from edge_sdk.graph.splitting import Split, split_model
from edge_sdk.measuring.comparing import median_ms
from edge_sdk.tensors import Array, dequantize, quantize

if TYPE_CHECKING:
    from edge_sdk.bundle import Cut as KeptCut

__all__ = ["Parts", "Ranges", "SplitVariant"]

_OPTIONS = LoadOptions(cache=False, spin=False)
_TIMED_S = 0.3
_Compute = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class _StandIn(Runner):
    """Has a runner's inputs and outputs and computes otherwise, so that a mapping may stand around it."""

    def __init__(self, runner: Runner) -> None:
        self.engine, self.model, self.inputs, self.outputs = runner.engine, runner.model, runner.inputs, runner.outputs
        self.optional_inputs, self.options, self.queue = runner.optional_inputs, runner.options, runner.queue
        self.compute: _Compute = runner.run

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        outputs = dict(self.compute(feeds))
        for name, target in (out or {}).items():
            np.copyto(target, outputs[name])
            outputs[name] = target
        return outputs

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), verified=False)

    def close(self) -> None:
        pass


class SplitVariant:
    """A model file that is run whole, or cut. A context manager: leaving it frees the engine.

    Args:
        file: the variant.
        mapping, like: how its tensors map to a signature; None where they bear the same names.

    Raises:
        ModelError: no engine loads it, or its graph cannot be read.
    """

    def __init__(
        self, file: Path, mapping: signatures.Mapping | None = None, like: signatures.Signature | None = None
    ) -> None:
        with ExitStack() as stack:
            self.model = stack.enter_context(open_model(file))
            self.graph = open_graph(self.model)
            self._engine = engines_for(self.model.format)[0]
            self._whole = self._engine.load(self.model, _OPTIONS)
            stack.callback(self._whole.close)
            self._stand_in = _StandIn(self._whole)
            self._outer: Runner = self._stand_in
            if mapping is not None and like is not None:
                self._outer = mapped(self._stand_in, like, mapping)
            self._stack = stack.pop_all()

    def __enter__(self) -> SplitVariant:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def answer(self, feeds: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
        """Runs the whole.

        Returns:
            The feeds as the variant itself takes them, and its outputs as real numbers by the signature's names.
        """
        kept: dict[str, Any] = {}

        def run(stored: Mapping[str, Any]) -> Mapping[str, Any]:
            # A mapping lends its buffers; what goes through as it is belongs to the data.
            kept.update({n: a if self._outer is self._stand_in else np.array(a) for n, a in stored.items()})
            return self._whole.run(stored)

        return kept, self._read(feeds, run)

    def read(self, feeds: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Array]:
        """Outputs of the variant's parts as real numbers by the signature's names."""
        return self._read(feeds, lambda stored: outputs)

    def one_core_s(self, stored: Mapping[str, Any]) -> float:
        """What the whole takes on one core, in seconds: packing never has more, so that this is what it is told in.

        Args:
            stored: feeds as the variant itself takes them.
        """
        with closing(self._engine.load(self.model, replace(_OPTIONS, threads=1))) as runner:
            return median_ms(lambda: runner.run(stored), _TIMED_S)[0] / 1e3

    def _read(self, feeds: Mapping[str, Any], compute: _Compute) -> dict[str, Array]:
        self._stand_in.compute = compute
        specs = {spec.name: spec for spec in self._outer.inputs}
        fitting = {}
        for name, value in feeds.items():
            spec = specs.get(name)
            is_real = isinstance(value, np.ndarray) and value.dtype.kind == "f" and spec is not None
            fitting[name] = quantize(value, spec) if is_real and spec is not None and spec.quantization else value
        given, outputs = {spec.name: spec for spec in self._outer.outputs}, self._outer.run(fitting)
        return {name: dequantize(np.asarray(array), given[name]) for name, array in outputs.items() if name in given}

    def at_inputs(self) -> Cut | None:
        """The cut at the inputs; None where there can be none."""
        try:
            return input_cut(self.graph)
        except EdgeError:
            return None

    def found_again(self, cut: KeptCut) -> Cut:
        """A cut that was kept, in this graph.

        Raises:
            ModelError: there is none such.
        """
        return input_cut(self.graph) if cut.head_ops == 0 else cut_at(self.graph, cut.tensors, nearest=False)

    def codecs(self, cut: Cut) -> tuple[str, ...]:
        """Those that differ at a cut: "int16" only at inputs that may be sound, "int8c" where there are channels."""
        sound = cut.is_at_inputs and all(len(self.graph.tensors[name].shape or ()) < 4 for name in cut.tensors)
        floats = any(self.graph.tensors[name].dtype == "float32" for name in cut.tensors)
        found = ["none", *(["fp16"] if floats else [])]
        for codec in CODECS[2:]:
            ways = scaled_as(self.graph, cut, codec)
            by_channel = codec.endswith("c")
            if (
                ways
                and (not by_channel or any(axis is not None for _, axis in ways.values()))
                and (codec != "int16" or sound)
            ):
                found.append(codec)
        return tuple(found)

    def parts(self, cut: Cut, codec: str = "none", ranges: Ranges | None = None) -> Parts:
        """Head and tail, loaded.

        Raises:
            ModelError: the variant cannot be cut so.
        """
        found = {} if ranges is None else ranges.found()
        split = split_model(self.model, cut, codec=codec, ranges=found, graph=self.graph)
        with ExitStack() as stack:
            runs = []
            for content in (split.head, split.tail):
                if content:
                    runner = self._engine.load(open_model(content, name=self.model.name), _OPTIONS)
                    stack.callback(runner.close)
                    runs.append(runner)
            head = runs[0] if split.head else None
            return Parts(split, head, runs[-1], stack.pop_all())

    def ranges(self, cut: Cut, codec: str) -> Ranges:
        """What finds the ranges that a codec needs, once it was shown what travels."""
        return Ranges(self, cut, codec)


class Ranges:
    """Watches what travels at a cut without a codec."""

    def __init__(self, variant: SplitVariant, cut: Cut, codec: str) -> None:
        self._watches = {name: RangeWatch(*way) for name, way in scaled_as(variant.graph, cut, codec).items()}

    def add(self, split: Split, sent: Mapping[str, Any]) -> None:
        """Counts one request."""
        for one, name in zip(split.coded, split.sent, strict=True):
            if one.name in self._watches:
                self._watches[one.name].add(np.asarray(sent[name]))

    def found(self) -> dict[str, Range | tuple[Range, ...]]:
        """By tensor."""
        ranges = {name: watch.range() for name, watch in self._watches.items()}
        return {name: one for name, one in ranges.items() if one is not None}


class Parts:
    """A loaded head, where there is one, and a loaded tail. A context manager."""

    def __init__(self, split: Split, head: Runner | None, tail: Runner, stack: ExitStack) -> None:
        self.split = split
        self._head, self._tail, self._stack = head, tail, stack
        self._takes = frozenset() if head is None else frozenset(spec.name for spec in head.inputs)

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def head(self, stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What travels for one request, and the outputs that stay."""
        given: Mapping[str, Any] = {}
        if self._head is not None:
            given = self._head.run({name: array for name, array in stored.items() if name in self._takes})
        sent = {name: given[name] if name in given else stored[name] for name in self.split.sent}
        return sent, {name: array for name, array in given.items() if name in self.split.head_outputs}

    def tail(self, sent: Mapping[str, Any]) -> dict[str, Any]:
        """The tail's outputs."""
        return self._tail.run(sent)
