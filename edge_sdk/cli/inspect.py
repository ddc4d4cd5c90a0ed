"""`edge-sdk inspect`: what a model file holds, read without any engine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.inspect_ops import graph_record, graph_text, named_sizes
from edge_sdk.cli.plain import plain

if TYPE_CHECKING:
    from edge_sdk.formats import ModelFile, ModelInfo
    from edge_sdk.graph import Graph
    from edge_sdk.tensors import TensorSpec

__all__ = ["add_parser", "run"]

_NAMES_SHOWN = 6


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb and its options."""
    summary = "show what a model file holds: inputs, outputs, precision, size, opset, ops"
    parser = verbs.add_parser("inspect", help=summary, description=summary.capitalize() + ".")
    parser.add_argument("model", metavar="MODEL", help="an ONNX or TFLite file, or a bundle NAME.edge")
    parser.add_argument("--ops", action="store_true", help="what each op costs: MACs, weights, bytes, precision")
    parser.add_argument(
        "--sizes",
        metavar="NAME=N,…",
        type=named_sizes,
        default={},
        help="with --ops: sizes of open dimensions, by name or input[axis]",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from edge_sdk import bundle
    from edge_sdk.formats import open_model

    if bundle.is_bundle(arguments.model):
        from edge_sdk.cli.inspect_bundle import show_bundle

        show_bundle(arguments.model, arguments.json)
        return 0
    with open_model(arguments.model) as model:
        info = model.describe()
        model.check()
        graph = _graph(model, arguments.sizes) if arguments.ops else None
        if arguments.json:
            record = _as_record(arguments.model, model, info)
            print(json.dumps(record if graph is None else record | {"graph": graph_record(graph)}))
        else:
            print(_as_text(model, info))
            if graph is not None:
                print(f"\n{graph_text(graph)}")
    return 0


def _graph(model: ModelFile, sizes: dict[str, int]) -> Graph:
    from edge_sdk.graph import open_graph

    return open_graph(model, sizes)


def _as_record(path: str, model: ModelFile, info: ModelInfo) -> dict[str, Any]:
    return {
        "model": path,
        "format": info.format,
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "ir_version": info.ir_version,
        "opset": dict(info.opset),
        "producer": info.producer,
        "precision": info.precision,
        "precision_reason": info.precision_reason,
        "parameters": info.parameters,
        "parameter_bytes": info.parameter_bytes,
        "inputs": [_spec_record(spec) for spec in info.inputs],
        "outputs": [_spec_record(spec) for spec in info.outputs],
        "ops": dict(sorted(info.ops.items(), key=lambda item: (-item[1], item[0]))),
        "custom_ops": list(info.custom_ops),
        "initializer_inputs": list(info.initializer_inputs),
        "external_files": list(info.external_files),
        "signatures": [
            {"key": s.key, "subgraph": s.subgraph, "inputs": dict(s.inputs), "outputs": dict(s.outputs)}
            for s in info.signatures
        ],
        "subgraphs": info.subgraphs,
        "metadata": dict(info.metadata),
    }


def _spec_record(spec: TensorSpec) -> dict[str, Any]:
    quantization = None
    if spec.quantization is not None:
        quantization = {
            "scales": list(spec.quantization.scales),
            "zero_points": list(spec.quantization.zero_points),
            "axis": spec.quantization.axis,
        }
    shape = None if spec.shape is None else list(spec.shape)
    return {"name": spec.name, "dtype": spec.dtype, "shape": shape, "kind": spec.kind, "quantization": quantization}


def _as_text(model: ModelFile, info: ModelInfo) -> str:
    """Label and value, one below the other; what a model does not have is left out."""
    defaults = set(info.initializer_inputs)
    version = f"IR {info.ir_version}" if info.format == "onnx" else f"schema {info.ir_version}"
    opset = ", ".join(f"{plain(domain)} {number}" for domain, number in info.opset.items())
    ops = sorted(info.ops.items(), key=lambda item: (-item[1], item[0]))
    rows = [
        ("model", [f"{plain(model.name)}, {info.format} ({version}), {_bytes(model.size_bytes)}"]),
        ("producer", [plain(info.producer)] if info.producer else []),
        ("opset", [opset] if opset else []),
        (
            "precision",
            [f"{info.precision} ({plain(info.precision_reason)})" if info.precision_reason else info.precision],
        ),
        ("parameters", [f"{info.parameters:,} in {_bytes(info.parameter_bytes)}"]),
        ("inputs", [_spec_text(spec) for spec in info.inputs if spec.name not in defaults]),
        ("outputs", [_spec_text(spec) for spec in info.outputs]),
        ("ops", [f"{sum(info.ops.values())}: " + ", ".join(f"{plain(op)} {count}" for op, count in ops)]),
        ("custom ops", [_some(info.custom_ops)] if info.custom_ops else []),
        ("initialisers", [_initialisers(info)] if info.initializer_inputs else []),
        ("beside it", [_some(info.external_files)] if info.external_files else []),
        ("metadata", [f"{plain(key)}: {plain(value)[:100]}" for key, value in info.metadata.items()]),
    ]
    lines = []
    for title, values in rows:
        lines += [f"{title if index == 0 else '':<13}{value}" for index, value in enumerate(values)]
    return "\n".join(lines)


def _initialisers(info: ModelInfo) -> str:
    count = len(info.initializer_inputs)
    return f"{count} are listed as inputs, which makes the model slow; loading takes them out"


def _spec_text(spec: TensorSpec) -> str:
    text = f"{plain(spec.name)}  {plain(spec.describe())}"
    if spec.kind != "tensor":
        text += f" ({spec.kind})"
    if spec.quantization is not None:
        scales, zeros = spec.quantization.scales, spec.quantization.zero_points
        text += f"  scale {scales[0]:.6g}, zero point {zeros[0]}" if len(scales) == 1 else f"  {len(scales)} scales"
    return text


def _some(names: Iterable[str]) -> str:
    every = [plain(name) for name in names]
    rest = len(every) - _NAMES_SHOWN
    return ", ".join(every[:_NAMES_SHOWN]) + (f", … and {rest} more" if rest > 0 else "")


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1e3:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.2f} MB"
