"""Processes slowed to a share of their processor: a quota of CPU time, so fine that all they do is slowed alike.

    python benchmarks/slowed.py --cpu CPU [--period-us US]      shares on stdin, one a line
    python benchmarks/slowed.py --check        shares that come out, for work of 1 to 100 ms and for 1 to 200 threads

A process of real-time priority is busy on the same processor for a part of every period, 2 ms by default. Two other
ways do not slow evenly. The kernel's own quota (CFS bandwidth control) lets a process that has waited run unhindered
until its period is used up: at 0.15 of a core work of 1 ms after each wait got 0.62. Stopping and continuing it by
signals wakes each of its threads every time: with 200 threads work of 1 ms got 0.88 of a core, and 20 ms got 0.08. The
short head of a split would then run as if nothing were slow, and the whole model would not.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import subprocess
import sys
import time
from pathlib import Path

PERIOD_S = 2e-3
MOST_PERIODS = 5
"""Who sleeps for longer was kept from the processor himself, and does not make up for all of it."""
PRIORITY = 10
PR_SET_TIMERSLACK = 29


class Slowed:
    """Slows all ordinary processes of one processor; a context manager. Afterwards they run on at full speed.

    Args:
        cpu: the processor; whatever is to be slowed runs on it, and nothing else that counts.
        period_s: of what is taken and what is left.

    Raises:
        RuntimeError: real-time priority is not permitted here.
    """

    def __init__(self, cpu: int, period_s: float = PERIOD_S) -> None:
        own = [sys.executable, str(Path(__file__).resolve())]
        command = [*own, "--cpu", str(cpu), "--period-us", str(period_s * 1e6)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )  # a group of its own: what ends the others with Ctrl-C leaves it, and it ends with its stdin
        self.share = 1.0
        self._heard()

    def set(self, share: float) -> None:
        """Leaves this share of the processor, above 0 and up to 1, and returns when that holds.

        Raises:
            RuntimeError: what slows has ended.
        """
        if share == self.share:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{share}\n".encode())
            self._process.stdin.flush()
        self._heard()
        self.share = share

    def close(self) -> None:
        """Idempotent."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _heard(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError(
                f"nothing can be slowed: what does it ended with {self._process.wait()}; it needs real-time priority"
                " (CAP_SYS_NICE), which root has outside of most containers"
            )

    def __enter__(self) -> Slowed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def slow(cpu: int, control: int, period_s: float) -> None:
    """Is busy on `cpu` for what the latest share on `control` leaves of each period, until that ends."""
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    with contextlib.suppress(OSError, AttributeError):  # wakes on time, not within the kernel's usual 50 µs
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1_000, 0, 0, 0)
    print(flush=True)
    share, now_s = 1.0, time.monotonic()
    while (share := _told(control, share, None if share >= 1 else 0.0)) > 0:
        if share >= 1:
            now_s = time.monotonic()
            continue
        slept_from_s = now_s
        time.sleep(period_s * share)
        now_s = time.monotonic()
        # As busy as befits the time that others really had.
        until_s = now_s + min(now_s - slept_from_s, MOST_PERIODS * period_s) * (1 - share) / share
        while now_s < until_s:
            now_s = time.monotonic()


def _told(control: int, share: float, wait_s: float | None) -> float:
    """The share that holds now; 0 at the end."""
    if not select.select([control], [], [], wait_s)[0]:
        return share
    content = os.read(control, 4096)
    if not content:
        return 0.0
    print(flush=True)
    return float(content.split()[-1])


WORK = """
import os, sys, threading, time
os.sched_setaffinity(0, {int(sys.argv[1])})
for _ in range(int(sys.argv[2]) - 1):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
def work(end):
    began = time.thread_time()
    while time.thread_time() - began < end:
        pass
for line in sys.stdin:
    work_s, count = map(float, line.split())
    took_s = 0.0
    for _ in range(int(count)):
        time.sleep(0.013)
        began = time.perf_counter()
        work(work_s)
        took_s += time.perf_counter() - began
    print(work_s * count / took_s, flush=True)
"""


def check() -> int:
    """Prints which share of a core work of several lengths got, with a wait before each."""
    lengths_ms, cpu = (1.0, 4.0, 20.0, 100.0), min(os.sched_getaffinity(0))
    print(f"{'threads':>8} {'asked':>6} " + " ".join(f"{f'{ms:g} ms':>8}" for ms in lengths_ms))
    with Slowed(cpu) as slowed:
        for threads in (1, 200):
            process = subprocess.Popen(
                [sys.executable, "-c", WORK, str(cpu), str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert process.stdin is not None and process.stdout is not None
            for share in (1.0, 0.4, 0.15):
                slowed.set(share)
                found = []
                for ms in lengths_ms:
                    process.stdin.write(f"{ms / 1e3} {max(int(200 / ms), 5)}\n".encode())
                    process.stdin.flush()
                    found.append(float(process.stdout.readline()))
                print(f"{threads:8} {share:6g} " + " ".join(f"{one:8.2f}" for one in found), flush=True)
            process.kill()
            process.wait()
    return 0


def main() -> int:
    """Slows a processor, or shows what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--cpu", type=int)
    wanted.add_argument("--check", action="store_true")
    parser.add_argument("--period-us", type=float, default=PERIOD_S * 1e6)
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    slow(arguments.cpu, sys.stdin.fileno(), arguments.period_us / 1e6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
