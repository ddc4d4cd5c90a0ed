"""The channel between the processes of an endpoint: questions and answers in both directions, one line of JSON each."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable

import msgspec

__all__ = ["Ask", "Channel", "Gone", "Told", "line"]

_MOST_LINE_BYTES = 2**26
"""Of a line: a page of metrics of many models is the longest."""


class Ask(msgspec.Struct, tag="ask", frozen=True):
    """A question.

    Attributes:
        number: which its answer repeats.
        verb: what is to be done.
        text: with what: the name of a model, or a reason.
    """

    number: int
    verb: str
    text: str = ""


class Told(msgspec.Struct, tag="told", frozen=True):
    """The answer to the question `number`.

    Attributes:
        status: as HTTP has it.
        text: why the status is no 200.
        pages: metrics by the number of the process.
    """

    number: int
    status: int = 200
    text: str = ""
    pages: dict[int, str] = {}


class Gone(Exception):
    """The process at the other end has ended."""


Answer = Callable[[Ask], Awaitable[Told]]
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Ask | Told)


def line(message: Ask | Told) -> bytes:
    """`message` as it is sent."""
    return _ENCODER.encode(message) + b"\n"


class Channel:
    """One end. Made by `Channel.over`; nothing is heard before `listen` runs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        self._reader, self._writer, self._answer = reader, writer, answer
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Told]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._gone = False

    @classmethod
    async def over(cls, sock: socket.socket, answer: Answer) -> Channel:
        """A channel over one end of a pair of sockets, which it then owns; `answer` answers the other end."""
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_MOST_LINE_BYTES)
        return cls(reader, writer, answer)

    async def ask(self, verb: str, text: str = "") -> Told:
        """Asks the other end.

        Raises:
            Gone: it has ended, before or meanwhile.
        """
        if self._gone:
            raise Gone
        number = next(self._numbers)
        told: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._asked[number] = told
        try:
            self._writer.write(line(Ask(number, verb, text)))
            return await told
        finally:
            del self._asked[number]

    async def listen(self) -> None:
        """Hears the other end until it ends. Questions are answered side by side."""
        try:
            while heard := await self._reader.readline():
                message = _DECODER.decode(heard)
                if isinstance(message, Ask):
                    task = asyncio.create_task(self._tell(message))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                elif (asked := self._asked.get(message.number)) is not None and not asked.done():
                    asked.set_result(message)
        except (OSError, msgspec.MsgspecError):
            pass  # cut off in the middle of a line: as gone as at the end of one
        finally:
            self._gone = True
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(Gone())
            self._writer.close()

    async def _tell(self, ask: Ask) -> None:
        told = await self._answer(ask)
        if not self._gone:
            self._writer.write(line(told))
