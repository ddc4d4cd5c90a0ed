"""An endpoint of several processes: the parent, which starts them, keeps them in step and starts again those that die.

All take connections from one listening socket. The parent answers no request; it holds the socket, so that connections
wait for the others while one is dead, and a channel to each, on which it is asked what all must do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from cloud_offload.control import Ask, Channel, Gone, Told
from cloud_offload.listening import address, listening
from cloud_offload.repository import listed
from cloud_offload.settings import ServeSettings
from cloud_offload.turns import Counts
from cloud_offload.worker import Beginning
from edge_sdk.errors import InputError, MissingExtra, StorageError

__all__ = ["serve_with_workers"]

_LOG = logging.getLogger("cloud_offload")
_PROGRAM = "import sys; sys.path.append({root!r}); from cloud_offload.worker import main; main()"
_PAGE_TIMEOUT_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
_GRACE_S = 15.0
"""Beside `drain_s`: for engines that are in the middle of something, and for the end of a process."""


def serve_with_workers(settings: ServeSettings) -> None:
    """Serves with `settings.workers` processes until SIGTERM or SIGINT; then lets all of them drain.

    Raises:
        InputError: the settings do not go together, or a worker cannot start with them.
        MissingExtra: the extra `serve` is not installed.
        StorageError: the address cannot be listened on, or a worker ended before it was ready.
    """
    try:
        from cloud_offload.observing import logging_json
    except ImportError as error:
        raise MissingExtra(f'{error.name} is not installed; pip install "edge-sdk[serve]"') from None
    if settings.upload_mb:
        raise InputError("--upload-mb goes with one process only; leave --workers at 1 to take uploads")
    if not sys.executable:
        raise InputError("--workers: this process has no Python interpreter to start others with; leave it at 1")
    listed(settings.repository)
    with listening(settings) as sock, tempfile.TemporaryFile() as file, logging_json():
        file.truncate(Counts.size_bytes(settings.workers))
        asyncio.run(_Parent(settings, sock, file.fileno()).run())


@dataclass(slots=True, eq=False)
class _Worker:
    channel: Channel
    process: asyncio.subprocess.Process | None = None
    ready: bool = False
    reason: str = ""

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


class _Parent:
    def __init__(self, settings: ServeSettings, sock: socket.socket, file: int) -> None:
        self._settings, self._sock, self._file = settings, sock, file
        self._counts = Counts(file, settings.workers)
        for number in range(settings.workers):
            self._counts.put(number + 1)
        self._url = address(sock, settings)
        self._workers: dict[int, _Worker] = {}
        self._unloaded: set[str] = set()
        self._change = asyncio.Lock()
        self._ending = asyncio.Event()
        self._announced = False

    async def run(self) -> None:
        """See `serve_with_workers`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        keepers = [asyncio.create_task(self._keep(number + 1)) for number in range(self._settings.workers)]
        try:
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait([ending, *keepers], return_when=asyncio.FIRST_COMPLETED)
            if not self._ending.is_set():
                self._end()
            await asyncio.wait(keepers, timeout=self._settings.drain_s + _GRACE_S)
        finally:
            for worker in self._workers.values():
                worker.signal(signal.SIGKILL)
        # All are heard, and the first that failed tells why.
        for error in await asyncio.gather(*keepers, return_exceptions=True):
            if isinstance(error, BaseException):
                raise error

    def _end(self) -> None:
        """No new connection from now on; workers finish what they have. Asked again: workers end at once."""
        again = self._ending.is_set()
        self._ending.set()
        self._sock.close()
        for worker in self._workers.values():
            worker.signal(signal.SIGKILL if again else signal.SIGTERM)

    async def _keep(self, number: int) -> None:
        """Keeps worker `number` running until the end.

        Raises:
            EdgeError: it ended before the endpoint was ready.
        """
        pause_s = 0.0
        while not self._ending.is_set():
            began_s = monotonic()
            try:
                reason, code = await self._live(number)
            except OSError as error:  # no memory or no files for another process, which may pass
                reason, code = f"worker {number} cannot be started: {error}", None
            if self._ending.is_set():
                return
            if not self._announced:
                raise (
                    InputError(reason)
                    if reason
                    else StorageError(f"worker {number} ended with {code} before it was ready; its log tells why")
                )
            lived_s = monotonic() - began_s
            pause_s = min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S) if lived_s < 60 else _FIRST_PAUSE_S
            told = {"worker": number, "code": code, "error": reason, "again_in_s": pause_s}
            _LOG.error("worker ended", extra={"fields": told})
            try:
                await asyncio.wait_for(self._ending.wait(), pause_s)
            except TimeoutError:
                pass

    async def _live(self, number: int) -> tuple[str, int | None]:
        """One life of worker `number`: why it could not start, where it told that, and its exit code."""
        ours, theirs = socket.socketpair()

        async def answer(ask: Ask) -> Told:
            return await self._answer(number, worker, ask)

        worker = _Worker(await Channel.over(ours, answer))
        hearing = asyncio.create_task(worker.channel.listen())
        if self._ending.is_set():
            theirs.close()
            return "", None
        # From here on it is asked what all are asked, so nothing happens between this list and that of the unloaded.
        self._workers[number] = worker
        files = theirs.fileno(), self._sock.fileno(), self._file
        told = Beginning(number, *files, sorted(self._unloaded), self._settings)
        try:
            with theirs:
                program = _PROGRAM.format(root=str(Path(__file__).resolve().parents[1]))
                worker.process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-c", program),
                    stdin=asyncio.subprocess.PIPE,
                    pass_fds=files,
                    start_new_session=True,  # a terminal's interrupt is for the parent, which lets them drain
                )
            if self._ending.is_set():
                worker.signal(signal.SIGTERM)
            await worker.process.communicate(told.encode())
            await hearing
        finally:
            hearing.cancel()
            del self._workers[number]
            self._counts.put(number)
        return worker.reason, worker.process.returncode

    async def _answer(self, number: int, worker: _Worker, ask: Ask) -> Told:
        match ask.verb:
            case "ready":
                worker.ready = True
                assert worker.process is not None
                _LOG.info("worker ready", extra={"fields": {"worker": number, "worker_pid": worker.process.pid}})
                self._announce()
            case "failed":
                worker.reason = ask.text
            case "load" | "unload":
                async with self._change:
                    return await self._change_all(ask)
            case "pages":
                return Told(ask.number, pages=await self._pages())
        return Told(ask.number)

    def _announce(self) -> None:
        ready = sum(worker.ready for worker in self._workers.values())
        if not self._announced and ready == self._settings.workers:
            self._announced = True
            told = {"url": self._url, "pid": os.getpid(), "workers": ready}
            _LOG.info("listening", extra={"fields": told})

    async def _change_all(self, ask: Ask) -> Told:
        """Has all load or unload a model. One that dies meanwhile starts from the folder and the names kept here."""
        name, held = ask.text, ask.text in self._unloaded
        (self._unloaded.add if ask.verb == "unload" else self._unloaded.discard)(name)
        asked = [self._ask(worker, ask.verb, name) for worker in self._workers.values()]
        answers = [told for told in await asyncio.gather(*asked) if told is not None]
        failures = [told for told in answers if told.status != 200]
        unknown = bool(failures) and all(told.status == 404 for told in answers)
        if unknown:
            (self._unloaded.add if held else self._unloaded.discard)(name)
        elif ask.verb == "unload":
            failures = [told for told in failures if told.status != 404]
        return Told(ask.number, failures[0].status, failures[0].text) if failures else Told(ask.number)

    async def _pages(self) -> dict[int, str]:
        workers = {number: worker for number, worker in self._workers.items() if worker.ready}
        asked = [asyncio.wait_for(self._ask(worker, "page"), _PAGE_TIMEOUT_S) for worker in workers.values()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return {number: page for told in answers if isinstance(told, Told) for number, page in told.pages.items()}

    async def _ask(self, worker: _Worker, verb: str, text: str = "") -> Told | None:
        try:
            return await worker.channel.ask(verb, text)
        except Gone:
            return None
