"""The process that runs a model: it does as it is told, and its end never takes the parent along."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.bench import child as child_module
from edge_sdk.bench.child import Child
from edge_sdk.bench.messages import Command, Task
from edge_sdk.errors import EngineError, UnsupportedOp
from edge_sdk.measuring import Latencies, Memory

pytest.importorskip("onnxruntime")
models = pytest.importorskip("tests.models")

OPTIONS = {"plan_budget_s": 0.0, "trusted": True}


@pytest.fixture
def add(tmp_path: Path) -> Path:
    path = tmp_path / "add.onnx"
    path.write_bytes(models.onnx_add())
    return path


@pytest.fixture
def child(add: Path) -> Iterator[Child]:
    with Child(Task("edge-sdk", str(add), "add.onnx", None, OPTIONS)) as started:
        yield started


def test_it_answers_commands_one_after_the_other(child: Child) -> None:
    assert child.cold_ms > child.ready.first_run_ms > 0
    assert child.ask(Command("warm_up", seconds=0.001), int) >= 1
    assert len(child.ask(Command("block"), list[float])) >= 3
    assert child.ask(Command("steady", seconds=0.001), Latencies).runs >= 3
    assert child.ask(Command("memory"), Memory).peak_mb > 0
    assert isinstance(child.ask(Command("notes"), tuple[str, ...]), tuple)


def test_a_command_it_does_not_know_is_an_error_and_not_its_end(child: Child) -> None:
    with pytest.raises(EngineError, match="unknown command 'dance'"):
        child.ask(Command("dance"), int)
    assert child.ask(Command("warm_up", seconds=0.001), int) >= 1


def test_an_end_by_a_signal_is_told(child: Child) -> None:
    os.kill(child.process_id, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"add\.onnx: the process that ran it was ended by SIGKILL \(is there memory"):
        while True:  # the first command may still reach the pipe of a process that is ending
            child.ask(Command("memory"), Memory)


def test_leaving_it_ends_the_process(add: Path) -> None:
    with Child(Task("edge-sdk", str(add), "add.onnx", None, OPTIONS)) as started:
        process_id = started.process_id
        os.kill(process_id, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)
    started.close()


def test_it_ends_by_itself_when_the_parent_is_gone(add: Path) -> None:
    code = (
        "import os, sys; from edge_sdk.bench.child import Child; from edge_sdk.bench.messages import Task;"
        "child = Child(Task('edge-sdk', sys.argv[1], 'add', None, {'plan_budget_s': 0.0, 'trusted': True}));"
        "print(child.process_id, flush=True); os.kill(os.getpid(), 9)"
    )
    parent = subprocess.run([sys.executable, "-c", code, str(add)], capture_output=True, text=True, timeout=120)
    assert parent.returncode == -signal.SIGKILL
    try:
        ended = os.pidfd_open(int(parent.stdout))
    except ProcessLookupError:
        return
    assert select.select([ended], [], [], 60)[0]
    os.close(ended)


def test_an_error_keeps_its_class(tmp_path: Path) -> None:
    path = tmp_path / "unknown.onnx"
    path.write_bytes(models.onnx_unknown_op())
    with pytest.raises(UnsupportedOp, match="Frobnicate"):
        Child(Task("edge-sdk", str(path), "unknown.onnx", None, OPTIONS))


def test_whatever_a_bare_engine_raises_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model at all")
    with pytest.raises(EngineError) as caught:
        Child(Task("bare", str(path), "broken.onnx", "onnxruntime", {}, [{}]))
    assert str(caught.value).startswith("broken.onnx: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("said", ["nonsense", '{"done": true, "result": 5}', '{"result": "x", "done": true}', "[]"])
def test_nonsense_is_an_error(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Babbling(subprocess.Popen[bytes]):
        def __init__(self, _: list[str], **options: Any) -> None:
            code = "import sys; sys.stdin.buffer.read(1); print(sys.argv[1], flush=True); sys.stdin.read()"
            super().__init__([sys.executable, "-c", code, said], **options)

    monkeypatch.setattr(child_module.subprocess, "Popen", Babbling)
    with pytest.raises(EngineError, match=r"add\.onnx: the process that ran it answered nonsense"):
        Child(Task("edge-sdk", "add.onnx", "add.onnx", None))


def test_bare_engines_are_loaded_without_what_they_do_not_need(add: Path) -> None:
    code = (
        "import sys; from edge_sdk.bench.bare import load_bare; load_bare('onnxruntime', sys.argv[1], 1);"
        "print([m for m in sys.modules if m.startswith(('edge_sdk.', 'msgspec'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code, str(add)], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "['edge_sdk.exports', 'edge_sdk.bench', 'edge_sdk.bench.bare']"
