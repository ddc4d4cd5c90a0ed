"""How a body is read: within its size, its time and what the endpoint may hold in all."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from cloud_offload.access import ClientLimit
from cloud_offload.exchange import Budget, Exchange
from cloud_offload.refusals import Refusal

SCOPE = {"method": "POST", "path": "/", "query_string": b"", "client": ("127.0.0.1", 1), "headers": []}


def exchange(*chunks: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), hangs: bool = False) -> Exchange:
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or hangs}

    async def send(message: Any) -> None:
        raise AssertionError("nothing is answered here")

    return Exchange({**SCOPE, "headers": list(headers)}, receive, send)


def read(request: Exchange, most: int = 2**20, timeout_s: float = 60, budget: int = 2**20, length: int = 0) -> Any:
    return asyncio.run(request.body(most, timeout_s, Budget(budget), length))


def test_chunks_become_one_body() -> None:
    assert bytes(read(exchange(b"ab", b"", b"c" * 100_000))) == b"ab" + b"c" * 100_000


@pytest.mark.parametrize("length", [0, 1, 63, 64, 1000])
def test_what_follows_the_head_lies_aligned(length: int) -> None:
    body = read(exchange(b"x" * 2000, b"y" * 200_000), length=length)
    assert (np.frombuffer(body, np.uint8).ctypes.data + length) % 64 == 0


def test_a_body_that_does_not_come_is_answered_408() -> None:
    with pytest.raises(Refusal, match="did not come") as told:
        read(exchange(b"{", hangs=True), timeout_s=0.01)
    assert told.value.status == 408


def test_a_told_length_beyond_the_limit_is_refused_before_a_byte_is_read() -> None:
    with pytest.raises(Refusal) as told:
        read(exchange(headers=((b"content-length", b"2000000"),)))
    assert told.value.status == 413


def test_bytes_held_over_all_clients_are_bounded_with_503() -> None:
    with pytest.raises(Refusal) as told:
        read(exchange(b"x" * 600, b"x" * 600), budget=1000)
    assert told.value.status == 503
    assert dict(told.value.headers)[b"retry-after"]


def test_a_header_that_is_there_twice_is_refused_where_it_counts() -> None:
    request = exchange(headers=((b"deadline-ms", b"1"), (b"deadline-ms", b"2")))
    with pytest.raises(Refusal, match="twice"):
        request.number(b"deadline-ms")


def test_an_escaped_slash_is_part_of_a_name() -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    scope = {**SCOPE, "path": "/v2/models/a/b", "raw_path": b"/v2/models/a%2Fb"}
    assert Exchange(scope, nothing, nothing).segments == ["v2", "models", "a/b"]


def test_a_client_s_place_is_free_again_after_its_request() -> None:
    clients = ClientLimit(1)
    with clients.holding("a"):
        with pytest.raises(Refusal), clients.holding("a"):
            pass
        with clients.holding("b"):
            pass
    with clients.holding("a"):
        pass
