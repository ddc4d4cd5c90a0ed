"""Connections are bounded before any application hears of them: heads in size and time, answers in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from cloud_offload.guarded_protocol import HEAD_TIMEOUT_S, MOST_HEAD_BYTES, STALL_TIMEOUT_S, GuardedProtocol

GET = b"GET /v2 HTTP/1.1\r\nHost: x\r\n"
PART = b"a" * 4096


class Timer:
    def __init__(self, delay_s: float, call: Callable[[], None]) -> None:
        self.delay_s, self.call, self.cancelled = delay_s, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Notes what is to happen later."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, delay_s: float, call: Callable[..., None], *arguments: Any) -> Timer:
        self.timers.append(Timer(delay_s, lambda: call(*arguments)))
        return self.timers[-1]

    def create_task(self, coroutine: Any) -> asyncio.Future[None]:
        coroutine.close()
        return asyncio.Future(loop=asyncio.new_event_loop())

    def due(self, delay_s: float) -> list[Timer]:
        return [timer for timer in self.timers if timer.delay_s == delay_s and not timer.cancelled]


class Transport:
    def __init__(self) -> None:
        self.written, self.ended, self.waiting_bytes = b"", "", 0

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def pause_reading(self) -> None: ...

    resume_reading = pause_reading


@pytest.fixture
def connection() -> GuardedProtocol:
    made = GuardedProtocol(uvicorn.Config(lambda: None), ServerState(), {}, Loop())  # type: ignore[arg-type]
    made.connection_made(Transport())  # type: ignore[arg-type]
    return made


def feed(connection: Any, *pieces: bytes) -> str:
    """Sends the pieces as long as they are taken; the answer's status, "" where there is none."""
    for piece in pieces:
        connection.data_received(piece)
    return connection.transport.written.partition(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    "head",
    [
        (b"GET /", *[PART] * 64),
        (GET + b"X: ", *[PART] * 64),
        (GET, PART * 32, PART * 32),
        (GET, *[b"x: y\r\n" * 100] * 64),
        (GET + b"X", *[PART] * 64),
        (b"POST /v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", *[PART] * 64),
        (b"POST /v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", *[PART] * 64),
    ],
    ids=["a path", "a value", "a value in large pieces", "many headers", "a name", "a trailer", "a chunk's extension"],
)
def test_a_head_that_does_not_end_is_refused(connection: Any, head: tuple[bytes, ...]) -> None:
    assert feed(connection, *head).startswith("HTTP/1.1 400")
    assert connection.transport.ended
    assert "error" in json.loads(connection.transport.written.partition(b"\r\n\r\n")[2])


def test_a_head_and_a_body_of_any_size_that_end_are_taken(connection: Any) -> None:
    assert feed(connection, GET + b"X: " + b"a" * (MOST_HEAD_BYTES // 2) + b"\r\n\r\n") == ""
    long = b"POST /v2 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (len(PART) * 64)
    assert feed(connection, long, *[PART] * 64) == ""
    assert not connection.transport.ended


def test_a_head_that_does_not_come_ends_the_connection(connection: Any) -> None:
    feed(connection, b"GET /v")
    (timer,) = connection.loop.due(HEAD_TIMEOUT_S)
    timer.call()
    assert connection.transport.ended == "aborted"


def test_with_its_head_a_request_is_no_longer_waited_for(connection: Any) -> None:
    feed(connection, GET + b"\r\n")
    assert connection.loop.due(HEAD_TIMEOUT_S) == []


def test_the_head_after_an_answer_is_waited_for_again(connection: Any) -> None:
    feed(connection, GET + b"\r\n")
    connection.cycle.response_complete = True
    feed(connection, b"GET /v")
    assert len(connection.loop.due(HEAD_TIMEOUT_S)) == 1


def test_an_answer_that_nobody_takes_ends_the_connection(connection: Any) -> None:
    connection.transport.waiting_bytes = 1000
    connection.pause_writing()
    connection.loop.due(STALL_TIMEOUT_S)[-1].call()
    assert connection.transport.ended == "aborted"


def test_an_answer_that_is_taken_slowly_is_not_cut_off(connection: Any) -> None:
    connection.transport.waiting_bytes = 1000
    connection.pause_writing()
    connection.transport.waiting_bytes = 900
    connection.loop.due(STALL_TIMEOUT_S)[-1].call()
    assert not connection.transport.ended
    connection.resume_writing()
    assert connection.loop.timers[-1].cancelled


def test_a_connection_that_is_lost_leaves_no_timer(connection: Any) -> None:
    connection.transport.waiting_bytes = 1
    connection.pause_writing()
    connection.connection_lost(None)
    assert all(timer.cancelled for timer in connection.loop.timers)


@pytest.mark.parametrize("end", ["what is no HTTP", "the end of what the client sends"])
def test_the_application_is_told_when_its_connection_is_given_up(connection: Any, end: str) -> None:
    """Otherwise it would write to what is closed, and each such request would leave a traceback in the log."""
    feed(connection, GET.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n")
    if end == "what is no HTTP":
        feed(connection, b"zz\r\n")
    else:
        connection.eof_received()
    assert asyncio.run(connection.cycle.receive()) == {"type": "http.disconnect"}
    sent = connection.transport.written
    asyncio.run(connection.cycle.send({"type": "http.response.start", "status": 200}))
    assert connection.transport.written == sent


def test_so_are_requests_that_wait_behind_one_that_runs(connection: Any) -> None:
    feed(connection, GET + b"\r\n" + GET + b"\r\n")
    first = connection._running
    feed(connection, b"no HTTP\r\n\r\n")
    assert first.disconnected
    assert not connection.pipeline
