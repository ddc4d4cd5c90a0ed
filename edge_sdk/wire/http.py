"""An endpoint that speaks the Open Inference Protocol v2 over HTTP, with the binary tensor extension.

Source: https://github.com/kserve/open-inference-protocol (REST), and Triton's extension for binary tensor data.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from edge_sdk.breaker import Breaker
from edge_sdk.errors import DeadlineExceeded, EndpointError, EndpointRefused, InputError, InvalidAnswer, WireError
from edge_sdk.tensors import TensorSpec
from edge_sdk.wire.body import decode_response, encode_request
from edge_sdk.wire.channel import Channel, Setup
from edge_sdk.wire.connections import Address, Connection, Connections, TlsFiles
from edge_sdk.wire.content_coding import coded, decoded, known_codings
from edge_sdk.wire.deadline import NO_DEADLINE, Deadline
from edge_sdk.wire.encoded import Encoded, Feed
from edge_sdk.wire.endpoint import BUNDLE, Answer, Endpoint, ModelMetadata, TailIdentity, check_answer
from edge_sdk.wire.exchange import HEADER_LENGTH, Reply, exchange
from edge_sdk.wire.http_passage import passage_of, told_in_headers
from edge_sdk.wire.limits import Limits
from edge_sdk.wire.link import Link
from edge_sdk.wire.load import Load
from edge_sdk.wire.metadata import read_configuration, read_document, read_metadata
from edge_sdk.wire.overdue import Transfer
from edge_sdk.wire.retry import NO_RETRY, Retry

__all__ = ["HttpEndpoint"]

DEADLINE = "deadline-ms"
BINARY = "binary_tensor_data"
TOLD_OTHERWISE = frozenset({401, 403, 404, 405, 408, 413, 429, 503, 504})
"""Statuses of refusals that have nothing to do with how tensors travel."""
VERIFIED_FOR_S = 60.0
"""An endpoint may load another tail while the connection stands, and one that is not ours tells so only when asked."""
LONGEST_REASON = 300
LONGEST_RETRY_AFTER_S = 3600.0
PROBE = "/v2/edge-probe"
NO_PROBE = frozenset({400, 404, 405, 501})
"""What servers say that have nothing there."""
MOST_PROBE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request as it travels; `binary` tells how its tensors do."""

    binary: bool
    headers: dict[str, str]
    parts: Sequence[bytes | memoryview]
    size_bytes: int


