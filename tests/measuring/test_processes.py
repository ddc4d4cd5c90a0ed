"""Memory of a process as the kernel counts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge_sdk.measuring import Memory, memory_of

STATUS = "Name:\tx\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nThreads:\t2\n"
ROLLUP = "55d0 ---p [rollup]\nRss: 102400 kB\nPss: 51200 kB\nPrivate_Clean: 1024 kB\nPrivate_Dirty: 2048 kB\n"


def test_what_the_kernel_writes_is_read_in_mebibytes(tmp_path: Path) -> None:
    folder = tmp_path / "proc" / "7"
    folder.mkdir(parents=True)
    (folder / "status").write_text(STATUS)
    (folder / "smaps_rollup").write_text(ROLLUP)
    assert memory_of(7, tmp_path) == Memory(peak_mb=200.0, resident_mb=100.0, shared_out_mb=50.0, private_mb=3.0)


def test_an_older_kernel_tells_less(tmp_path: Path) -> None:
    folder = tmp_path / "proc" / "7"
    folder.mkdir(parents=True)
    (folder / "status").write_text(STATUS)
    assert memory_of(7, tmp_path) == Memory(peak_mb=200.0, resident_mb=100.0)


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    assert memory_of(7, tmp_path) == Memory()


def test_a_process_that_filled_more_memory_had_a_higher_peak() -> None:
    code = "from edge_sdk.measuring import memory_of; x = bytearray(%d << 20); del x; print(memory_of().peak_mb)"
    small, large = (
        float(subprocess.run([sys.executable, "-c", code % mb], check=True, capture_output=True, text=True).stdout)
        for mb in (1, 65)
    )
    assert 60 < large - small < 68
