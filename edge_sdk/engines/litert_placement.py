"""Where an interpreter computes: its worker threads by a mark that they inherit, its nodes as the engine lists them."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edge_sdk.engines.base import NodePlacement

__all__ = ["WorkerMark", "delegated_nodes", "node_label", "node_places"]

_TASKS = "/proc/self/task"
_DELEGATE = "DELEGATE"
_numbers = itertools.count(1)


class WorkerMark:
    """Finds the threads that an engine starts for one runner.

    The engine does not tell their ids, but Linux lets a new thread inherit the name of the thread that creates it. So
    the calling thread bears a name of the runner's own while the engine may start workers: whatever bears it afterwards
    is a worker, however many others load or start threads at the same time, and `top -H` shows whose it is.
    """

    def __init__(self) -> None:
        self.name = f"litert-{next(_numbers)}"  # the kernel keeps 15 characters

    @contextmanager
    def marking(self) -> Iterator[None]:
        """Threads started by the calling thread within belong to this runner."""
        own = f"{_TASKS}/{threading.get_native_id()}/comm"
        before = _read(own)
        if before is None or not _write(own, self.name):
            yield
            return
        try:
            yield
        finally:
            _write(own, before)

    def thread_ids(self) -> tuple[int, ...] | None:
        """Ids of the workers that live now; None where the kernel does not tell."""
        try:
            tids = [int(tid) for tid in os.listdir(_TASKS)]
        except OSError:
            return None
        # A Python thread bears the name only while the engine starts workers for it.
        of_python = {thread.native_id for thread in threading.enumerate()}
        return tuple(t for t in sorted(tids) if t not in of_python and _read(f"{_TASKS}/{t}/comm") == self.name)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:  # the thread has ended, or there is no /proc
        return None


def _write(path: str, name: str) -> bool:
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(name)
    except OSError:
        return False
    return True


def node_label(op: dict[str, Any], tensor_names: dict[int, str]) -> str:
    """How a node is called in messages. TFLite nodes have no names, so: the op and its first output's tensor. A fused
    tensor bears the names of all it was made of, joined by ";": the first will do."""
    outputs = [int(index) for index in op["outputs"] if int(index) >= 0]
    name = tensor_names.get(outputs[0], "").split(";")[0] if outputs else ""
    return f"{op['op_name']} -> {name}" if name else f"{op['op_name']} #{op['index']}"


def delegated_nodes(ops: Sequence[dict[str, Any]]) -> dict[int, tuple[int, ...]]:
    """Which nodes each delegate took over.

    The engine keeps the original nodes in its list and appends one node a partition, which has the partition's inputs
    and outputs. What lies between these is what the delegate executes.

    Args:
        ops: what `Interpreter._get_ops_details()` gives.

    Returns:
        Index of a delegate's node to the indexes of the nodes inside it.
    """
    producer = {int(t): op for op in ops if op["op_name"] != _DELEGATE for t in op["outputs"] if int(t) >= 0}
    taken = {}
    for delegate in ops:
        if delegate["op_name"] != _DELEGATE:
            continue
        border = {int(tensor) for tensor in delegate["inputs"]}
        inside: set[int] = set()
        open_tensors = [int(tensor) for tensor in delegate["outputs"]]
        while open_tensors:
            op = producer.get(open_tensors.pop())
            if op is None or op["index"] in inside:
                continue
            inside.add(op["index"])
            open_tensors.extend(t for t in map(int, op["inputs"]) if t >= 0 and t not in border)
        taken[int(delegate["index"])] = tuple(sorted(inside))
    return taken


def node_places(
    ops: Sequence[dict[str, Any]], places: dict[int, str], tensor_names: dict[int, str]
) -> tuple[NodePlacement, ...]:
    """Nodes of the main graph by place, most nodes first.

    Args:
        ops: what `Interpreter._get_ops_details()` gives.
        places: index of a delegate's node to the name of its place.
        tensor_names: index of a tensor to its name, for the nodes' labels.
    """
    where = {node: places[delegate] for delegate, nodes in delegated_nodes(ops).items() for node in nodes}
    names: dict[str, list[str]] = {}
    for op in ops:
        if op["op_name"] != _DELEGATE:
            names.setdefault(where.get(op["index"], "cpu"), []).append(node_label(op, tensor_names))
    ordered = sorted(names.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(NodePlacement(place, len(nodes), tuple(nodes)) for place, nodes in ordered)
