"""Utilisation clamps are set and read back by system calls; a kernel without them says so in one line."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

import edge_sdk
from edge_sdk.device.affinity import thread_ids
from edge_sdk.device.utilization import UtilizationClamp, clamped, thread_clamp
from edge_sdk.errors import DeviceError, InputValueError
from edge_sdk.schedule import Caps

models = pytest.importorskip("tests.models")


def refusal() -> str:
    """Why this kernel does not clamp; empty where it does."""
    try:
        with clamped(UtilizationClamp(0, 512)):
            return ""
    except DeviceError as error:
        return str(error)


REFUSAL = refusal()
kernel_clamps = pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL)
kernel_refuses = pytest.mark.skipif(not REFUSAL, reason="this kernel clamps")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_the_kernel_tells_the_clamp_of_any_thread() -> None:
    assert thread_clamp() == thread_clamp(threading.get_native_id()) == UtilizationClamp(0, 1024)


@kernel_clamps
def test_a_thread_is_clamped_within_the_block_and_those_it_starts_stay_so() -> None:
    before, seen, over = thread_clamp(), [], threading.Event()
    with clamped(UtilizationClamp(100, 512)):
        assert thread_clamp() == UtilizationClamp(100, 512)
        child = threading.Thread(target=lambda: (seen.append(thread_clamp()), over.wait(30)))
        child.start()
    over.set()
    child.join()
    assert seen == [UtilizationClamp(100, 512)]
    assert thread_clamp() == before


@kernel_clamps
@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_workers_of_a_session_are_clamped_and_the_caller_is_not_afterwards(engine: str) -> None:
    pytest.importorskip("onnxruntime" if engine == "onnxruntime" else "ai_edge_litert")
    model = (
        models.onnx_mlp(inputs=512, hidden=2048, outputs=512) if engine == "onnxruntime" else models.tflite_float_conv()
    )
    before, others = thread_clamp(), thread_ids()
    caps = Caps(uclamp_max=512)
    with edge_sdk.load(model, plan_budget_s=0, trusted=True, threads=2, engine=engine, caps=caps) as session:
        shape = tuple(size if isinstance(size, int) else 1 for size in session.inputs[0].shape or ())
        session.run(np.zeros(shape, np.float32))
        workers = session.report().workers
        assert {thread_clamp(worker.thread_id) for worker in workers} == {UtilizationClamp(0, 512)}
        assert {worker.thread_id for worker in workers} <= set(thread_ids()) - set(others)
    assert thread_clamp() == before


@kernel_refuses
def test_a_kernel_without_clamps_is_told_in_one_line() -> None:
    with pytest.raises(DeviceError, match=r"cannot be clamped \(uclamp\): .*leave out uclamp_min and uclamp_max"):
        edge_sdk.load(models.onnx_add(), plan_budget_s=0, trusted=True, caps=Caps(uclamp_max=512))


@pytest.mark.parametrize(
    ("code", "told"), [(1, "does not permit"), (38, "no sched_setattr"), (22, "5.3"), (95, "CONFIG_UCLAMP_TASK")]
)
def test_each_refusal_says_why(code: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    class Refusing:
        def syscall(self, *_: object) -> int:
            ctypes.set_errno(code)
            return -1

    monkeypatch.setattr("edge_sdk.device.utilization._libc", Refusing)
    if os.uname().machine not in ("x86_64", "aarch64", "riscv64", "armv7l", "i686"):
        pytest.skip("no number of the system call is known")
    with pytest.raises(DeviceError, match=told), clamped(UtilizationClamp()):
        pass


def test_a_thread_that_has_ended_is_told() -> None:
    with pytest.raises(DeviceError):
        thread_clamp(2**22 + 1)


@pytest.mark.parametrize("wrong", [(-1, 5), (6, 5), (0, 1025)])
def test_what_is_no_range_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(InputValueError, match="1024"):
        UtilizationClamp(*wrong)
