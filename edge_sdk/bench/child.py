"""`Child`: the parent's end of a process that runs one model and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from edge_sdk import errors
from edge_sdk.bench.messages import Command, Ready, Reply, Task
from edge_sdk.errors import EdgeError, EngineError

__all__ = ["Child"]

CLOSE_TIMEOUT_S = 5.0


class Child:
    """Starts a process that loads what `task` says and answers once. A context manager that ends the process.

    Args:
        task: what to load.

    Attributes:
        ready: what it said of itself.
        cold_ms: from the start of the process to its first answer.

    Raises:
        EdgeError: it could not load or run the model; of the class that was raised there.
    """

    def __init__(self, task: Task) -> None:
        self._name = task.name
        if not sys.executable:
            raise EngineError(f"{task.name}: no process can be started: Python runs inside another program here")
        package_root = str(Path(__file__).resolve().parents[2])
        code = f"import sys; sys.path.append({package_root!r}); from edge_sdk.bench.worker import main; main()"
        started_s = time.monotonic()
        # -P: a file beside the user that is named like a library must not be imported in its place.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._send(task.pickled())
            self.ready = self._receive(Ready, None)
        except BaseException:
            self.close()
            raise
        self.cold_ms = (self.ready.loaded_at_s - started_s) * 1e3 + self.ready.first_run_ms

    @property
    def process_id(self) -> int:
        """As the kernel numbers it."""
        return self._process.pid

    def ask(self, command: Command, kind: Any, on_part: Callable[[Any], object] | None = None) -> Any:
        """Has the child do something.

        Args:
            command: what.
            kind: type of the result.
            on_part: called with each part of the result that comes before it, as plain JSON values.

        Raises:
            EdgeError: the child met it, or ended.
        """
        self._send(msgspec.json.encode(command) + b"\n")
        return self._receive(kind, on_part)

    def _send(self, content: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(content)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _receive(self, kind: Any, on_part: Callable[[Any], object] | None) -> Any:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            try:
                reply = msgspec.json.decode(line, type=Reply)
                if reply.error:
                    raise self._error(reply)
                if reply.done:
                    return msgspec.json.decode(reply.result, type=kind)
                if on_part is not None:
                    on_part(msgspec.json.decode(reply.result))
            except msgspec.MsgspecError as error:
                raise EngineError(f"{self._name}: the process that ran it answered nonsense: {error}") from None
        raise self._ended()

    def _error(self, reply: Reply) -> EdgeError:
        kind = getattr(errors, reply.error, None)
        if isinstance(kind, type) and issubclass(kind, EdgeError):
            return kind(reply.message)
        return EngineError(f"{self._name}: {reply.error}: {reply.message}")

    def _ended(self) -> EngineError:
        try:
            code = self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return EngineError(f"{self._name}: the process that ran it stopped answering")
        if code >= 0:
            how = f"ended with exit code {code}"
        else:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            how = f"was ended by {name}" + (" (is there memory enough?)" if -code == signal.SIGKILL else "")
        return EngineError(f"{self._name}: the process that ran it {how}")

    def close(self) -> None:
        """Ends the process. Idempotent."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass  # a child that is gone leaves what was buffered for it
        if process.poll() is None:
            process.kill()  # it holds nothing worth an orderly end, and engines hang in theirs
        process.wait(CLOSE_TIMEOUT_S)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
