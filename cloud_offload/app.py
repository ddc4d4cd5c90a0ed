"""The endpoint as an ASGI application: Open Inference Protocol v2 over HTTP, the repository calls, and /metrics.

Source: Open Inference Protocol v2 (REST); Triton's "Model Repository" and "Binary Tensor Data" extensions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import Any

import msgspec

from cloud_offload.access import ClientLimit, Tokens
from cloud_offload.exchange import Budget, Exchange, Receive, Scope, Send
from cloud_offload.inference import DEADLINE, Inference
from cloud_offload.observing import Meters
from cloud_offload.pace import expected_queue_s
from cloud_offload.probing import answer_probe
from cloud_offload.refusals import Refusal, late, unknown_model
from cloud_offload.serving import Serving
from cloud_offload.settings import ServeSettings
from cloud_offload.store import Store
from cloud_offload.uploads import Uploads
from cloud_offload.worker import Siblings
from edge_sdk import __version__
from edge_sdk.errors import EdgeError, EngineError, InputError, WireError
from edge_sdk.tensors import TensorSpec
from edge_sdk.wire.json_head import scan

__all__ = ["Application"]

_LOG = logging.getLogger("cloud_offload")
_EXTENSIONS = ("binary_tensor_data", "model_repository")
_SMALL_BYTES = 64 * 2**10
_DATATYPES = {"string": "BYTES", "float16": "FP16", "float32": "FP32", "float64": "FP64", "bfloat16": "BF16"}


class Application:
    """The endpoint. Call as ASGI has it; `lifespan` loads the repository and lets go of it.

    Args:
        settings: of the endpoint.
        siblings: where it is one of several processes, the others.

    Attributes:
        still_computing: after the end, whether a thread computes what nobody waits for any more.

    Raises:
        InputError: the token file cannot be used.
    """

    def __init__(self, settings: ServeSettings, siblings: Siblings | None = None) -> None:
        self._settings, self._siblings = settings, siblings
        self._tokens = Tokens(settings.token_file) if settings.token_file is not None else None
        self._clients = ClientLimit(settings.per_client)
        self._workers = ThreadPoolExecutor(settings.threads, "infer")
        self._helpers = ThreadPoolExecutor(2, "helper")
        self.store = Store(settings, self._helpers, unloaded=siblings.unloaded if siblings is not None else ())
        self.meters = Meters(self.store)
        self._infer = Inference(settings, self._workers, self._helpers, self.meters)
        self._uploads = Uploads(settings, self.store)
        self._watching: asyncio.Task[None] | None = None
        self.still_computing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request, or the start and end of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(Exchange(scope, receive, send))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._siblings is not None:
            await self._siblings.open(self.store, self.meters)
        try:
            await self.store.refresh()
        except EdgeError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        if self._settings.watch_s:
            self._watching = asyncio.create_task(self._watch())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._watching is not None:
            self._watching.cancel()
        checking = self._uploads.close()
        self.still_computing = self.store.close() or checking
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._helpers.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._settings.watch_s)
            try:
                await self.store.refresh()
            except EdgeError as error:
                _LOG.error("refresh failed", extra={"fields": {"error": str(error)}})

    async def _serve(self, exchange: Exchange) -> None:
        began = perf_counter()
        reason = ""
        try:
            await self._route(exchange)
        except Exception as error:  # nothing may end a connection without an answer
            status, reason, headers = _told(error)
            if exchange.status:
                raise  # the answer has begun: only cutting it off says that it is not whole
            exchange.status = status
            with suppress(OSError):
                await exchange.answer(status, [msgspec.json.encode({"error": reason})], headers=headers)
        finally:
            self.meters.requests.labels(str(exchange.status)).inc()
            if _LOG.isEnabledFor(logging.INFO):
                ms = round((perf_counter() - began) * 1e3, 3)
                fields = {"method": exchange.method, "path": exchange.path[:200], "status": exchange.status, "ms": ms}
                fields |= {"client": exchange.client, "bytes": exchange.held_bytes}
                _LOG.info("request", extra={"fields": {**fields, "error": reason} if reason else fields})

    async def _route(self, exchange: Exchange) -> None:
        match exchange.segments:
            case ["v2", "health", "live"]:
                await self._json(exchange, {"live": True})
                return
            case ["v2", "health", "ready"]:
                if not self.store.ready:
                    raise Refusal(400, "the models are still being loaded")
                await self._json(exchange, {"live": True, "ready": True})
                return
        client = exchange.client
        if self._tokens is not None:
            client = self._tokens.check(exchange.header(b"authorization"))
        match exchange.segments:
            case ["v2"]:
                await self._json(exchange, {"name": "edge-sdk", "version": __version__, "extensions": _EXTENSIONS})
            case ["metrics"]:
                _expect(exchange, "GET")
                page = self.meters.page() if self._siblings is None else await self._siblings.page()
                await exchange.answer(200, [page], b"text/plain; version=0.0.4; charset=utf-8")
            case ["v2", "edge-probe"]:
                _expect(exchange, "POST")
                with self._clients.holding(client):
                    await answer_probe(exchange, self._settings.body_timeout_s)
            case ["v2", "repository", "index"]:
                await self._index(exchange)
            case ["v2", "repository", "models", name, ("load" | "unload") as verb]:
                _expect(exchange, "POST")
                _check_parameters(await self._options(exchange), verb)
                models = self._siblings or self.store
                await (models.load(name) if verb == "load" else models.unload(name))
                await exchange.answer(200, [])
            case ["v2", "repository", "models", name, "uploads", *rest]:
                with self._clients.holding(client):
                    await self._uploads(exchange, name, rest)
            case ["v2", "models", name, *rest]:
                with self._clients.holding(client):
                    await self._model(exchange, name, rest)
            case _:
                raise Refusal(404, f"there is nothing at {exchange.path[:200]!r}")

    async def _model(self, exchange: Exchange, name: str, rest: list[str]) -> None:
        version = ""
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
            if not version:
                raise unknown_model(name, "''")
        match rest:
            case []:
                serving = await self._find(exchange, name, version)
                told = serving.pace.told(self._ahead_s())
                await self._json(exchange, _metadata(serving, self.store.versions(name), told))
            case ["ready"]:
                serving = await self._find(exchange, name, version)
                await self._json(exchange, {"name": serving.files.name, "ready": True})
            case ["infer"]:
                _expect(exchange, "POST")
                serving = await self._find(exchange, name, version)
                with serving.held():
                    await self._infer(exchange, serving)
            case _:
                raise Refusal(404, f"there is nothing at {exchange.path[:200]!r}")

    def _ahead_s(self) -> float:
        """How long a request that comes now would wait for those that are there."""
        present = [(serving.pace, serving.in_progress) for serving in self.store.servings()]
        return expected_queue_s(present, self._settings.threads)

    async def _find(self, exchange: Exchange, name: str, version: str) -> Serving:
        deadline_ms = exchange.number(DEADLINE)
        try:
            async with asyncio.timeout(None if deadline_ms is None else deadline_ms / 1e3):
                return await self.store.obtain(name, version)
        except TimeoutError:
            raise late(f"model {name[:200]!r}") from None

    async def _json(self, exchange: Exchange, content: Any, method: str = "GET") -> None:
        _expect(exchange, method)
        await exchange.answer(200, [msgspec.json.encode(content)])

    async def _index(self, exchange: Exchange) -> None:
        _expect(exchange, "POST")
        options = await self._options(exchange)
        ready = options.get("ready", False)
        if not isinstance(ready, bool):
            raise Refusal(400, "repository index: 'ready' is no true or false")
        await self._json(exchange, await self.store.index(ready), "POST")

    async def _options(self, exchange: Exchange) -> dict[str, Any]:
        """The small JSON object that comes with a repository call; empty where there is no body."""
        timeout_s = self._settings.body_timeout_s
        body = await exchange.body(_SMALL_BYTES, timeout_s, Budget(_SMALL_BYTES))
        if not len(body):
            return {}
        scan(body, self._settings.limits, "repository call")
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Refusal(400, f"repository call: {' '.join(str(error).split())[:200]}") from None


def _check_parameters(options: dict[str, Any], verb: str) -> None:
    """Refuses what would have to be obeyed: a model is loaded as it lies in the repository."""
    parameters = options.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refusal(400, f"{verb}: 'parameters' is no object")
    if refused := next((key for key in parameters if key == "config" or key.startswith("file:")), None):
        raise Refusal(
            400, f"{verb}: the parameter {refused[:40]!r} is not supported here; put the file in the repository"
        )
    if not isinstance(parameters.get("unload_dependents", False), bool):
        raise Refusal(400, f"{verb}: the parameter 'unload_dependents' is no true or false")


def _expect(exchange: Exchange, method: str) -> None:
    if exchange.method != method and not (method == "GET" and exchange.method == "HEAD"):
        raise Refusal(405, f"{exchange.path[:200]!r} takes {method}", ((b"allow", method.encode()),))


def _told(error: Exception) -> tuple[int, str, tuple[tuple[bytes, bytes], ...]]:
    """Status, reason and headers for what ended a request."""
    if isinstance(error, Refusal):
        return error.status, str(error), error.headers
    if isinstance(error, WireError):
        return error.status, str(error), ()
    if isinstance(error, InputError):
        return 400, str(error), ()
    if not isinstance(error, EngineError):
        # What it says may hold paths or contents: it goes to the log, not to the client.
        _LOG.error("internal error", exc_info=error)
        return 500, "the endpoint failed; its log tells why", ()
    return 500, str(error), ()


def _metadata(serving: Serving, versions: list[str], told: Mapping[str, float]) -> dict[str, Any]:
    return {
        "name": serving.files.name,
        "versions": versions,
        "platform": serving.files.platform,
        "inputs": [_tensor(spec) for spec in serving.session.inputs],
        "outputs": [_tensor(spec) for spec in serving.session.outputs],
        "parameters": {**serving.parameters, **told},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    datatype = _DATATYPES.get(spec.dtype) or spec.dtype.upper()
    return {
        "name": spec.name,
        "datatype": datatype,
        "shape": [d if isinstance(d, int) else -1 for d in spec.shape or ()],
    }
