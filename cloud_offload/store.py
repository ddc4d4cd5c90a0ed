"""The models that are loaded: load, unload, index, and reload without losing a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from cloud_offload.refusals import Refusal, unknown_model
from cloud_offload.repository import ModelFiles, listed
from cloud_offload.serving import Serving, load_serving
from cloud_offload.settings import ServeSettings
from cloud_offload.tails import Tails
from cloud_offload.triton_config import read_config
from edge_sdk.errors import EdgeError, InputError, UnreadableInput
from edge_sdk.offload.tail_names import TailName

__all__ = ["Store"]

_LOG = logging.getLogger(__name__)
Load = Callable[[ModelFiles, ServeSettings], Serving]


class Store:
    """Loaded versions by name. All methods run on the event loop's thread; loading itself happens in `loader`.

    A changed file is loaded beside the old version, then takes its place in one step: requests that hold the old one
    finish on it. Where loading fails the old one stays.

    Args:
        settings: of the endpoint.
        loader: loads models.
        load: loads one.
        unloaded: models that are not loaded before `load` asks for them.

    Attributes:
        ready: whether everything that the repository held at the start was tried.
    """

    def __init__(
        self, settings: ServeSettings, loader: Executor, load: Load = load_serving, unloaded: Iterable[str] = ()
    ) -> None:
        self._settings, self._loader, self._load = settings, loader, load
        self._loaded: dict[str, dict[int, Serving]] = {}
        self._failed: dict[tuple[str, int], tuple[tuple[int, ...], str]] = {}
        self._unloaded = set(unloaded)
        self._ending: list[Serving] = []
        self._tails = Tails(settings, self._let_go)
        self._change = asyncio.Lock()
        self.ready = False

    def find(self, name: str, version: str = "") -> Serving:
        """The loaded model `name`, its highest version where `version` is empty.

        Raises:
            Refusal: there is none.
        """
        versions = self._loaded.get(name)
        if not versions:
            raise unknown_model(name)
        if not version:
            return versions[max(versions)]
        # A key of digits in its plain form only, so that "01" or "١" are not another way to write 1.
        serving = next((s for number, s in versions.items() if str(number) == version), None)
        if serving is None:
            raise unknown_model(name, version)
        return serving

    async def obtain(self, name: str, version: str = "") -> Serving:
        """As `find`, and also a tail of a loaded model, which is made where it is not there yet: see `TailName`.

        Raises:
            Refusal: there is none, and none can be made.
        """
        try:
            tail = TailName.parse(name)
        except InputError as error:
            raise Refusal(404, str(error)) from None
        if tail is None:
            return self.find(name, version)
        return await self._tails.find(self.find(tail.model, version).files, tail)

    def versions(self, name: str) -> list[str]:
        """The loaded versions of `name`, or of the model whose tail it names, rising."""
        return [str(v) for v in sorted(self._loaded.get(name.partition(":")[0].partition("@")[0], {}))]

    def servings(self) -> list[Serving]:
        """All loaded versions, and tails."""
        whole = [serving for versions in self._loaded.values() for serving in versions.values()]
        return whole + self._tails.servings()

    async def _listed(self) -> dict[str, dict[int, ModelFiles]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._loader, listed, self._settings.repository)

    async def refresh(self) -> None:
        """Brings what is loaded in line with the folder: new, changed and removed versions. Failures are logged.

        Raises:
            UnreadableInput: the repository cannot be read.
        """
        async with self._change:
            found = await self._listed()
            for name in (self._loaded.keys() | found.keys()) - self._unloaded:
                await self._bring_in_line(name, found.get(name, {}), again=False)
            self.ready = True

    async def load(self, name: str) -> None:
        """Loads `name`, or loads it again where its files changed.

        Raises:
            Refusal: there is none, or a version cannot be used; what was loaded of it stays.
        """
        async with self._change:
            files = (await self._listed()).get(name)
            if not files:
                raise unknown_model(name)
            self._unloaded.discard(name)
            failures = await self._bring_in_line(name, files, again=True)
            if failures:
                raise Refusal(400, failures[0])

    async def unload(self, name: str) -> None:
        """Unloads all versions of `name`; requests in progress finish.

        Raises:
            Refusal: it is not loaded.
        """
        async with self._change:
            if name not in self._loaded:
                raise unknown_model(name)
            self._unloaded.add(name)
            for serving in self._loaded.pop(name).values():
                self._retire(serving)
            _LOG.info("unloaded", extra={"fields": {"model": name}})

    async def _bring_in_line(self, name: str, found: dict[int, ModelFiles], again: bool) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            config = await loop.run_in_executor(self._loader, read_config, self._settings.repository / name)
        except UnreadableInput as error:
            failed = {(name, number): (files.stamp, str(error)) for number, files in found.items()}
            if not failed.items() <= self._failed.items():  # told once, not each time the folder is looked at
                _LOG.error("load failed", extra={"fields": {"model": name, "error": str(error)}})
            self._failed |= failed
            return [f"model {name!r} cannot be loaded: {error}"]
        settings = self._settings
        if config.max_batch is not None:
            settings = replace(settings, max_batch=min(settings.max_batch, config.max_batch))
        wanted = (config.policy or settings.policy).choose(tuple(found))
        failures = []
        for number in wanted:
            files, old = found[number], self._loaded.get(name, {}).get(number)
            if old is not None and old.files.stamp == files.stamp:
                continue
            failure = self._failed.get((name, number))
            if failure is not None and failure[0] == files.stamp and not again:
                continue
            try:
                new = await loop.run_in_executor(self._loader, self._load, files, settings)
            except (EdgeError, OSError) as error:
                self._failed[name, number] = (files.stamp, str(error))
                failures.append(f"version {number} of model {name!r} cannot be loaded: {error}")
                _LOG.error("load failed", extra={"fields": {"model": name, "version": number, "error": str(error)}})
                continue
            self._failed.pop((name, number), None)
            self._loaded.setdefault(name, {})[number] = new
            if old is not None:
                self._retire(old)
            _LOG.info("loaded", extra={"fields": {"model": name, "version": number, "batches": new.batches}})
        self._drop_others(name, wanted, failures)
        return failures

    def _drop_others(self, name: str, wanted: tuple[int, ...], failures: list[str]) -> None:
        if failures:
            return  # the versions before are better than none
        versions = self._loaded.get(name, {})
        for number in [v for v in versions if v not in wanted]:
            self._retire(versions.pop(number))
        if not versions:
            self._loaded.pop(name, None)

    async def index(self, ready_only: bool) -> list[dict[str, Any]]:
        """The repository index: every version that is loaded or could be, with its state and why it is not ready."""
        found = await self._listed()
        pairs = {(n, v) for n, versions in found.items() for v in versions}
        pairs |= {(n, v) for n, versions in self._loaded.items() for v in versions}
        rows = []
        for name, number in sorted(pairs):
            ready = number in self._loaded.get(name, {})
            failure = self._failed.get((name, number))
            reason = failure[1] if failure is not None else "" if ready else "unloaded"
            if ready or not ready_only:
                state = "READY" if ready else "UNAVAILABLE"
                rows.append({"name": name, "version": str(number), "state": state, "reason": reason})
        return rows

    def close(self) -> bool:
        """Retires everything. Returns whether anything is still being computed."""
        self._tails.close()
        for serving in self.servings():
            self._retire(serving)
        self._loaded.clear()
        return self._tails.making or any(serving.computing for serving in self._ending)

    def _retire(self, serving: Serving) -> None:
        self._tails.forget(serving.files)
        self._let_go(serving)

    def _let_go(self, serving: Serving) -> None:
        serving.retire()
        self._ending = [s for s in (*self._ending, serving) if s.computing]
