"""What ONNX Runtime says when it fails, told as one of our errors in one line."""

from __future__ import annotations

import re

from edge_sdk.errors import (
    DamagedModel,
    EdgeError,
    EngineError,
    InputError,
    InputShapeError,
    InputTypeError,
    ModelError,
    OutOfMemory,
    UnsupportedOp,
    UnsupportedVersion,
)

__all__ = ["load_error", "run_error"]

_STATUS = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_SOURCE = re.compile(r"\S*/onnxruntime/\S+:\d+ .*?\) (?=[A-Z])")
_OP_UNKNOWN = re.compile(r"No Op registered for (\S+) with domain_version of (\d+)")
_OP_UNREGISTERED = re.compile(r"(?:Fatal error: )?(\S+):(\w+)\(-?\d+\) is not a registered function/op")
_NO_KERNEL = re.compile(r"Could not find an implementation for (\w+)\((\d+)\) node with name '([^']*)'")
_IR_VERSION = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_NO_MEMORY = re.compile(r"bad_alloc|Failed to allocate memory|BFCArena|out of memory", re.IGNORECASE)
_OPSET = re.compile(
    r"Opset (\d+) is under development.*?Current official support for domain (\S+) is till opset (\d+)", re.S
)


def load_error(error: Exception, model: str, version: str) -> EdgeError:
    """Tells why `model` could not be loaded by ONNX Runtime `version`."""
    text = _one_line(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return _out_of_memory(model, text)
    if found := _IR_VERSION.search(text):
        return UnsupportedVersion(
            f"{model}: has IR version {found[1]}, onnxruntime {version} knows up to {found[2]};"
            " install a newer onnxruntime or export with an older onnx"
        )
    if found := _OPSET.search(text):
        domain = found[2].strip("'\"") or "ai.onnx"
        return UnsupportedVersion(
            f"{model}: uses opset {found[1]} of {domain}, onnxruntime {version} knows up to {found[3]};"
            " install a newer onnxruntime or export with an older opset"
        )
    if found := _OP_UNKNOWN.search(text):
        return _unsupported(model, found[1], version, f" in opset {found[2]}")
    if found := _OP_UNREGISTERED.search(text):
        return _unsupported(model, f"{found[1]}.{found[2]}", version, "")
    if found := _NO_KERNEL.search(text):
        where = f" (node {found[3]!r})" if found[3] else ""
        return UnsupportedOp(
            f"{model}: op {found[1]} of opset {found[2]}{where} has no kernel for its types in onnxruntime {version};"
            " export it with other types or ops",
            (found[1],),
        )
    if "INVALID_PROTOBUF" in str(error) or "Protobuf parsing failed" in text:
        return DamagedModel(f"{model}: onnxruntime {version} cannot parse it: {text}; export or copy the file again")
    return ModelError(f"{model}: onnxruntime {version} refuses it: {text}")


def _unsupported(model: str, op: str, version: str, detail: str) -> UnsupportedOp:
    return UnsupportedOp(
        f"{model}: op {op} is not known to onnxruntime {version}{detail};"
        " export it with standard ops or load its library with custom_ops",
        (op,),
    )


def run_error(error: Exception, model: str) -> EdgeError:
    """Tells why a request failed."""
    text = _one_line(error)
    status = str(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return _out_of_memory(model, text)
    if "INVALID_ARGUMENT" in status or isinstance(error, (ValueError, TypeError)):
        if "data type" in text or "type" in text.lower().split(":", 1)[0]:
            return InputTypeError(f"{model}: {text}")
        if "dimension" in text or "rank" in text or "shape" in text:
            return InputShapeError(f"{model}: {text}")
        return InputError(f"{model}: {text}")
    return EngineError(f"{model}: onnxruntime failed: {text}")


def _out_of_memory(model: str, text: str) -> OutOfMemory:
    return OutOfMemory(
        f"{model}: onnxruntime was refused memory: {text}; free some, feed a smaller input or take a smaller variant"
    )


def _one_line(error: Exception) -> str:
    text = _STATUS.sub("", str(error))
    text = _SOURCE.sub("", text)
    return " ".join(text.split()) or type(error).__name__
