"""One of several processes of an endpoint, as `cloud_offload.workers` starts them.

What a client asks of one of them that all must do goes to the parent, which has all of them do it, this one too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cloud_offload.control import Ask, Channel, Gone, Told, line
from cloud_offload.refusals import Refusal, busy
from cloud_offload.settings import ServeSettings
from cloud_offload.turns import Counts, Turns
from edge_sdk.errors import EdgeError

if TYPE_CHECKING:
    from cloud_offload.observing import Meters
    from cloud_offload.store import Store

__all__ = ["Beginning", "Siblings", "main"]


class Beginning(msgspec.Struct, frozen=True):
    """What a worker is told when it starts, as JSON on its stdin.

    Attributes:
        worker: its number, from 1.
        control: file descriptor of its end of the channel.
        listening: that of the socket that all of them listen on.
        counts: that of the file for `Counts`.
        unloaded: models that are not to be loaded from the repository.
        settings: of the endpoint.
    """

    worker: int
    control: int
    listening: int
    counts: int
    unloaded: list[str]
    settings: ServeSettings

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self, enc_hook=str)

    @classmethod
    def decode(cls, content: bytes) -> Beginning:
        """From JSON."""
        return msgspec.json.decode(content, type=cls, dec_hook=_path)


def _path(kind: type, content: Any) -> Any:
    return Path(content) if kind is Path else content


class Siblings:
    """The other processes of the endpoint, as one of them sees them: through the parent.

    Attributes:
        worker: the number of this one.
        unloaded: models that it is not to load from the repository.
        turns: takes connections in turn with them.
    """

    def __init__(self, worker: int, unloaded: Sequence[str], turns: Turns, control: socket.socket) -> None:
        self.worker, self.unloaded, self.turns = worker, tuple(unloaded), turns
        self._control = control
        self._channel: Channel | None = None
        self._listening: asyncio.Task[None] | None = None

    async def open(self, store: Store, meters: Meters) -> None:
        """Answers the parent from now on; where the parent ends, this process ends as SIGTERM ends it."""

        async def answer(ask: Ask) -> Told:
            if ask.verb == "page":
                return Told(ask.number, pages={self.worker: meters.page().decode()})
            try:
                await (store.load(ask.text) if ask.verb == "load" else store.unload(ask.text))
            except Refusal as refusal:
                return Told(ask.number, refusal.status, str(refusal))
            except EdgeError as error:
                return Told(ask.number, 400, str(error))
            return Told(ask.number)

        self._channel = await Channel.over(self._control, answer)
        self._listening = asyncio.create_task(self._listen(self._channel))

    async def _listen(self, channel: Channel) -> None:
        await channel.listen()
        os.kill(os.getpid(), signal.SIGTERM)

    async def ready(self) -> None:
        """Tells the parent that this one takes requests."""
        with suppress(Refusal):
            await self._ask("ready")

    def failed(self, reason: str) -> None:
        """Tells the parent why this one cannot start; before `open`."""
        with suppress(OSError):
            self._control.sendall(line(Ask(0, "failed", reason)))

    async def load(self, name: str) -> None:
        """As `Store.load`, in all processes.

        Raises:
            Refusal: the first reason of those that could not.
        """
        await self._ask("load", name)

    async def unload(self, name: str) -> None:
        """As `Store.unload`, in all processes.

        Raises:
            Refusal: it is loaded in none of them.
        """
        await self._ask("unload", name)

    async def page(self) -> bytes:
        """The metrics of all processes."""
        from cloud_offload.observing import joined_pages

        return joined_pages((await self._ask("pages")).pages)

    async def _ask(self, verb: str, text: str = "") -> Told:
        assert self._channel is not None
        try:
            told = await self._channel.ask(verb, text)
        except Gone:
            raise busy(503, "the endpoint is stopping") from None
        if told.status != 200:
            raise Refusal(told.status, told.text)
        return told


def main() -> None:
    """The process."""
    from cloud_offload.server import serve

    content = sys.stdin.buffer.read()
    if not content:
        sys.exit(1)  # the parent has ended before it could tell
    beginning = Beginning.decode(content)
    control, listening = socket.socket(fileno=beginning.control), socket.socket(fileno=beginning.listening)
    for sock in (control, listening):
        sock.set_inheritable(False)  # a child of this one that holds them would hide that this one has ended
    control.setblocking(True)
    counts = Counts(beginning.counts, beginning.settings.workers)
    os.close(beginning.counts)
    turns = Turns(listening, counts, beginning.worker)
    siblings = Siblings(beginning.worker, beginning.unloaded, turns, control)
    try:
        serve(beginning.settings, siblings)
    except EdgeError as error:
        siblings.failed(str(error))
        sys.exit(1)
