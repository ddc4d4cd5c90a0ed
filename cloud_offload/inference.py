"""An inference request from its body to the body of its answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from time import monotonic, perf_counter
from typing import Any, TypeVar

import numpy as np

from cloud_offload.coding import accepted, compressed, expanded
from cloud_offload.exchange import TYPE_BINARY, TYPE_JSON, Budget, Exchange
from cloud_offload.observing import Meters
from cloud_offload.refusals import Refusal
from cloud_offload.serving import Serving
from cloud_offload.settings import ServeSettings
from cloud_offload.times import Times
from edge_sdk.errors import WireError
from edge_sdk.offload.input_coding import decode
from edge_sdk.tensors import Array
from edge_sdk.wire.body import Body, InferRequest, decode_request, encode_response
from edge_sdk.wire.datatypes import dtype_of
from edge_sdk.wire.tensor_data import checked_count

__all__ = ["DEADLINE", "Inference"]

T = TypeVar("T")

HEADER_LENGTH, DEADLINE = b"inference-header-content-length", b"deadline-ms"
_WORTH_COMPRESSING_BYTES = 1024
_SMALL_JSON_BYTES, _SMALL_ELEMENTS = 2**15, 2**12
"""What is read and written at once; more is left to a helper, so that others are answered meanwhile."""
_MOST_JSON_ELEMENTS = 2**22
_ELEMENT_BYTES = 64
"""Memory that an element takes as an object of its own, beside its content."""
_COPIES = 2
"""Of a picture while it is decoded: as the decoder gives it, and as the tensor has it."""
_REFUSED_PARAMETERS = ("classification", "shared_memory_region")
_SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")


class Inference:
    """Answers inference requests.

    Args:
        workers: threads that compute.
        helpers: threads that expand and compress.
    """

    def __init__(self, settings: ServeSettings, workers: Executor, helpers: Executor, meters: Meters) -> None:
        self._settings, self._workers, self._helpers, self._meters = settings, workers, helpers, meters
        self._budget = Budget(settings.max_pending_mb * 2**20)
        limits = settings.limits
        self._small = replace(
            limits,
            max_json_bytes=min(limits.max_json_bytes, _SMALL_JSON_BYTES),
            max_elements=min(limits.max_elements, _SMALL_ELEMENTS),
        )
        # Expanded bodies are within the budget once they are there: few may be on the way at once.
        self._expanding = asyncio.Semaphore(2)

    async def __call__(self, exchange: Exchange, serving: Serving) -> None:
        """Reads, computes and answers one request.

        Raises:
            Refusal, EdgeError: it cannot be answered; nothing was sent yet.
        """
        began, began_s = perf_counter(), monotonic()
        labels = (serving.meter, str(serving.files.version))
        try:
            deadline_ms = exchange.number(DEADLINE)
            deadline_s = math.inf if deadline_ms is None else began_s + deadline_ms / 1e3
            request = await self._read(exchange)
            times = Times(exchange.arrival)
            deadline_s = min(deadline_s, began_s + _timeout_s(request))
            if request.encoded:
                await self._decode(exchange, request)
            answer = await self._infer(request, serving, deadline_s, times)
            self._budget.take(answer.size)
        except BaseException:
            self._meters.failures.labels(*labels).inc()
            raise
        finally:
            self._budget.give_back(exchange.held_bytes)
            self._meters.received.inc(exchange.held_bytes)
        try:
            await self._send(exchange, answer)
        finally:
            self._budget.give_back(answer.size)
        self._meters.inferences.labels(*labels).inc()
        self._meters.seconds.labels(*labels).observe(perf_counter() - began)

    async def _read(self, exchange: Exchange) -> InferRequest:
        limits = self._settings.limits
        header_length = exchange.number(HEADER_LENGTH)
        coding = exchange.header(b"content-encoding").lower()
        # Compressed bodies are put where they fall, since their tensors begin elsewhere once expanded.
        offset = (header_length or 0) if coding in ("", "identity") else 0
        body = await exchange.body(limits.max_body_bytes, self._settings.body_timeout_s, self._budget, offset)
        if coding not in ("", "identity"):
            async with self._expanding:
                body = await self._helped(expanded, body, coding, limits.max_body_bytes)
                # From here on the expanded body is what is held.
                self._hold(exchange, len(body))
        try:
            return decode_request(body, header_length, self._small)
        except WireError as error:
            if error.status != 413:
                raise
        request = await self._helped(decode_request, body, header_length, limits)
        self._hold(exchange, _ELEMENT_BYTES * sum(a.size for a in request.inputs.values() if a.dtype.hasobject))
        return request

    async def _decode(self, exchange: Exchange, request: InferRequest) -> None:
        """Adds to a request's inputs those that came as files."""
        for name, encoded in request.encoded.items():
            # A few bytes may become many: they count before they are there.
            limits = self._settings.limits
            count = checked_count(name, encoded.shape, encoded.datatype, limits)
            self._hold(exchange, _COPIES * count * dtype_of(encoded.datatype, name).itemsize)
            request.inputs[name] = await self._helped(decode, encoded, name, limits)

    def _hold(self, exchange: Exchange, count: int) -> None:
        self._budget.take(count)
        exchange.held_bytes += count

    async def _helped(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._helpers, work, *arguments)

    async def _infer(self, request: InferRequest, serving: Serving, deadline_s: float, times: Times) -> Body:
        if any(request.parameters.get(key) for key in _SEQUENCES):
            raise Refusal(400, "sequences are not kept here: each request stands alone")
        where = f"model {serving.files.name!r}"
        names = [spec.name for spec in serving.session.outputs]
        for wanted in request.outputs:
            if wanted.name not in names:
                expected = ", ".join(names)
                raise Refusal(400, f"{where}: there is no output {wanted.name[:100]!r}; expected {expected}")
            if refused := next((key for key in _REFUSED_PARAMETERS if key in wanted.parameters), None):
                raise Refusal(400, f"output {wanted.name!r}: the parameter {refused} is not supported here")
        feeds = serving.check(await self._texts(request.inputs, serving))
        outputs, times.queue_s = await serving.infer(feeds, deadline_s, self._workers)
        binary: bool | set[str] = request.binary
        if request.outputs:
            outputs = {wanted.name: outputs[wanted.name] for wanted in request.outputs}
            binary = {wanted.name for wanted in request.outputs if wanted.binary}
        files = serving.files
        arrays = _arrays(outputs, files.name)
        serving.pace.record(*times.computed())
        encode = partial(
            encode_response,
            files.name,
            str(files.version),
            arrays,
            request_id=request.request_id,
            parameters={**serving.parameters, **times.told()},
            binary=binary,
        )
        return encode() if _objects(arrays, binary) <= _SMALL_ELEMENTS else await self._helped(encode)

    async def _texts(self, inputs: dict[str, Array], serving: Serving) -> dict[str, Any]:
        """BYTES as text for inputs that are text: engines take `str`."""
        texts = {spec.name for spec in serving.session.inputs if spec.dtype == "string"} & inputs.keys()
        if sum(inputs[name].size for name in texts) > _SMALL_ELEMENTS:
            return await self._helped(_decoded_texts, inputs, texts)
        return _decoded_texts(inputs, texts)

    async def _send(self, exchange: Exchange, body: Body) -> None:
        headers: list[tuple[bytes, bytes]] = []
        if body.header_length is not None:
            headers.append((HEADER_LENGTH, str(body.header_length).encode()))
        parts: tuple[bytes | memoryview, ...] = body.parts
        coding = accepted(exchange.header(b"accept-encoding")) if body.size > _WORTH_COMPRESSING_BYTES else None
        if coding is not None:
            loop = asyncio.get_running_loop()
            parts = (await loop.run_in_executor(self._helpers, compressed, parts, coding),)
            headers += [(b"content-encoding", coding.encode()), (b"vary", b"accept-encoding")]
        self._meters.sent.inc(sum(len(part) for part in parts))
        await exchange.answer(200, parts, TYPE_JSON if body.header_length is None else TYPE_BINARY, headers)


