"""What slows a processor leaves those who run there as it found them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.slowed import Slowed

# Tells its own time and the clock's for a piece of work, so that what it gets is known to itself.
WORK = """
import os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for line in sys.stdin:
    cpu_s, wall_s = time.thread_time(), time.perf_counter()
    while time.thread_time() - cpu_s < float(line):
        pass
    print((time.thread_time() - cpu_s) / (time.perf_counter() - wall_s), flush=True)
"""


@pytest.fixture
def slowed() -> Iterator[Slowed]:
    try:
        made = Slowed(min(os.sched_getaffinity(0)))
    except RuntimeError as error:
        assert "real-time priority" in str(error)
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield started
    started.kill()
    started.communicate()


def share_of(process: subprocess.Popen[bytes], work_s: float) -> float:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{work_s}\n".encode())
    process.stdin.flush()
    return float(process.stdout.readline())


@pytest.mark.parametrize("work_s", [0.002, 0.02])
def test_work_gets_no_more_than_its_share(slowed: Slowed, process: subprocess.Popen[bytes], work_s: float) -> None:
    slowed.set(0.2)
    assert slowed.share == 0.2
    # Other programs of this machine may take more from it, never less; a tick at each end is not its own.
    assert max(share_of(process, work_s) for _ in range(5)) < 0.35


def test_it_goes_on_while_slowed_and_afterwards(slowed: Slowed, process: subprocess.Popen[bytes]) -> None:
    for share in (0.15, 1.0, 0.5):
        slowed.set(share)
        assert share_of(process, 0.001) > 0
    slowed.close()
    slowed.close()
    assert share_of(process, 0.001) > 0


def test_what_slows_and_has_ended_says_so(slowed: Slowed) -> None:
    slowed._process.kill()
    slowed._process.wait()
    with pytest.raises(RuntimeError, match="ended with -9"):
        slowed.set(0.5)