class HttpEndpoint(Endpoint):
    """Runs models at a server; see `Endpoint`. Tensors travel as binary data, and as JSON to servers that have no such
    extension.

    Args:
        url: `http://HOST:PORT` or `https://…`, with what stands before `/v2` if anything does.
        token: sent as bearer token.
        tls: certificates, for https.
        connect_timeout_s: how long connecting may take, and asking for the model's metadata once connected.
        timeout_s: how long a request without a nearer deadline may take.
        connections: idle connections kept.
        coding: content coding of requests: "", "gzip", "deflate" or "zstd"; worth it on slow links only. With one,
            answers may come in any of them; without, they are asked for as they are.
        limits: of an answer: sizes, depth.
        retry: tries and pauses; None for the usual.
        breaker: None for one with the usual figures.

    Raises:
        InputError: address, token, coding or certificates cannot be used.
        MissingExtra: `coding` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        tls: TlsFiles | None = None,
        connect_timeout_s: float = 2.0,
        timeout_s: float = 30.0,
        connections: int = 8,
        coding: str = "",
        limits: Limits | None = None,
        retry: Retry | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        address = Address.of(url)
        self.name = f"{'https' if address.tls else 'http'}://{address.authority}{address.path}"
        self.link, self.load = Link(), Load()
        self.breaker = breaker or Breaker()
        self._path = address.path
        self._coding = coding
        self._limits = limits or Limits()
        self._headers = _headers(address, token, coding)
        if coding:
            coded((), coding)  # an unknown or missing one is told now, not with the first request
        self._timeout_s = timeout_s
        self._binary, self._binary_known = True, False
        self._takes_probes = True
        self._connections = Connections(address, tls or TlsFiles(), connect_timeout_s, connections)
        self._channel = Channel(
            self.name,
            self._connections,
            self.link,
            self.breaker,
            retry or Retry(),
            timeout_s=timeout_s,
            setup_timeout_s=connect_timeout_s,
        )

    def infer(
        self,
        model: str,
        feeds: Mapping[str, Feed],
        *,
        outputs: Sequence[str] | None = None,
        version: str = "",
        deadline: Deadline = NO_DEADLINE,
        identity: TailIdentity | None = None,
        expected: Sequence[TensorSpec] | None = None,
        refuse_nan: bool = False,
        transfer: Transfer | None = None,
        content_coding: str = "",
    ) -> Answer:
        """See `Endpoint.infer`."""
        where = f"{self.name}: model {model!r}"
        target = f"{self._target(model, version)}/infer"
        setup = None if identity is None else self._verification(model, version, identity)

        def asked(sent: _Sent) -> Answer:
            def ask(connection: Connection, left: Deadline) -> Answer:
                began_s = time.monotonic()
                told = _with_deadline(sent.headers, left)
                reply = exchange(connection, "POST", target, told, sent.parts, self._limits.max_body_bytes, where)
                duration_ms = (time.monotonic() - began_s) * 1e3
                answer = self._answer(reply, sent.size_bytes, duration_ms, where)
                if identity is not None:
                    identity.check(answer.parameters, where, required=False)
                if expected is not None:
                    check_answer(answer.outputs, expected, where, refuse_nan)
                passage = passage_of(connection, sent.size_bytes, told, reply, answer.parameters, duration_ms)
                self.link.record(passage)
                self.load.record(model, passage)
                return answer

            return self._channel.ask(ask, deadline, transfer, sent.size_bytes, setup)

        sent = self._sent(feeds, outputs, content_coding or self._coding)
        try:
            return asked(sent)
        except EndpointRefused as error:
            if not (sent.binary and self._lacks_binary(error, deadline)):
                raise
        return asked(self._sent(feeds, outputs, content_coding or self._coding))

    def metadata(self, model: str, *, version: str = "", deadline: Deadline = NO_DEADLINE) -> ModelMetadata:
        """See `Endpoint.metadata`."""
        return self._channel.ask(lambda on, left: self._metadata(on, model, version, left), deadline)

    def probe(self, up_bytes: int = 0, down_bytes: int = 0, *, deadline: Deadline = NO_DEADLINE) -> bool:
        """See `Endpoint.probe`; at most 1 MiB each way."""
        up_bytes, down_bytes = min(up_bytes, MOST_PROBE_BYTES), min(down_bytes, MOST_PROBE_BYTES)

        def carried(connection: Connection, left: Deadline) -> bool:
            carries = self._takes_probes and (up_bytes > 0 or down_bytes > 0)
            method, target = ("POST", f"{PROBE}?bytes={down_bytes}") if carries else ("GET", "/v2/health/live")
            # Random bytes, since something on the way may compress.
            content = os.urandom(up_bytes) if carries else b""
            headers, began_s = _with_deadline(self._headers, left), time.monotonic()
            reply = exchange(
                connection, method, self._path + target, headers, (content,), self._limits.max_body_bytes, self.name
            )
            duration_ms = (time.monotonic() - began_s) * 1e3
            if carries and reply.status in NO_PROBE:
                self._takes_probes = False
            elif carries:
                self._content(reply, self.name)
            # Any answer tells the round trip, also that there is nothing to ask.
            told = told_in_headers(reply)
            self.link.record(passage_of(connection, len(content), headers, reply, told, duration_ms), usual=False)
            return carries and self._takes_probes

        return self._channel.ask(carried, deadline, sent_bytes=up_bytes)

    def ready(self, model: str = "", *, version: str = "", deadline: Deadline = NO_DEADLINE) -> bool:
        """Whether the endpoint, or `model` there, is ready to run; false too where it cannot be reached in time."""
        target = f"{self._target(model, version)}/ready" if model else f"{self._path}/v2/health/ready"
        try:
            self._channel.ask(lambda on, left: self._get(on, target, left, self.name), deadline)
        except (EndpointError, DeadlineExceeded):
            return False
        return True

    def call(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        parts: Sequence[bytes | memoryview],
        timeout_s: float,
        where: str,
    ) -> Reply:
        """One exchange that is no inference, on the same connections and with the same token.

        Neither link nor breaker learns from it: it may take minutes where inference takes milliseconds.

        Args:
            method: as HTTP has it.
            target: path below what stands before `/v2`, quoted.
            headers: beside those that every request has.
            parts: the body.
            timeout_s: how long it may take.
            where: what messages call it.

        Raises:
            EndpointRefused: the status is an error.
            EndpointUnreachable, InvalidAnswer, DeadlineExceeded: there was no answer.
        """
        aside = Channel(
            self.name, self._connections, Link(), Breaker(), NO_RETRY, timeout_s=timeout_s, setup_timeout_s=timeout_s
        )

        def ask(connection: Connection, _: Deadline) -> Reply:
            told = {**self._headers, **headers}
            reply = exchange(
                connection, method, f"{self._path}{target}", told, parts, self._limits.max_body_bytes, where
            )
            if reply.status >= 300:
                self._content(reply, where)
            return Reply(reply.status, reply.headers, self._body(reply, where))

        return aside.ask(ask, NO_DEADLINE)

    def close(self) -> None:
        """See `Endpoint.close`."""
        self._connections.close()

    def _sent(self, feeds: Mapping[str, Feed], outputs: Sequence[str] | None, coding: str) -> _Sent:
        binary = self._binary
        if not binary and any(isinstance(feed, Encoded) for feed in feeds.values()):
            raise EndpointRefused(f"{self.name}: takes tensors as JSON only, so none that are encoded", 415)
        body = encode_request(feeds, outputs=outputs, binary=binary)
        headers = {**self._headers, "Content-Type": "application/octet-stream" if binary else "application/json"}
        if body.header_length is not None:
            headers[HEADER_LENGTH] = str(body.header_length)
        if not coding:
            return _Sent(binary, headers, body.parts, body.size)
        content = coded(body.parts, coding)
        return _Sent(binary, {**headers, "Content-Encoding": coding}, (content,), len(content))

    def _lacks_binary(self, error: EndpointRefused, deadline: Deadline) -> bool:
        """Whether a request was refused because tensors came as binary data, an extension that not all servers have.

        Only a server that lists its extensions without this one is taken at its word, and asked in JSON from then on.
        """
        if not self._binary_known and error.status not in TOLD_OTHERWISE:
            try:
                # Aside: what it answers here says nothing about the failure that the breaker has just heard of.
                reply = self.call("GET", "/v2", {}, (), deadline.within(self._timeout_s).left_s(), self.name)
                told = read_document(reply.body).get("extensions")
            except EndpointRefused:
                told = None
            except (EndpointError, DeadlineExceeded):
                return False
            self._binary_known = True
            self._binary = not isinstance(told, list) or BINARY in told
        return not self._binary

    def _target(self, model: str, version: str) -> str:
        target = f"{self._path}/v2/models/{quote(model, safe='')}"
        return f"{target}/versions/{quote(version, safe='')}" if version else target

    def _get(self, connection: Connection, target: str, left: Deadline, where: str) -> memoryview:
        headers = _with_deadline(self._headers, left)
        return self._content(
            exchange(connection, "GET", target, headers, (), self._limits.max_body_bytes, where), where
        )

    def _metadata(self, connection: Connection, model: str, version: str, left: Deadline) -> ModelMetadata:
        where = f"{self.name}: model {model!r}"
        metadata = read_metadata(self._get(connection, self._target(model, version), left, where), where)
        self.load.told(model, metadata.parameters)
        return metadata

    def _configured(self, connection: Connection, model: str, version: str, left: Deadline) -> dict[str, str]:
        """Parameters of a model's configuration, where Triton tells what its metadata do not."""
        try:
            body = self._get(connection, f"{self._target(model, version)}/config", left, self.name)
        except EndpointRefused:
            return {}
        return read_configuration(body)

    def _verification(self, model: str, version: str, identity: TailIdentity) -> Setup:
        """Asks for the metadata on the very connection that will carry the request: another one may lead to another
        process."""
        key = (model, version, identity)

        def done(connection: Connection) -> bool:
            found_s = connection.verified.get(key)
            return found_s is not None and time.monotonic() - found_s <= VERIFIED_FOR_S

        def run(connection: Connection, left: Deadline) -> None:
            told = self._metadata(connection, model, version, left).parameters
            if BUNDLE not in told:
                told = self._configured(connection, model, version, left)
            identity.check(told, f"{self.name}: model {model!r}")
            connection.verified[key] = time.monotonic()

        return Setup(done, run)

    def _body(self, reply: Reply, where: str) -> memoryview:
        coding = (reply.headers.get("Content-Encoding") or "").strip().lower()
        return decoded(reply.body, coding, self._limits.max_body_bytes, where)

    def _content(self, reply: Reply, where: str) -> memoryview:
        """The body, decompressed.

        Raises:
            EndpointRefused: the status is an error, with the reason that the endpoint gives.
            InvalidAnswer: the content coding is broken.
        """
        body = self._body(reply, where)
        if reply.status == 200:
            return body
        reason = read_document(body).get("error") or bytes(body[:LONGEST_REASON]).decode("utf-8", "replace")
        line = " ".join(str(reason).split())[:LONGEST_REASON]
        raise EndpointRefused(
            f"{where}: refused with status {reply.status}: {line or 'no reason given'}",
            reply.status,
            _retry_after_s(reply.headers.get("Retry-After")),
        )

    def _answer(self, reply: Reply, sent_bytes: int, duration_ms: float, where: str) -> Answer:
        body = self._content(reply, where)
        told = reply.headers.get(HEADER_LENGTH)
        try:
            if told is not None and not (told.isascii() and told.isdigit() and len(told) < 12):
                raise InvalidAnswer(f"{where}: {HEADER_LENGTH} is {told[:40]!r}, expected a number of bytes")
            read = decode_response(body, None if told is None else int(told), self._limits)
        except WireError as error:
            raise InvalidAnswer(f"{where}: the answer is broken: {error}") from None
        size_bytes = sent_bytes + reply.body.nbytes
        return Answer(read.outputs, read.model_version or "", read.parameters or {}, size_bytes, duration_ms)


def _headers(address: Address, token: str | None, coding: str) -> dict[str, str]:
    # Servers compress for whoever accepts it, and compressing tensors takes longer than most links save.
    accepted = ", ".join(known_codings()) if coding else "identity"
    headers = {"Host": address.authority, "Accept-Encoding": accepted, "User-Agent": "edge-sdk"}
    if token is not None:
        if not token or any(ord(c) <= 32 or ord(c) >= 127 for c in token):
            raise InputError("the token is empty or holds spaces, control or non-ASCII characters")
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _with_deadline(headers: Mapping[str, str], left: Deadline) -> dict[str, str]:
    """What is left now: no clock need agree with another."""
    return {**headers, DEADLINE: str(max(math.floor(left.left_s() * 1e3), 0))}


def _retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: a number, or a date); None where it says nothing usable."""
    if not value:
        return None
    if value.isascii() and value.strip().isdigit() and len(value) < 12:
        return min(float(value), LONGEST_RETRY_AFTER_S)
    try:
        left_s = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError, TypeError):
        return None
    return min(max(left_s, 0.0), LONGEST_RETRY_AFTER_S)
