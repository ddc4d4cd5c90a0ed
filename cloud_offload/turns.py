"""Which of several processes takes a connection from the socket that all listen on: the one that has the fewest.

Left to the kernel, the process that is awake takes all that come at one moment, and keeps them as long as they live.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from ssl import SSLContext
from typing import Any

__all__ = ["Counts", "Turns"]

_LOG = logging.getLogger("cloud_offload")
_POLITE_S = 0.005
"""How long a process with more connections than another leaves one to it."""
_NO_FILES_S = 1.0
"""How long no connection is taken where the process can open no more files."""
_SLOT = struct.Struct("=q")
_ABSENT = 2**31


class Counts:
    """Open connections of each process, in memory that all share.

    Args:
        file: descriptor of an open file for it; it may be closed afterwards.
        workers: how many processes.
    """

    def __init__(self, file: int, workers: int) -> None:
        self._slots = [number * _SLOT.size for number in range(workers)]
        self._memory = mmap.mmap(file, workers * _SLOT.size)

    @staticmethod
    def size_bytes(workers: int) -> int:
        """How large the file has to be."""
        return workers * _SLOT.size

    def put(self, worker: int, count: int = _ABSENT) -> None:
        """Process number `worker`, from 1, has `count` connections; without a count it is not there."""
        _SLOT.pack_into(self._memory, self._slots[worker - 1], count)

    def is_least(self, count: int) -> bool:
        """Whether no process has fewer than `count`."""
        return all(count <= _SLOT.unpack_from(self._memory, slot)[0] for slot in self._slots)


class Turns:
    """Takes connections, one at a time, and leaves those to others that have fewer.

    Args:
        sock: listens; shared by all processes, does not block. Closed by `close`.
        counts: of all processes.
        worker: the number of this one.
    """

    def __init__(self, sock: socket.socket, counts: Counts, worker: int) -> None:
        self._sock, self._counts, self._worker = sock, counts, worker
        self._greeting: set[asyncio.Task[None]] = set()
        self._closed = False

    def begin(self, protocol: Callable[[], asyncio.Protocol], tls: SSLContext | None, held: Callable[[], int]) -> None:
        """Takes connections from now on.

        Args:
            protocol: makes the protocol of one.
            tls: where they are encrypted.
            held: how many this process has.
        """
        self._protocol, self._tls, self._held = protocol, tls, held
        self._loop = asyncio.get_running_loop()
        self.count()
        self._loop.add_reader(self._sock, self._wanted)

    def count(self) -> int:
        """Tells the others how many connections this process has; to be called now and then."""
        count = self._held() + len(self._greeting)
        self._counts.put(self._worker, count)
        return count

    def close(self) -> None:
        """Takes no more."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._sock)
            self._counts.put(self._worker)
            self._sock.close()

    def _wanted(self) -> None:
        if self._counts.is_least(self.count()):
            self._take()
        else:
            self._again_in(_POLITE_S, self._take)

    def _again_in(self, seconds: float, then: Callable[[], Any]) -> None:
        # Nothing is heard of the socket meanwhile: it would be told again in each turn of the loop.
        self._loop.remove_reader(self._sock)
        self._loop.call_later(seconds, self._back, then)

    def _back(self, then: Callable[[], Any]) -> None:
        if not self._closed:
            self._loop.add_reader(self._sock, self._wanted)
            then()

    def _take(self) -> None:
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return  # another process was quicker, or the client has gone
        except OSError as error:
            _LOG.error("no connection taken", extra={"fields": {"error": str(error)}})
            self._again_in(_NO_FILES_S, self._wanted)
            return
        task = self._loop.create_task(self._greet(connection))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)
        self.count()

    async def _greet(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with suppress(OSError):  # the client has gone, or failed at TLS, which it is told
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls)
