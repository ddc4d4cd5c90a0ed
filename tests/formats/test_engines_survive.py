"""What passes `check` does not kill the real engines: damaged files are loaded and run in a child process."""

from __future__ import annotations

import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from edge_sdk.errors import EdgeError
from edge_sdk.formats import open_model
from tests import models

TRIAL = Path(__file__).with_name("engine_trial.py")
FILES = 600
"""Damaged files that pass the check, of each format."""
ANSWER_WITHIN_S = 30.0
FILES_PER_CHILD = 200
"""Engines leak on files they refuse: after some hundred a child's memory limit would be what is tested."""
_WORDS = (0, 1, 2, 3, 4, 7, 8, 100, -1, -2, 1 << 30, 0x7FFFFFFF, -0x80000000)


class Trial:
    """A child process that is started again after each death."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._files = 0

    def run(self, path: Path, kind: str) -> tuple[bool, str]:
        """Whether the engine loaded the file, and its last word: "ok", an error, "died of …" or "hung"."""
        self._files += 1
        if self._files % FILES_PER_CHILD == 0:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(TRIAL)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self._unread = b""
        process = self._process
        assert process.stdin is not None
        process.stdin.write(json.dumps({"path": str(path), "format": kind}).encode() + b"\n")
        process.stdin.flush()
        loaded, deadline = False, time.monotonic() + ANSWER_WITHIN_S
        while True:
            line = self._line(process, deadline)
            if line != "loaded":
                return loaded, line
            loaded = True

    def _line(self, process: subprocess.Popen[bytes], deadline: float) -> str:
        assert process.stdout is not None
        while b"\n" not in self._unread:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            received = os.read(process.stdout.fileno(), 65536) if ready else b""
            if not received:
                process.kill()
                self.close()
                return f"died of {-process.returncode}" if ready else "hung"
            self._unread += received
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The file after one to three edits."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, kind = rng.randrange(len(data)), rng.randrange(9)
        if kind < 3:
            data[at] ^= 1 << rng.randrange(8)
        elif kind < 6:
            data[at] = rng.choice((0, 1, 2, 3, 4, 8, 16, 0x7F, 0x80, 0xFE, 0xFF))
        elif kind < 8 and at // 4 * 4 + 4 <= len(data):
            data[at // 4 * 4 : at // 4 * 4 + 4] = struct.pack("<i", rng.choice(_WORDS))
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 4))
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_damaged_files_that_pass_the_check_do_not_kill_the_engine(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime" if kind == "onnx" else "ai_edge_litert")
    made = models.ONNX_MODELS if kind == "onnx" else models.TFLITE_MODELS
    contents = [make() for make in made.values()]
    rng, trial, path = random.Random(20), Trial(), tmp_path / "model"
    words: Counter[str] = Counter()
    try:
        while words["passed"] < FILES:
            path.write_bytes(damaged(rng.choice(contents), rng))
            try:
                with open_model(path) as model:
                    model.check()
            except EdgeError:
                words["refused"] += 1
                continue
            words["passed"] += 1
            loaded, last = trial.run(path, model.format)
            words["loaded" if loaded else "not loaded"] += 1
            if not loaded and (last.startswith("died") or last == "hung"):
                words[last] += 1
                (tmp_path / f"{words['passed']}.{kind}").write_bytes(path.read_bytes())
    finally:
        trial.close()
    deaths = sum(count for word, count in words.items() if word.startswith("died") or word == "hung")
    # The rest is what engines try once in a child process before they load an unknown file.
    assert deaths <= FILES // 500, f"{dict(words)}; see {tmp_path}"
    assert words["loaded"] > words["not loaded"], dict(words)
