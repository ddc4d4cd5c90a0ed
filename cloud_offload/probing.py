"""Probes of the link: meaningless bytes are taken, and as many as are wished for sent back.

    POST /v2/edge-probe?bytes=N      any body; N meaningless bytes come back, and when the body came in headers

At most 1 MiB each way, and nothing of it is kept.
"""

from __future__ import annotations

import asyncio
import os
from urllib.parse import parse_qs

from cloud_offload.exchange import TYPE_BINARY, Exchange
from cloud_offload.refusals import Refusal

__all__ = ["MOST_PROBE_BYTES", "answer_probe"]

MOST_PROBE_BYTES = 1 << 20
_PIECE = memoryview(os.urandom(1 << 16))


async def answer_probe(exchange: Exchange, timeout_s: float) -> None:
    """Takes the body and sends as many bytes as the query asks for.

    Raises:
        Refusal: 400 where the query is no number of bytes, 413 where either way is too long, 408 where the body takes
            longer than `timeout_s`.
    """
    wished = _wished_bytes(exchange.query)
    if wished > MOST_PROBE_BYTES or (exchange.number(b"content-length") or 0) > MOST_PROBE_BYTES:
        raise Refusal(413, f"a probe has at most {MOST_PROBE_BYTES} bytes each way")
    came = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in exchange.chunks():
                came += len(chunk)
                if came > MOST_PROBE_BYTES:
                    raise Refusal(413, f"a probe has at most {MOST_PROBE_BYTES} bytes each way")
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {timeout_s:g} s") from None
    told = [(key.replace("_", "-").encode(), str(ms).encode()) for key, ms in exchange.arrival.told().items()]
    parts = [_PIECE] * (wished // len(_PIECE)) + [_PIECE[: wished % len(_PIECE)]]
    await exchange.answer(200, parts, TYPE_BINARY, told)


def _wished_bytes(query: bytes) -> int:
    values = parse_qs(query.decode("latin-1"), max_num_fields=4).get("bytes", ["0"]) if query else ["0"]
    text = values[0]
    if len(values) > 1 or not (text.isascii() and text.isdigit() and len(text) < 12):
        raise Refusal(400, f"bytes is {text[:40]!r}, expected a number of bytes")
    return int(text)