def _timeout_s(request: InferRequest) -> float:
    """The protocol's own deadline: the parameter `timeout`, in microseconds as Triton has it."""
    timeout_us = request.parameters.get("timeout", 0)
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or not 0 <= timeout_us < 2**63:
        raise Refusal(400, f"parameter timeout is {str(timeout_us)[:40]!r}, expected microseconds")
    return timeout_us / 1e6 if timeout_us else math.inf


def _objects(outputs: Mapping[str, Array], binary: bool | set[str]) -> int:
    """How many elements become objects of their own on their way into an answer.

    Raises:
        Refusal: too many.
    """
    in_json = sum(a.size for n, a in outputs.items() if not (binary if isinstance(binary, bool) else n in binary))
    if in_json > _MOST_JSON_ELEMENTS:
        raise Refusal(400, f"{in_json} elements are too many for JSON; ask for binary data (parameter binary_data)")
    return in_json + sum(a.size for a in outputs.values() if a.dtype.hasobject)


def _decoded_texts(inputs: dict[str, Array], texts: set[str]) -> dict[str, Any]:
    feeds: dict[str, Any] = dict(inputs)
    for name in texts:
        array = inputs[name]
        if array.dtype.kind == "O":
            try:
                values = [element.decode() for element in array.ravel().tolist()]
            except UnicodeDecodeError:
                raise Refusal(400, f"input {name!r}: an element is no UTF-8") from None
            feeds[name] = np.array(values, object).reshape(array.shape)
    return feeds


def _arrays(outputs: Mapping[str, Any], model: str) -> dict[str, Array]:
    for name, value in outputs.items():
        if not isinstance(value, np.ndarray):
            raise Refusal(400, f"model {model!r}: output {name!r} is no tensor; ask for the others by name")
    return dict(outputs)
