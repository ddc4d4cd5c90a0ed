"""A client that was used before a fork works on both sides of it: neither threads nor connections are shared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.wire.endpoint_process import endpoint_process

SCRIPT = """
import os, sys
import numpy as np
from edge_sdk.offload import LocalTail, SplitRunner
from edge_sdk.wire.http import HttpEndpoint
from tests.offload.splits import SPLIT, answer_of, feeds_of, head, tail

endpoint = HttpEndpoint(sys.argv[1])
runner = SplitRunner(SPLIT, head, LocalTail(lambda: tail), [endpoint], first_patience_ms=60_000)
endpoint.link.late_ms = lambda **_: None  # nothing is late here: whatever is answered at home has another reason

def ask(first):
    for number in range(first, first + 20):
        assert np.array_equal(runner.run(feeds_of(number))["y"], answer_of(number))
    assert runner.figures().local == 0, runner.figures()

ask(0)
child = os.fork()
ask(100 if child else 200)
if child:
    assert os.waitpid(child, 0)[1] == 0
    ask(300)
sys.stdout.flush()
os._exit(0)
"""


def test_parent_and_child_both_go_on() -> None:
    with endpoint_process() as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, server.url],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
