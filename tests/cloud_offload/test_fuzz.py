"""Whatever is sent to a real endpoint: no 5xx for what is malformed, no hang, no memory, and right answers all along.

A case that fails is printed with its number; `python -m tests.cloud_offload.hostile NUMBER` prints it again.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.cloud_offload.endpoints import Endpoint
from tests.cloud_offload.hostile import INPUTS, Case, case
from tests.cloud_offload.test_limits import peak_bytes

QUICK, SLOW = range(300), range(1000, 11_000)
LIMIT_BYTES = 160 * 2**20
"""What the process may grow by, with bodies of 4 MiB at most and 16 MiB of them at once."""
AT_ONCE = 6
ANSWER_TIMEOUT_S, SILENCE_S = 60.0, 0.15


@pytest.mark.parametrize(
    "numbers", [pytest.param(QUICK, id="quick"), pytest.param(SLOW, id="10000", marks=pytest.mark.slow)]
)
def test_whatever_comes_is_answered_below_500_and_others_go_on(shared: Endpoint, numbers: range) -> None:
    before, logged = peak_bytes(shared), len(shared.events)
    with right_answers_all_along(shared) as right, ThreadPoolExecutor(AT_ONCE) as pool:
        failures = [line for line in pool.map(lambda number: tried(shared, case(number)), numbers) if line]
    assert not failures, "\n\n".join(failures[:10])
    assert right[0] > len(numbers) / 100
    assert shared.process.poll() is None
    assert peak_bytes(shared) - before < LIMIT_BYTES
    # Each line of the log is JSON, and none tells of a fault of our own.
    faults = [
        e for e in shared.events[logged:] if "time" not in e or e["event"] == "internal error" or "traceback" in e
    ]
    assert not faults, "\n".join(str(fault.get("traceback", fault)) for fault in faults[:3])


def test_a_client_that_leaves_in_the_middle_costs_nothing(shared: Endpoint) -> None:
    address = urlsplit(shared.url)
    for _ in range(5):
        with socket.create_connection((address.hostname, address.port), 30) as connection:
            connection.sendall(b"POST /v2/models/add/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
    shared.wait_for("request", count=5, status=499)
    assert shared.ask("GET", "/v2/health/live").status == 200


def tried(endpoint: Endpoint, sent: Case) -> str:
    """Sends the case; "" where it was answered as it should be."""
    try:
        answers = exchanged(endpoint, sent)
    except TimeoutError:
        return f"no answer and no end of the connection: {sent}"
    wrong = [status for status in statuses(answers) if status >= 500 and status not in sent.allowed]
    return f"answered {wrong}, {answers[:500]!r}: {sent}" if wrong else ""


def exchanged(endpoint: Endpoint, sent: Case) -> bytes:
    """All that comes back. Where nothing does the sending side is closed: the endpoint may wait for the rest.

    Raises:
        TimeoutError: the endpoint neither answers nor closes.
    """
    address = urlsplit(endpoint.url)
    answers = b""
    with socket.create_connection((address.hostname, address.port), ANSWER_TIMEOUT_S) as connection:
        try:
            for piece in sent.pieces:
                connection.sendall(piece)
            connection.settimeout(SILENCE_S if sent.kind != "tails" else 5 * SILENCE_S)
            try:
                while piece := connection.recv(1 << 20):
                    answers += piece
            except TimeoutError:
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(ANSWER_TIMEOUT_S)
            while piece := connection.recv(1 << 20):
                answers += piece
        except ConnectionError:
            pass  # it had refused, and closed, while the rest was still on its way
    return answers


def statuses(answers: bytes) -> list[int]:
    """Statuses of the answers that came one after the other."""
    found = []
    while answers.startswith(b"HTTP/1.1 "):
        head, _, answers = answers.partition(b"\r\n\r\n")
        found.append(int(head[9:12]))
        sizes = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = int(sizes[0]) if sizes else 0
        if not answers.startswith(b"HTTP/1.1 "):  # an answer to HEAD tells a length of what does not come
            answers = answers[size:]
    return found


@contextmanager
def right_answers_all_along(endpoint: Endpoint) -> Iterator[list[int]]:
    """While a well-behaved client asks again and again; how often, each time with the right answer."""
    done, count, wrong = threading.Event(), [0], []

    def ask() -> None:
        x = INPUTS["add"]["x"]
        while not done.is_set():
            try:
                health = endpoint.ask("GET", "/v2/health/live").status
                answer = endpoint.infer("add", {"x": x + count[0]})
                if health != 200 or not np.array_equal(answer.response().outputs["y"], x + count[0] + 1):
                    wrong.append(f"{health} {answer.status} {answer.body[:200]!r}")
            except (OSError, ValueError, KeyError) as error:
                wrong.append(repr(error))
            count[0] += 1
            done.wait(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield count
    finally:
        done.set()
        asking.join()
    assert not wrong, wrong[:3]
