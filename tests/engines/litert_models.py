"""TFLite models for what only an engine can show: control flow, variables, strings, sizes known after the run only."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.models import TfliteBuilder

_Op = schema.BuiltinOperator
_Options = schema.BuiltinOptions


def add(b: TfliteBuilder, inputs: list[int], output: int, version: int = 1) -> None:
    """Adds an ADD."""
    b.op(_Op.ADD, inputs, [output], schema.AddOptionsT(), _Options.AddOptions, version=version)


def texts() -> bytes:
    """flat = texts in one row; string[1, 1] with both dimensions open, to string[?]."""
    b = TfliteBuilder()
    given = b.tensor("texts", [1, 1], "string", signature=[-1, -1])
    shape = b.tensor("shape", [1], "int32", data=[-1])
    flat = b.tensor("flat", [1], "string", signature=[-1])
    b.op(_Op.RESHAPE, [given, shape], [flat], schema.ReshapeOptionsT(), _Options.ReshapeOptions)
    b.graph.inputs, b.graph.outputs = [given], [flat]
    return b.bytes()


def places() -> bytes:
    """Indices of what is true: mask bool[4] to int64[?, 1], as many rows as are true."""
    b = TfliteBuilder()
    mask, found = b.tensor("mask", [4], "bool"), b.tensor("found", [1, 1], "int64", signature=[-1, 1])
    b.op(_Op.WHERE, [mask], [found], schema.WhereOptionsT(), _Options.WhereOptions)
    b.graph.inputs, b.graph.outputs = [mask], [found]
    return b.bytes()


def loop() -> bytes:
    """total = sum of 0 … n - 1 by a WHILE; n int32[]."""
    b = TfliteBuilder()
    n, zero = b.tensor("n", [], "int32"), b.tensor("zero", [], "int32", data=0)
    names = ("count", "total", "limit")
    outs = [b.tensor(name, [], "int32") for name in names]
    b.graph.inputs, b.graph.outputs = [n], [outs[1]]
    main = b.graph
    b.begin("condition")
    i, total, limit = (b.tensor(name, [], "int32") for name in names)
    more = b.tensor("more", [], "bool")
    b.op(_Op.LESS, [i, limit], [more], schema.LessOptionsT(), _Options.LessOptions)
    b.graph.inputs, b.graph.outputs = [i, total, limit], [more]
    b.begin("body")
    i, total, limit = (b.tensor(name, [], "int32") for name in names)
    one = b.tensor("one", [], "int32", data=1)
    following, higher = b.tensor("following", [], "int32"), b.tensor("higher", [], "int32")
    add(b, [i, one], following)
    add(b, [total, i], higher)
    b.graph.inputs, b.graph.outputs = [i, total, limit], [following, higher, limit]
    b.graph = main
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    b.op(_Op.WHILE, [zero, zero, n], outs, options, _Options.WhileOptions)
    return b.bytes()


def counter() -> bytes:
    """total = all x so far, kept in a resource variable; x float32[1], total float32[1]."""
    b = TfliteBuilder()
    x, now, total = (b.tensor(name, [1]) for name in ("x", "now", "total"))
    handle = b.tensor("handle", [], "int32")
    b.graph.tensors[handle].type = schema.TensorType.RESOURCE
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 1
    b.op(_Op.CALL_ONCE, [], [], once, _Options.CallOnceOptions)
    _variable(b, handle)
    b.op(_Op.READ_VARIABLE, [handle], [now], schema.ReadVariableOptionsT(), _Options.ReadVariableOptions)
    add(b, [now, x], total)
    b.op(_Op.ASSIGN_VARIABLE, [handle, total], [], schema.AssignVariableOptionsT(), _Options.AssignVariableOptions)
    b.graph.inputs, b.graph.outputs = [x], [total]
    b.begin("start")
    handle = b.tensor("handle", [], "int32")
    b.graph.tensors[handle].type = schema.TensorType.RESOURCE
    zero = b.tensor("zero", [1], data=[0.0])
    _variable(b, handle)
    b.op(_Op.ASSIGN_VARIABLE, [handle, zero], [], schema.AssignVariableOptionsT(), _Options.AssignVariableOptions)
    return b.bytes()


def _variable(b: TfliteBuilder, handle: int) -> None:
    options = schema.VarHandleOptionsT()
    options.container, options.sharedName = "", "total"
    b.op(_Op.VAR_HANDLE, [], [handle], options, _Options.VarHandleOptions)


def halves() -> bytes:
    """twice = 2 · half, big = -1 · long, inverted = not flag; float16[2], int64[2] and bool[2]."""
    b = TfliteBuilder()
    half, long, flag = b.tensor("half", [2], "float16"), b.tensor("long", [2], "int64"), b.tensor("flag", [2], "bool")
    wide, wider = b.tensor("wide", [2]), b.tensor("wider", [2])
    twice, negative = b.tensor("twice", [2], "float16"), b.tensor("negative", [2], "int64")
    inverted = b.tensor("inverted", [2], "bool")
    minus = b.tensor("minus", [1], "int64", data=[-1])
    types = schema.TensorType
    b.op(_Op.CAST, [half], [wide], _cast(types.FLOAT16, types.FLOAT32), _Options.CastOptions)
    add(b, [wide, wide], wider)
    b.op(_Op.CAST, [wider], [twice], _cast(types.FLOAT32, types.FLOAT16), _Options.CastOptions)
    b.op(_Op.MUL, [long, minus], [negative], schema.MulOptionsT(), _Options.MulOptions)
    b.op(_Op.LOGICAL_NOT, [flag], [inverted], schema.LogicalNotOptionsT(), _Options.LogicalNotOptions)
    b.graph.inputs, b.graph.outputs = [half, long, flag], [twice, negative, inverted]
    return b.bytes()


def _cast(source: int, target: int) -> Any:
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = source, target
    return options


def picked() -> bytes:
    """picked = row `index` of a table; index int32[1], out of range fails while running."""
    b = TfliteBuilder()
    table = b.tensor("table", [3, 2], data=np.arange(6).reshape(3, 2))
    index, row = b.tensor("index", [1], "int32"), b.tensor("picked", [1, 2])
    b.op(_Op.GATHER, [table, index], [row], schema.GatherOptionsT(), _Options.GatherOptions)
    b.graph.inputs, b.graph.outputs = [index], [row]
    return b.bytes()


def open_sizes() -> bytes:
    """y = x · W; x float32[?, ?] of which the file does not say that the second must be 3, y float32[?, 2]."""
    b = TfliteBuilder()
    x, y = b.tensor("x", [1, 1], signature=[-1, -1]), b.tensor("y", [1, 2], signature=[-1, 2])
    weights = b.tensor("weights", [2, 3], data=np.arange(6).reshape(2, 3))
    options = schema.FullyConnectedOptionsT()
    b.op(_Op.FULLY_CONNECTED, [x, weights, -1], [y], options, _Options.FullyConnectedOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def same_names() -> bytes:
    """Two outputs that are both called "y": x + x and x + 1; float32[2]."""
    b = TfliteBuilder()
    x, one = b.tensor("x", [2]), b.tensor("one", [1], data=[1.0])
    first, second = b.tensor("y", [2]), b.tensor("y", [2])
    add(b, [x, x], first)
    add(b, [x, one], second)
    b.graph.inputs, b.graph.outputs = [x], [first, second]
    return b.bytes()


def swapped_signature() -> bytes:
    """one = a + a, two = b · b with a signature that lists both sides in the other order; float32[2]."""
    b = TfliteBuilder()
    left, right, total, product = (b.tensor(name, [2]) for name in ("t0", "t1", "t2", "t3"))
    add(b, [left, left], total)
    b.op(_Op.MUL, [right, right], [product], schema.MulOptionsT(), _Options.MulOptions)
    b.graph.inputs, b.graph.outputs = [left, right], [total, product]
    b.signature("main", {"b": right, "a": left}, {"two": product, "one": total})
    return b.bytes()


def newer_op() -> bytes:
    """Holds ADD in a version that no engine has."""
    b = TfliteBuilder()
    x, y = b.tensor("x", [2]), b.tensor("y", [2])
    add(b, [x, x], y, version=99)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()


def impossible() -> bytes:
    """Adds float32[2] to float32[3]: the file holds together, the graph cannot be laid out."""
    b = TfliteBuilder()
    left, right, y = b.tensor("left", [2]), b.tensor("right", [3]), b.tensor("y", [3])
    add(b, [left, right], y)
    b.graph.inputs, b.graph.outputs = [left, right], [y]
    return b.bytes()


def memory() -> bytes:
    """y = x of this call and of the one before, by an SVDF that keeps them in a variable tensor; float32[1, 1]."""
    b = TfliteBuilder()
    x, y = b.tensor("x", [1, 1]), b.tensor("y", [1, 1])
    features, times = b.tensor("features", [1, 1], data=[[1.0]]), b.tensor("times", [1, 2], data=[[1.0, 1.0]])
    state = b.tensor("state", [1, 2], variable=True)
    options = schema.SVDFOptionsT()
    options.rank = 1
    b.op(_Op.SVDF, [x, features, times, -1, state], [y], options, _Options.SVDFOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    return b.bytes()
