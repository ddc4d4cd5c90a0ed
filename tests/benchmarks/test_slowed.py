"""What slows a process leaves it as it found it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.slowed import Slowed

ECHO = "import sys\nfor line in sys.stdin: print(line.strip(), flush=True)"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield started
    started.kill()
    started.communicate()


def asked(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"here\n")
    process.stdin.flush()
    return process.stdout.readline()


@pytest.mark.parametrize("shares", [(0.2,), (0.4, 1.0), (1.0, 0.15, 0.5)])
def test_it_goes_on_while_slowed_and_afterwards(process: subprocess.Popen[bytes], shares: tuple[float, ...]) -> None:
    with Slowed(process.pid) as slowed:
        for share in shares:
            slowed.set(share)
            assert slowed.share == share
            assert asked(process) == b"here\n"
    assert asked(process) == b"here\n"


def test_a_process_that_is_gone_is_no_failure(process: subprocess.Popen[bytes]) -> None:
    with Slowed(process.pid) as slowed:
        slowed.set(0.5)
        process.kill()
        process.wait()
