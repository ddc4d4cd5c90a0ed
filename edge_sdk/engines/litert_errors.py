"""What LiteRT says when it fails, told as one of our errors in one line."""

from __future__ import annotations

import re

from edge_sdk.errors import (
    DamagedModel,
    EdgeError,
    EngineError,
    InputShapeError,
    InputTypeError,
    ModelError,
    UnsupportedOp,
    UnsupportedVersion,
)

__all__ = ["feed_error", "load_error", "one_line", "run_error", "shape_error"]

_CUSTOM_OP = re.compile(r"unresolved custom op: (.+?)\.(?:\s|$)")
_OP_VERSION = re.compile(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'")
_OPCODE_RANGE = re.compile(r"Op builtin_code out of range: (\d+)")
_SCHEMA = re.compile(r"Model provided is schema version (\d+) not equal to supported version (\d+)")
_SELECT_OPS = re.compile(r"Select TensorFlow op\(s\)")
_FLEX_NODE = re.compile(r"\((Flex\w+)\) failed to prepare")
_NOT_A_MODEL = re.compile(r"not a valid Flatbuffer|could not be opened|Could not open|Mmap of", re.IGNORECASE)
_SOURCE = re.compile(r"(?:\S*/)?\w+/\S+\.(?:cc|h):\d+ ")


def one_line(error: BaseException | str) -> str:
    """The engine's text without line breaks, addresses of help pages and places in its source."""
    text = " ".join(str(error).split())
    text = re.sub(r"See instructions: \S+ ?", "", text)
    # The engine strings its sentences together without a space.
    text = re.sub(r"(?<=[a-z)])(?=Node number \d)", ". ", text)
    text = re.sub(r"(?<=[a-z)])\.(?=[A-Z])", ". ", text)
    text = _SOURCE.sub("", text).strip()
    return text or (type(error).__name__ if isinstance(error, BaseException) else "no reason given")


def load_error(error: BaseException | str, model: str, engine: str) -> EdgeError:
    """Tells why `model` could not be loaded by `engine` ("ai-edge-litert 2.3.0")."""
    text = one_line(error)
    if found := _CUSTOM_OP.search(text):
        return UnsupportedOp(
            f"{model}: op {found[1]} is a custom op that {engine} has not;"
            " load its library with custom_ops, or export the model with builtin ops",
            (found[1],),
        )
    if found := _OP_VERSION.search(text):
        return UnsupportedVersion(
            f"{model}: op {found[1]} is of version {found[2]}, newer than {engine} knows;"
            " install a newer ai-edge-litert, or convert the model with an older converter"
        )
    if found := _OPCODE_RANGE.search(text):
        return UnsupportedVersion(
            f"{model}: holds builtin op number {found[1]}, which {engine} does not know; install a newer ai-edge-litert"
        )
    if found := _SCHEMA.search(text):
        return UnsupportedVersion(f"{model}: has schema version {found[1]}, {engine} knows version {found[2]}")
    if _SELECT_OPS.search(text):
        ops = tuple(dict.fromkeys(_FLEX_NODE.findall(text)))
        named = ", ".join(ops) or "TensorFlow ops"
        return UnsupportedOp(
            f"{model}: {named} run in TensorFlow only, which {engine} does not hold;"
            " convert the model with TFLite builtin ops only",
            ops,
        )
    if _NOT_A_MODEL.search(text):
        return DamagedModel(f"{model}: {engine} cannot read it: {text}; export or copy the file again")
    return ModelError(f"{model}: {engine} refuses it: {text}")


def shape_error(text: str, model: str, shapes: str) -> EdgeError:
    """Tells that the graph cannot be laid out for the shapes that were fed."""
    return InputShapeError(f"{model}: the model cannot run on {shapes}: {one_line(text)}")


def feed_error(error: BaseException, model: str, name: str, expected: str) -> EdgeError:
    """Tells why one input was not taken."""
    text = one_line(error)
    if "imension mismatch" in text:
        return InputShapeError(f"{model}: input {name!r}: {text}; expected {expected}")
    return InputTypeError(f"{model}: input {name!r}: {text}; expected {expected}")


def run_error(error: BaseException | str, model: str, engine: str) -> EdgeError:
    """Tells why a request failed after its inputs were taken."""
    text = one_line(error)
    if found := _CUSTOM_OP.search(text):
        return UnsupportedOp(f"{model}: op {found[1]} is a custom op that {engine} has not", (found[1],))
    return EngineError(f"{model}: {engine} failed: {text}")
