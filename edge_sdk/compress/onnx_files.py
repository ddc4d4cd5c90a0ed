"""ONNX model files on the build side: reading with all weights, writing, names for nodes, running for comparison."""

from __future__ import annotations

import contextlib
import graphlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.errors import CompressionError, DamagedModel, MissingExtra
from edge_sdk.tensors import Array

__all__ = [
    "attribute",
    "differences",
    "initializers",
    "inner_graphs",
    "load",
    "name_nodes",
    "needed",
    "opset",
    "quiet",
    "read_by",
    "run_samples",
    "save",
    "session",
    "sort_nodes",
    "tapped",
]

_LARGEST_SINGLE_FILE = 1 << 30
"""Beyond this many bytes weights go to a file of their own: protobuf ends at 2 GiB."""
MIN_IR_VERSION = 8
"""Older IR versions demand initialisers among the graph inputs, which keeps engines from folding them."""


def needed(module: str, extra: str = "build") -> Any:
    """Imports what only building needs.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise MissingExtra(
            f"making variants needs the package {package} ({error}); install it with pip install 'edge-sdk[{extra}]'"
        ) from None


def load(path: Path) -> Any:
    """A `ModelProto` with all its weights in memory; initialisers are no inputs, and all nodes have names of their own.

    Raises:
        MissingExtra: `onnx` is not installed.
        DamagedModel: the file or an external file of it cannot be read.
    """
    onnx = needed("onnx")
    undecodable = needed("google.protobuf.message").DecodeError

    try:
        model = onnx.load(str(path))
    except (undecodable, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise DamagedModel(f"{path.name}: cannot be read as ONNX: {_one_line(error)}; export it again") from None
    given = {weight.name for weight in model.graph.initializer}
    kept = [entry for entry in model.graph.input if entry.name not in given]
    if len(kept) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, MIN_IR_VERSION)
    name_nodes(model)
    return model


def save(model: Any, path: Path) -> None:
    """Writes a model; one that is too large for a single file gets `NAME.data` beside it.

    Raises:
        CompressionError: it could not be written.
    """
    onnx = needed("onnx")
    large = sum(len(weight.raw_data) for weight in model.graph.initializer) > _LARGEST_SINGLE_FILE
    try:
        path.unlink(missing_ok=True)
        if large:
            onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
        else:
            onnx.save_model(model, str(path))
    except (OSError, ValueError) as error:
        raise CompressionError(f"{path}: the variant could not be written: {_one_line(error)}") from None


def name_nodes(model: Any) -> None:
    """Gives every node of the main graph a name of its own: quantizers tell nodes by name, and some exporters leave
    it out."""
    taken: set[str] = set()
    for node in model.graph.node:
        base = node.name or f"{node.op_type}_{node.output[0] if node.output else ''}"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        node.name = name


def initializers(model: Any) -> dict[str, Any]:
    """The main graph's weights by name, as `TensorProto`."""
    return {weight.name: weight for weight in model.graph.initializer}


def attribute(node: Any, name: str, default: Any) -> Any:
    """Value of a node's attribute."""
    onnx = needed("onnx")
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def opset(model: Any) -> int:
    """Version of the default operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def inner_graphs(model: Any) -> Iterator[Any]:
    """The graphs inside control flow of the main graph, at any depth."""
    waiting = list(model.graph.node)
    while waiting:
        for entry in waiting.pop().attribute:
            for graph in [*([entry.g] if entry.HasField("g") else []), *entry.graphs]:
                yield graph
                waiting.extend(graph.node)


def sort_nodes(graph: Any) -> None:
    """Puts the nodes of a graph, and of the graphs inside it, in an order in which they can run."""
    for node in graph.node:
        for entry in node.attribute:
            for inner in [*([entry.g] if entry.HasField("g") else []), *entry.graphs]:
                sort_nodes(inner)
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    needs = [{makers[name] for name in read_by(node) if name in makers} for node in graph.node]
    order = list(graphlib.TopologicalSorter(dict(enumerate(needs))).static_order())
    nodes = [type(graph.node[place]).FromString(graph.node[place].SerializeToString()) for place in order]
    del graph.node[:]
    graph.node.extend(nodes)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what the quantizers print and say to the root logger from the user's terminal; errors come as
    exceptions."""
    root = logging.getLogger()

    def not_theirs(record: logging.LogRecord) -> bool:
        return record.name != "root" or record.levelno >= logging.ERROR

    root.addFilter(not_theirs)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(not_theirs)


