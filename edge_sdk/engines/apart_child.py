"""The process that runs an accelerator for another one, so that a crash or hang of its driver ends this one alone."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import socket
import sys
from typing import Any

import msgspec
import numpy as np

from edge_sdk.engines.apart_messages import (
    MOST_BYTES,
    Answer,
    Compute,
    Failure,
    FromChild,
    Loaded,
    Task,
    ToChild,
)
from edge_sdk.engines.base import Runner
from edge_sdk.engines.shared_tensors import SharedTensors
from edge_sdk.errors import AcceleratorError, InputError, OutOfMemory

__all__ = ["main"]


def main() -> None:
    """Loads the model of the task in `argv[1]`, answers until the parent hangs up, and leaves without clean-up, which
    drivers hang in as well."""
    task = msgspec.json.decode(sys.argv[1], type=Task)
    _end_with_parent(task.lifeline)
    _speak_into(task.words)
    control = socket.socket(fileno=task.control)
    try:
        runner = _load(task)
        _send(control, _loaded(runner))
    except Exception as error:  # noqa: BLE001 - whatever an engine or driver raises is told
        _send(control, _failure(error))
        os._exit(0)
    serve(runner, control, SharedTensors(task.tensors))
    os._exit(0)


def serve(runner: Runner, control: socket.socket, tensors: SharedTensors) -> None:
    """Answers one message after the other until the parent hangs up."""
    decoder = msgspec.msgpack.Decoder(ToChild)
    while message := control.recv(MOST_BYTES):
        said = decoder.decode(message)
        try:
            answer = _computed(runner, said, tensors) if isinstance(said, Compute) else _loaded(runner)
        except Exception as error:  # noqa: BLE001 - whatever an engine or driver raises is told
            answer = _failure(error)
        _send(control, answer)


def _load(task: Task) -> Runner:
    from edge_sdk.engines.registry import find_engine
    from edge_sdk.formats import open_model

    content: Any = task.path
    if content is None:
        with mmap.mmap(task.content, 0, access=mmap.ACCESS_READ) as mapped:
            content = bytes(mapped)
        os.close(task.content)
    return find_engine(task.engine).load(open_model(content, name=task.name), task.options)


def _computed(runner: Runner, said: Compute, tensors: SharedTensors) -> FromChild:
    outputs = runner.run(dict(tensors.arrays(said.tensors)))
    carried = [(name, np.asarray(array)) for name, array in outputs.items()]
    odd = [name for name, array in carried if array.dtype.kind not in "biufc"]
    if odd:
        raise AcceleratorError(f"output {odd[0]!r} is no tensor of numbers, which is all that processes share")
    places, _ = tensors.lay(carried, said.answer_at)
    return Answer(places)


def _loaded(runner: Runner) -> Loaded:
    optional = tuple(sorted(runner.optional_inputs))
    return Loaded(runner.inputs, runner.outputs, optional, runner.notes, runner.placement())


def _failure(error: Exception) -> Failure:
    kinds = ((InputError, "input"), (OutOfMemory, "memory"), (MemoryError, "memory"), (AcceleratorError, "accelerator"))
    kind = next((kind for of, kind in kinds if isinstance(error, of)), "engine")
    return Failure(kind, " ".join(str(error).split())[:2000] or type(error).__name__)


def _send(control: socket.socket, message: FromChild) -> None:
    control.send(msgspec.msgpack.encode(message))


def _end_with_parent(lifeline: int) -> None:
    """The kernel ends this process when the parent's end of the pipe closes, also while native code hangs.

    The signal that Linux sends when a parent dies would not do: it comes when the thread ends that started the child.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the parent to see
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        gone = os.read(lifeline, 1) == b""
    except BlockingIOError:
        gone = False
    if gone:
        os._exit(0)


def _speak_into(words: int) -> None:
    """What the driver prints goes to the parent, for the message after a crash; where nobody reads it, it is lost."""
    import resource

    fcntl.fcntl(words, fcntl.F_SETFL, fcntl.fcntl(words, fcntl.F_GETFL) | os.O_NONBLOCK)
    os.dup2(words, 1)
    os.dup2(words, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
