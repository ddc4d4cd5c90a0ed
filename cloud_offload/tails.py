"""The tails made on demand that are loaded: each made once however many ask, and few kept."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cloud_offload.refusals import Refusal, busy
from cloud_offload.repository import ModelFiles
from cloud_offload.serving import Serving
from cloud_offload.settings import ServeSettings
from cloud_offload.tail_making import load_tail
from edge_sdk.errors import EdgeError, ModelError
from edge_sdk.offload.tail_names import TailName

__all__ = ["Tails"]

_LOG = logging.getLogger(__name__)
_MOST_WAITING = 16
_MOST_REFUSALS = 1024

Key = tuple[ModelFiles, TailName]
Make = Callable[[ModelFiles, TailName, ServeSettings], Serving]


class Tails:
    """Loaded tails by the files of their model and their name. All methods run on the event loop's thread.

    They are made one after the other in a thread of their own, so that no other model waits for one.

    Args:
        settings: `tails` says how many are kept; the one not asked for the longest goes.
        retire: takes those that go.
        make: makes one.
    """

    def __init__(self, settings: ServeSettings, retire: Callable[[Serving], None], make: Make = load_tail) -> None:
        self._settings, self._retire, self._make = settings, retire, make
        self._maker = ThreadPoolExecutor(1, "tails")
        self._loaded: OrderedDict[Key, Serving] = OrderedDict()
        self._making: dict[Key, asyncio.Task[Serving]] = {}
        # What cannot be made is not tried for each request: listing the cuts of a large graph takes seconds.
        self._refused: OrderedDict[Key, Refusal] = OrderedDict()
        self._closed = False

    def servings(self) -> list[Serving]:
        """All that are loaded."""
        return list(self._loaded.values())

    async def find(self, files: ModelFiles, name: TailName) -> Serving:
        """The tail `name` of the model in `files`, made where it is not there yet.

        Who waits may be cancelled; the tail is made nevertheless, for the next one who asks.

        Raises:
            Refusal: there can be none; 503 where too many others are to be made first.
        """
        key = files, name
        if (serving := self._loaded.get(key)) is not None:
            self._loaded.move_to_end(key)
            return serving
        if (refusal := self._refused.get(key)) is not None:
            raise Refusal(refusal.status, str(refusal))
        task = self._making.get(key)
        if task is None:
            if self._closed or len(self._making) >= _MOST_WAITING:
                raise busy(503, f"tail {str(name)[:200]!r}: {len(self._making)} others are being made; try again later")
            task = self._making[key] = asyncio.create_task(self._made(key))
            task.add_done_callback(_heard)
        serving = await asyncio.shield(task)
        # It may have gone again before this one was woken.
        return serving if self._loaded.get(key) is serving else await self.find(files, name)

    async def _made(self, key: Key) -> Serving:
        files, name = key
        fields = {"model": str(name), "version": files.version}
        try:
            loop = asyncio.get_running_loop()
            serving = await loop.run_in_executor(self._maker, self._make, files, name, self._settings)
        except (Refusal, EdgeError, OSError) as error:
            refusal = error if isinstance(error, Refusal) else Refusal(400, f"no tail can be made: {error}")
            if isinstance(error, Refusal | ModelError):
                self._refused[key] = Refusal(refusal.status, str(refusal))
                if len(self._refused) > _MOST_REFUSALS:
                    self._refused.popitem(last=False)
            _LOG.error("no tail made", extra={"fields": {**fields, "error": str(error)}})
            raise refusal from None
        finally:
            del self._making[key]
        if self._closed:
            self._retire(serving)
            raise busy(503, "the endpoint is stopping")
        self._loaded[key] = serving
        while len(self._loaded) > max(self._settings.tails, 1):
            self._retire(self._loaded.popitem(last=False)[1])
        _LOG.info("tail made", extra={"fields": {**fields, "batches": serving.batches}})
        return serving

    def forget(self, files: ModelFiles) -> None:
        """Lets go of all tails of a model that is no longer served."""
        for key in [k for k in self._loaded if k[0] == files]:
            self._retire(self._loaded.pop(key))
        for key in [k for k in self._refused if k[0] == files]:
            del self._refused[key]

    def close(self) -> None:
        """Lets go of everything; one that is being made is dropped when it is done."""
        self._closed = True
        for serving in self._loaded.values():
            self._retire(serving)
        self._loaded.clear()
        self._maker.shutdown(wait=False, cancel_futures=True)

    @property
    def making(self) -> bool:
        """Whether one is being made."""
        return bool(self._making)


def _heard(task: asyncio.Task[Serving]) -> None:
    """Takes note of a failure for which nobody waits any more."""
    if not task.cancelled():
        task.exception()
