"""`ModelInfo`: what a model file says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_sdk.tensors import TensorSpec

__all__ = ["ModelInfo", "Signature"]


@dataclass(frozen=True, slots=True)
class Signature:
    """A named entry point of a TFLite model.

    Attributes:
        key: its name ("serving_default").
        subgraph: index of the subgraph it runs.
        inputs: the signature's name of each input, and the name of the tensor it stands for.
        outputs: the same of each output.
    """

    key: str
    subgraph: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model file holds, as read from the file without any engine.

    Attributes:
        format: "onnx" or "tflite".
        inputs: what must or may be fed, in the file's order. ONNX: `initializer_inputs` are among them.
        outputs: in the file's order. TFLite inputs and outputs bear the names of the signature where there is exactly
            one, otherwise those of the tensors; the second of two equal names gets "#2" behind it.
        ir_version: ONNX IR version, or the version of the TFLite schema.
        opset: ONNX only: operator set version by domain; the default domain is "ai.onnx".
        producer: name and version of what wrote the file; empty where it does not tell.
        ops: how often each op occurs, subgraphs and model-local functions included. ONNX ops outside the default
            domain carry theirs ("com.microsoft.FusedConv"); TFLite builtin ops are spelled as in the schema
            ("CONV_2D"), custom ops by their own name.
        custom_ops: those of `ops` that the standard does not define: TFLite custom ops, and ONNX ops of a domain other
            than ONNX's own for which the file brings no function.
        parameters: number of weights: elements of all initialisers and constants.
        parameter_bytes: what they take in the file and its external files.
        precision: "float32", "float16", "int8", "int8 (dynamic)", "int8 (weights only)", "int4 (weights only)",
            "mixed float32 + int8", … or "" where there are no weights and no typed input; see `precision_reason`.
        precision_reason: one line that says what `precision` was derived from.
        initializer_inputs: ONNX inputs that are initialisers too: they have a default and need not be fed.
        external_files: files beside the model that hold weights, relative to its folder.
        metadata: the file's own key/value pairs (ONNX) or names and sizes of metadata blocks (TFLite).
        signatures: TFLite entry points.
        subgraphs: number of graphs in the file, the main graph included.
        description: the file's own words about itself.
    """

    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ir_version: int
    opset: Mapping[str, int] = field(default_factory=dict)
    producer: str = ""
    ops: Mapping[str, int] = field(default_factory=dict)
    custom_ops: tuple[str, ...] = ()
    parameters: int = 0
    parameter_bytes: int = 0
    precision: str = ""
    precision_reason: str = ""
    initializer_inputs: tuple[str, ...] = ()
    external_files: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    signatures: tuple[Signature, ...] = ()
    subgraphs: int = 1
    description: str = ""
