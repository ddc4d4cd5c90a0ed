"""The first requests of a process, when several threads make them at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading, time

class Slow:  # what a busy machine does to imports now and then
    def find_spec(self, name, path=None, target=None):
        if name.startswith("urllib3."):
            time.sleep(0.005)

sys.meta_path.insert(0, Slow())
from edge_sdk.errors import EndpointUnreachable
from edge_sdk.wire.http import HttpEndpoint

failures = []

def ask(begin_s):
    endpoint = HttpEndpoint("http://127.0.0.1:9")
    time.sleep(begin_s)
    try:
        endpoint.metadata("m")
    except EndpointUnreachable:
        pass
    except BaseException as error:
        failures.append(repr(error))

threads = [threading.Thread(target=ask, args=(n * float(sys.argv[1]),)) for n in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("; ".join(failures) or 0)
"""


@pytest.mark.parametrize("apart_s", ["0.0", "0.02"])
def test_threads_that_ask_for_the_first_time_at_once_do_not_disturb_each_other(apart_s: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, apart_s],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr
