"""A process slowed to a share of a core: a quota of CPU time, as finely as signals can give it.

    python benchmarks/slowed.py --pid PID [--quota signals|cgroup]     shares on stdin, one a line
    python benchmarks/slowed.py --check                                shares that come out, for work of 1 to 100 ms

`signals` stops the process (SIGSTOP) for a part of every 2 ms and lets it go on (SIGCONT): it is slower all the way
through, as on a slower processor. `cgroup` is the kernel's own quota (CFS bandwidth control, version 1 or 2; the
process must be put there before it makes threads). Its accounting follows the kernel's tick, and what was not used
while the process waited is there at once afterwards: at a quota of 0.15 work of 1 ms after each wait got 0.62 of a
core, where work of 20 ms got 0.15. The short head of a split would run there as if nothing were slow, and the whole
model would not: hence signals.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PERIOD_S = 2e-3
CGROUP_PERIOD_US = 5_000
LEAST_QUOTA_US = 1_000
FIRST, SECOND = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


class Slowed:
    """Slows a process by a process of its own; a context manager. Afterwards it runs on at full speed.

    Args:
        pid: of the process.
        quota: "signals" or "cgroup".
    """

    def __init__(self, pid: int, quota: str = "signals") -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--pid", str(pid), "--quota", quota]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.share = 1.0

    def set(self, share: float) -> None:
        """Lets it have this share of a core, from 0 to 1, and returns when that holds."""
        if share == self.share:
            return
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{share}\n".encode())
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise RuntimeError(f"what slows the device ended with {self._process.wait()}")
        self.share = share

    def close(self) -> None:
        """Idempotent."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Slowed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def slow_by_signals(pid: int, control: int) -> None:
    """Stops and continues `pid` until `control`, which tells shares, ends."""
    with contextlib.suppress(OSError, AttributeError):  # on time, not within the kernel's usual 50 µs
        ctypes.CDLL(None).prctl(29, 1_000, 0, 0, 0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    share, due_s = 1.0, time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        try:
            while (share := _told(control, share, None if share >= 1 else 0.0)) >= 0:
                os.kill(pid, signal.SIGCONT)
                if share >= 1:
                    continue
                due_s = max(due_s + PERIOD_S, time.monotonic())
                time.sleep(max(due_s - PERIOD_S * (1 - share) - time.monotonic(), 0.0))
                os.kill(pid, signal.SIGSTOP)
                time.sleep(max(due_s - time.monotonic(), 0.0))
        finally:
            os.kill(pid, signal.SIGCONT)


def _told(control: int, share: float, wait_s: float | None) -> float:
    """The share that holds now; -1 at the end."""
    if not select.select([control], [], [], wait_s)[0]:
        return share
    content = os.read(control, 4096)
    if not content:
        return -1.0
    print(flush=True)
    return float(content.split()[-1])


def slow_by_cgroup(pid: int, control: int) -> None:
    """A group of its own for `pid`, until `control` ends."""
    second = (SECOND / "cgroup.controllers").is_file()
    home = SECOND if second else FIRST
    group = home / f"edge-sdk-benchmark-{pid}"
    group.mkdir()
    try:
        _limit(group, second, 1.0)
        (group / "cgroup.procs").write_text(str(pid))
        share = 1.0
        while share >= 0:
            content = os.read(control, 4096)
            share = float(content.split()[-1]) if content else -1.0
            _limit(group, second, abs(share))
            if content:
                print(flush=True)
    finally:
        with contextlib.suppress(OSError):
            (home / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def _limit(group: Path, second: bool, share: float) -> None:
    period_us = max(CGROUP_PERIOD_US, int(LEAST_QUOTA_US / share) + 1)
    quota_us = int(period_us * share) if share < 1 else -1
    if second:
        (group / "cpu.max").write_text(f"{quota_us if quota_us > 0 else 'max'} {period_us}")
        return
    (group / "cpu.cfs_quota_us").write_text("-1")
    (group / "cpu.cfs_period_us").write_text(str(period_us))
    (group / "cpu.cfs_quota_us").write_text(str(quota_us))


WORK = """
import contextlib, os, sys, time
def work(end):
    began = time.thread_time()
    while time.thread_time() - began < end:
        pass
with contextlib.suppress(OSError):
    os.nice(-15)
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
    lengths_ms = (1.0, 4.0, 20.0, 100.0)
    print(f"{'quota':>8} {'asked':>6} " + " ".join(f"{f'{ms:g} ms':>8}" for ms in lengths_ms))
    for quota in ("signals", "cgroup"):
        process = subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        try:
            with Slowed(process.pid, quota) as slowed:
                for share in (1.0, 0.4, 0.15):
                    slowed.set(share)
                    found = []
                    for ms in lengths_ms:
                        process.stdin.write(f"{ms / 1e3} {max(int(200 / ms), 5)}\n".encode())
                        process.stdin.flush()
                        found.append(float(process.stdout.readline()))
                    print(f"{quota:>8} {share:6g} " + " ".join(f"{one:8.2f}" for one in found), flush=True)
        except (OSError, RuntimeError) as error:
            print(f"{quota:>8} cannot be had here: {error}")
        finally:
            process.kill()
            process.wait()
    return 0


def main() -> int:
    """Slows a process, or shows what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--pid", type=int)
    wanted.add_argument("--check", action="store_true")
    parser.add_argument("--quota", choices=("signals", "cgroup"), default="signals")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    for told in (signal.SIGTERM, signal.SIGINT):  # to a whole group: it ends with its stdin, after the others
        signal.signal(told, signal.SIG_IGN)
    slow = slow_by_signals if arguments.quota == "signals" else slow_by_cgroup
    slow(arguments.pid, sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
