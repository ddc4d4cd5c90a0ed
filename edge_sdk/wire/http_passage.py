"""From an HTTP exchange to what it showed of the link."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPMessage
from typing import Any

from edge_sdk.wire.connections import Connection
from edge_sdk.wire.exchange import HEADER_LENGTH, Reply
from edge_sdk.wire.passage import COMPUTE, QUEUE, RECEIVE, RECEIVE_BYTES, Passage, told_ms
from edge_sdk.wire.socket_facts import packets

__all__ = ["passage_of", "told_in_headers"]

_MOST_DIGITS = 12


def passage_of(
    connection: Connection,
    sent_bytes: int,
    sent_headers: Mapping[str, str],
    reply: Reply,
    told: Mapping[str, Any],
    duration_ms: float,
) -> Passage:
    """What one exchange showed.

    Args:
        connection: that it went over; its packets are counted.
        sent_bytes: of the request's body.
        sent_headers: of the request.
        reply: that came.
        told: times that the endpoint tells; those that cannot be are left out.
        duration_ms: of the exchange.
    """
    before, connection.packets = connection.packets, packets(connection.sock)
    receive_ms = told_ms(told, RECEIVE, duration_ms)
    receive_bytes = told_ms(told, RECEIVE_BYTES, sent_bytes) or 0
    queue_ms = told_ms(told, QUEUE, duration_ms) or 0.0
    compute_ms = told_ms(told, COMPUTE, duration_ms) or 0.0
    return Passage(
        up_bytes=sent_bytes + reply.sent_head_bytes,
        down_bytes=reply.body.nbytes + reply.head_bytes,
        duration_ms=duration_ms,
        up_head_bytes=reply.sent_head_bytes + _json_bytes(sent_headers, sent_bytes),
        down_head_bytes=reply.head_bytes + _json_bytes(reply.headers, reply.body.nbytes),
        receive_ms=receive_ms,
        receive_bytes=0 if receive_ms is None else int(receive_bytes),
        queue_ms=queue_ms,
        compute_ms=compute_ms,
        answer_ms=reply.body_ms if reply.body_bytes else 0.0,
        answer_bytes=reply.body_bytes,
        packets=max(connection.packets[0] - before[0], 0),
        resent=max(connection.packets[1] - before[1], 0),
    )


def told_in_headers(reply: Reply) -> dict[str, float]:
    """The times that stand in an answer's headers, where it has no JSON to hold them."""
    told = {}
    for key in (RECEIVE, RECEIVE_BYTES):
        try:
            told[key] = float(reply.headers.get(key.replace("_", "-"), ""))
        except ValueError:
            continue
    return told


def _json_bytes(headers: Mapping[str, Any] | HTTPMessage, body_bytes: int) -> int:
    """Of a JSON head before tensors; 0 where it is not told, or compressed with them."""
    length = str(headers.get(HEADER_LENGTH) or "")
    if headers.get("Content-Encoding") or not (length.isascii() and length.isdigit() and len(length) < _MOST_DIGITS):
        return 0
    return min(int(length), body_bytes)
