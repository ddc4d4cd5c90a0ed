"""A file that crashes an engine is found out in a child process, once."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import AcceleratorFallback, Guard, load
from edge_sdk.engines import Engine, LoadOptions, Runner, find_engine, trial
from edge_sdk.engines.trial import require_trial
from edge_sdk.errors import AcceleratorError, DamagedModel
from edge_sdk.formats import ModelFile, open_model

models = pytest.importorskip("tests.models")


class _Crashing(Engine):
    """Found by name in the child through the registry's cache: dies by a signal while loading or running."""

    name = "crashing"
    formats = frozenset({"onnx"})

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        raise NotImplementedError


def watch(code: str, may_take_long: bool = True) -> dict[str, Any]:
    """What the trial says of a child that runs `code`."""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        return trial._watch(child, b"", may_take_long)


def test_a_good_file_passes_and_is_remembered(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    file, engine = open_model(models.onnx_add()), find_engine("onnxruntime")
    require_trial(file, engine, LoadOptions())
    assert len(list((own_cache / "trials").iterdir())) == 1
    monkeypatch.setattr(trial, "_try", lambda *_: pytest.fail("tried again"))
    require_trial(file, engine, LoadOptions())


def test_a_file_that_an_engine_refuses_in_words_is_left_to_the_caller() -> None:
    pytest.importorskip("onnxruntime")
    require_trial(open_model(models.onnx_unknown_op()), find_engine("onnxruntime"), LoadOptions())


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGFPE", "SIGABRT"])
def test_a_fatal_signal_condemns_the_file(name: str) -> None:
    number = signal.Signals[name].value
    said = watch(f"import os; os.kill(os.getpid(), {number})")
    assert said == {"why": f"loading it crashed ({name})", "keep": True}
    said = watch(f"import os; os.write(1, b'loaded'); os.kill(os.getpid(), {number})")
    assert said["why"] == f"running it crashed ({name})"


def test_a_real_crash_in_native_code_condemns_the_file() -> None:
    assert watch("import ctypes; ctypes.string_at(0)")["why"] == "loading it crashed (SIGSEGV)"
    assert ctypes.sizeof(ctypes.c_void_p) in (4, 8)  # this process is still here


def test_somebody_elses_kill_condemns_nothing_and_is_not_remembered() -> None:
    assert watch("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == {"why": "", "keep": False}


def test_a_load_that_never_ends_condemns_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LOAD_TIMEOUT_S", 0.5)
    assert "did not end" in watch("import threading; threading.Event().wait()")["why"]


def test_a_long_run_speaks_against_an_accelerator_not_against_a_file() -> None:
    # As the child sets it: the alarm ends it although its main thread is in native code.
    alarm = "signal.setitimer(signal.ITIMER_REAL, 0.2)"
    code = f"import ctypes, os, signal; os.write(1, b'loaded'); {alarm}; ctypes.CDLL(None).pause()"
    assert watch(code) == {"why": "", "keep": True}
    assert "running it did not end" in watch(code, may_take_long=False)["why"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_a_delegate_that_crashes_costs_the_accelerator_not_the_process(tmp_path: Path) -> None:
    if find_engine("litert").version() is None:
        pytest.skip("no TFLite engine here")
    source, library = tmp_path / "delegate.c", tmp_path / "libcrash.so"
    source.write_text(
        "void* tflite_plugin_create_delegate() { return *(void**)0; }\nvoid tflite_plugin_destroy_delegate() {}\n"
    )
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", library, source], check=True)
    with pytest.warns(AcceleratorFallback, match="SIGSEGV"):
        session = load(models.tflite_add(), accelerator=str(library), plan_budget_s=0)
    assert session.plan.accelerator == "cpu"
    session.close()
    for guard, words in ((Guard(), "loading crashed"), (Guard(apart=False), "loading it crashed")):
        with pytest.raises(AcceleratorError, match=words):
            load(models.tflite_add(), accelerator=str(library), plan_budget_s=0, trusted=True, strict=True, guard=guard)


def test_the_verdict_is_told_and_remembered(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def crash(*_: object) -> dict[str, Any]:
        calls.append(1)
        return {"why": "loading it crashed (SIGSEGV)", "keep": True}

    monkeypatch.setattr(trial, "_try", crash)
    for _ in range(2):
        with pytest.raises(DamagedModel, match="SIGSEGV"):
            require_trial(open_model(models.onnx_add()), _Crashing(), LoadOptions())
    assert calls == [1]
    assert os.listdir(own_cache / "trials")
