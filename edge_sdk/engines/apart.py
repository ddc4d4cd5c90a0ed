"""A runner whose model computes in a process of its own: what crashes or hangs there is ended there.

The watchdog is this process, which waits for an answer no longer than told. Tensors lie in memory that both share;
what travels is where they lie.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
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
    WhereAreYou,
)
from edge_sdk.engines.base import Engine, LoadOptions, PlacementReport, Runner
from edge_sdk.engines.guard import Guard
from edge_sdk.engines.litert_interpreter import copy_into
from edge_sdk.engines.shared_tensors import SharedTensors
from edge_sdk.errors import (
    AcceleratorCrashed,
    AcceleratorError,
    AcceleratorHung,
    EdgeError,
    EngineError,
    InputError,
    OutOfMemory,
)
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram
from edge_sdk.tensors import TensorSpec

__all__ = ["ApartRunner", "runs_apart"]

LOAD_S = 120.0
"""Compiling a model for an accelerator may take a minute."""
FIRST_S = 30.0
LEAST_S = 1.0
TIMES_USUAL = 20.0
FORGETS = 0.99
LAST_WORDS = 300
PIPE_BYTES = 65536
_ERRORS = {"input": InputError, "memory": OutOfMemory, "accelerator": AcceleratorError, "engine": EngineError}


def runs_apart(engine: Engine, model: ModelFile, options: LoadOptions) -> bool:
    """Whether an accelerator gets a process of its own: where the guard says so, the engine is found by its name there,
    and all tensors are of numbers."""
    from edge_sdk.engines.registry import engines

    if options.accelerator == "cpu" or not options.guard.apart:
        return False
    info = model.describe()
    plain = all(_of_numbers(spec) for spec in (*info.inputs, *info.outputs))
    possible = bool(sys.executable) and hasattr(os, "memfd_create")
    return possible and plain and engine.native and engines().get(engine.name) is engine


def _of_numbers(spec: TensorSpec) -> bool:
    dtype = spec.numpy_dtype
    return spec.kind == "tensor" and dtype is not None and dtype.kind in "biufc"


class ApartRunner(Runner):
    """See `Runner`. One request computes at a time; others wait in line, which `queue` records.

    After a crash or a hang the process is gone, and every further request fails at once.

    Args:
        engine: found by its name in the child.
        model: path or content is all of it that the child gets.
        options: how the child loads it.
        timeout_s: an answer that takes longer is a hang; see `Guard.timeout_s`.

    Raises:
        AcceleratorError: it did not load there; its subclasses tell of a crash or a hang.
    """

    def __init__(self, engine: Engine, model: ModelFile, options: LoadOptions, timeout_s: float | None = None) -> None:
        self.engine, self.model, self.options = engine.name, model.name, options
        self.queue = Histogram()
        self._accelerator, self._timeout_s = options.accelerator, timeout_s
        self._usual_s: float | None = None
        self._turn = threading.Lock()
        self._over: EngineError | None = None
        self._decoder = msgspec.msgpack.Decoder(FromChild)
        self._child = _Child(engine, model, options)
        loaded = self._exchange(None, LOAD_S, "loading")
        assert isinstance(loaded, Loaded)
        self.inputs, self.outputs, self.notes = loaded.inputs, loaded.outputs, loaded.notes
        self.optional_inputs = frozenset(loaded.optional_inputs)
        self._placement = loaded.placement

    @property
    def process_id(self) -> int:
        """Of the process that computes."""
        return self._child.process.pid

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`.

        Raises:
            AcceleratorHung: there was no answer in time; the process was ended.
            AcceleratorCrashed: the process ended.
        """
        if not self._turn.acquire(blocking=False):
            came_s = time.perf_counter()
            self._turn.acquire()
            self.queue.record((time.perf_counter() - came_s) * 1e3)
        try:
            tensors = self._child.tensors
            places, end = tensors.lay((name, np.asarray(array)) for name, array in feeds.items())
            began_s = time.perf_counter()
            answer = self._exchange(Compute(places, end), self._limit_s(), "running")
            self._usual_s = max(time.perf_counter() - began_s, FORGETS * (self._usual_s or 0.0))
            assert isinstance(answer, Answer)
            if not out:
                return {name: array.copy() for name, array in tensors.arrays(answer.tensors)}
            results = dict(tensors.arrays(answer.tensors))
            copy_into(results, out, self.model)
            return {name: array if name in out else array.copy() for name, array in results.items()}
        finally:
            self._turn.release()

    def _limit_s(self) -> float:
        if self._timeout_s is not None:
            return self._timeout_s
        return FIRST_S if self._usual_s is None else max(LEAST_S, TIMES_USUAL * self._usual_s)

    def _exchange(self, message: ToChild | None, limit_s: float, doing: str) -> FromChild:
        """Says something and hears the answer; whatever ends the process is raised, here and from now on."""
        if self._over is not None:
            raise type(self._over)(str(self._over))
        try:
            answer = self._child.ask(None if message is None else msgspec.msgpack.encode(message), limit_s)
        except TimeoutError:
            self._child.end()
            self._over = AcceleratorHung(self._told(f"{doing} took more than {limit_s:.3g} s"))
        except ConnectionError:
            self._over = AcceleratorCrashed(self._told(f"{doing} {self._child.how_it_ended()}"))
        else:
            said: FromChild = self._decoder.decode(answer)
            if not isinstance(said, Failure):
                return said
            if doing == "loading":
                self._child.end()
            if said.kind in ("accelerator", "input"):
                raise _ERRORS[said.kind](said.message)
            raise _ERRORS[said.kind](self._told(said.message))
        raise self._over

    def _told(self, what: str) -> str:
        return f"{self.model}: accelerator {self._accelerator!r}: {what.removeprefix(f'{self.model}: ')}"

    def placement(self) -> PlacementReport:
        """As the process that computes reads it back; thread ids are those there."""
        with self._turn:
            with suppress(EdgeError):
                loaded = self._exchange(WhereAreYou(), self._limit_s(), "telling where it runs")
                assert isinstance(loaded, Loaded)
                self._placement = loaded.placement
            return self._placement

    def close(self) -> None:
        """Ends the process."""
        with self._turn:
            self._over = self._over or AcceleratorError(self._told("the runner is closed"))
            self._child.end()


