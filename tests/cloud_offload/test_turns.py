"""Which of several processes takes a connection."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Iterator

import pytest

from cloud_offload.turns import Counts, Turns


class Taken(asyncio.Protocol):
    """A connection that one of them took."""

    def __init__(self, by: int, taken: asyncio.Queue[int]) -> None:
        self._by, self._taken = by, taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taken.put_nowait(self._by)
        transport.close()


@pytest.fixture
def counts() -> Iterator[Counts]:
    with tempfile.TemporaryFile() as file:
        file.truncate(Counts.size_bytes(2))
        yield Counts(file.fileno(), 2)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


async def taken(listening: socket.socket, counts: Counts, held: dict[int, int], connections: int) -> list[int]:
    """Who takes each connection where so many are held."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    turns = {worker: Turns(listening.dup(), counts, worker) for worker in held}
    for worker, one in turns.items():
        one.begin(lambda by=worker: Taken(by, queue), None, lambda by=worker: held[by])  # type: ignore[misc]
    found = []
    for _ in range(connections):
        with socket.create_connection(listening.getsockname()):
            found.append(await queue.get())
            held[found[-1]] += 1
    for one in turns.values():
        one.close()
    return found


def test_the_one_with_fewer_connections_takes_them_until_both_have_as_many(
    listening: socket.socket, counts: Counts
) -> None:
    assert asyncio.run(taken(listening, counts, {1: 4, 2: 0}, 4)) == [2, 2, 2, 2]


def test_where_the_one_with_fewer_does_not_take_it_another_does(listening: socket.socket, counts: Counts) -> None:
    counts.put(2, 0)
    assert asyncio.run(taken(listening, counts, {1: 4}, 2)) == [1, 1]


def test_one_that_is_not_there_has_no_turn(counts: Counts) -> None:
    counts.put(1, 4)
    counts.put(2)
    assert counts.is_least(4)
    counts.put(2, 3)
    assert not counts.is_least(4)