def session(model: Any, *, optimise: bool = True) -> Any:
    """An ONNX Runtime session on the CPU over a `ModelProto` or a path. Its workers do not spin.

    Raises:
        CompressionError: the engine refuses the model.
    """
    ort = needed("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the engine raises its own classes for each kind of refusal
        raise CompressionError(f"onnxruntime refuses the model: {_one_line(error)}") from None


def run_samples(
    model: Any, feeds: Iterable[Mapping[str, Array]], *, optimise: bool = True
) -> Iterator[dict[str, Array]]:
    """Answers of a model (`ModelProto` or path) to samples, one after the other.

    Raises:
        CompressionError: the engine refuses the model or fails on a sample.
    """
    running = session(model, optimise=optimise)
    names = [output.name for output in running.get_outputs()]
    wanted = {entry.name for entry in running.get_inputs()}
    for number, feed in enumerate(feeds):
        try:
            answers = running.run(names, {name: value for name, value in feed.items() if name in wanted})
        except Exception as error:  # noqa: BLE001 - as above
            raise CompressionError(f"onnxruntime fails on sample {number}: {_one_line(error)}") from None
        yield dict(zip(names, answers, strict=True))


def tapped(model: Any, names: Sequence[str]) -> Any:
    """A copy of the model that gives these inner tensors, and runs no more than they need."""
    onnx = needed("onnx")
    makers = {output: node for node in model.graph.node for output in node.output}
    wanted, waiting = set(), [makers[name] for name in names if name in makers]
    while waiting:
        node = waiting.pop()
        if node.name in wanted:
            continue
        wanted.add(node.name)
        waiting.extend(makers[name] for name in read_by(node) if name in makers)
    nodes = [node for node in model.graph.node if node.name in wanted]
    read = {name for node in nodes for name in read_by(node)} | set(names)
    graph = onnx.helper.make_graph(
        nodes,
        model.graph.name or "part",
        [entry for entry in model.graph.input if entry.name in read],
        [onnx.ValueInfoProto(name=name) for name in names],
        [weight for weight in model.graph.initializer if weight.name in read],
    )
    part = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )
    return part


def read_by(node: Any) -> list[str]:
    """What a node reads, the outer tensors its inner graphs use among them."""
    names = [name for name in node.input if name]
    for entry in node.attribute:
        for graph in [*([entry.g] if entry.HasField("g") else []), *entry.graphs]:
            names.extend(name for inner in graph.node for name in read_by(inner))
            names.extend(output.name for output in graph.output)
    return names


def differences(first: Mapping[str, Array], second: Mapping[str, Array]) -> float:
    """Largest |difference| of any output over the largest |value| of that output in `first`; infinite where shapes,
    dtypes or the places of NaN and infinity differ, or whole numbers are not equal."""
    worst = 0.0
    for name, one in first.items():
        other = second.get(name)
        one = np.asarray(one)
        if other is None or np.shape(other) != one.shape or np.asarray(other).dtype != one.dtype:
            return float("inf")
        other = np.asarray(other)
        if one.dtype.kind != "f":
            if not np.array_equal(one, other):
                return float("inf")
            continue
        finite = np.isfinite(one)
        if not np.array_equal(finite, np.isfinite(other)):
            return float("inf")
        if finite.any():
            values = one[finite].astype(np.float64)
            largest = max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny))
            worst = max(worst, float(np.abs(values - other[finite]).max()) / largest)
    return worst


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