class _Child:
    """The process, and what leads to it."""

    def __init__(self, engine: Engine, model: ModelFile, options: LoadOptions) -> None:
        with ExitStack() as until_started, ExitStack() as opened:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            opened.callback(self._control.close)
            until_started.callback(theirs.close)
            memory = os.memfd_create("edge-sdk tensors")
            opened.callback(os.close, memory)
            lifeline, ours = os.pipe()
            until_started.callback(os.close, lifeline)
            opened.callback(os.close, ours)
            self._words, words = os.pipe()
            opened.callback(os.close, self._words)
            until_started.callback(os.close, words)
            os.set_blocking(self._words, False)
            self._said = b""
            content = _content_of(model)
            if content >= 0:
                until_started.callback(os.close, content)
            task = Task(
                engine=engine.name,
                name=model.name,
                path=None if model.path is None else str(model.path.resolve()),
                options=replace(options, guard=Guard()),
                control=theirs.fileno(),
                tensors=memory,
                content=content,
                lifeline=lifeline,
                words=words,
            )
            inherited = [theirs.fileno(), memory, lifeline, words, *([content] if content >= 0 else [])]
            self.process = _started(task, inherited)
            self.tensors = SharedTensors(memory)
            self._opened = opened.pop_all()
        self._ended = False

    def ask(self, message: bytes | None, limit_s: float) -> bytes:
        """Sends a message, if there is one, and waits for the next that comes.

        Raises:
            TimeoutError: none came.
            ConnectionError: the process is gone.
        """
        self._control.settimeout(limit_s)
        if message is not None:
            self._control.send(message)
        answer = self._control.recv(MOST_BYTES)
        self._listen()
        if not answer:
            raise ConnectionResetError
        return answer

    def how_it_ended(self) -> str:
        """One phrase: "crashed (SIGSEGV): its last words"."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        said = self._last_words()
        self.end()
        code = self.process.returncode
        told = f"ended (exit {code})"
        if code is not None and code < 0:
            with suppress(ValueError):
                told = f"crashed ({signal.Signals(-code).name})"
        return f"{told}: {said}" if said else told

    def _listen(self) -> None:
        """Keeps the end of what the driver printed, so that there is room for its last words."""
        with suppress(BlockingIOError):
            while piece := os.read(self._words, PIPE_BYTES):
                self._said = (self._said + piece)[-LAST_WORDS:]

    def _last_words(self) -> str:
        self._listen()
        lines = [line for line in self._said.decode(errors="replace").splitlines() if line.strip()]
        return " ".join(lines[-1].split()) if lines else ""

    def end(self) -> None:
        """Ends the process, whatever it does. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self.process.kill()
        self.process.wait()
        self._opened.close()


def _content_of(model: ModelFile) -> int:
    """A descriptor of the model's bytes where it lies nowhere on disk; -1 otherwise."""
    if model.path is not None:
        return -1
    content = os.memfd_create("edge-sdk model")
    with model.content() as view, os.fdopen(os.dup(content), "wb") as file:
        file.write(view)
    return content


def _started(task: Task, inherited: list[int]) -> subprocess.Popen[bytes]:
    # With the places that the program added: plug-ins may lie there.
    places = [*sys.path, str(Path(__file__).resolve().parents[2])]
    code = f"import sys; sys.path[:] = {places!r}; from edge_sdk.engines.apart_child import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, msgspec.json.encode(task).decode()],
        stdin=subprocess.DEVNULL,
        pass_fds=inherited,
    )
