"""Requests as an adversary writes them: bytes for a socket, made from a number, the same each time.

`python -m tests.cloud_offload.hostile NUMBER` prints the case of that number, to be made a test of its own.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.wire.body import encode_request

__all__ = ["Case", "case"]

Random = random.Random


@dataclass(frozen=True)
class Case:
    """What is sent on one connection, in these pieces.

    Attributes:
        allowed: statuses of 500 and above that are right here: 503 where something is truly busy, 504 where late.
    """

    number: int
    kind: str
    pieces: tuple[bytes, ...]
    allowed: frozenset[int]

    def __str__(self) -> str:
        sent = b"".join(self.pieces)
        shown = repr(sent[:3000]) + ("" if len(sent) <= 3000 else f" … {len(sent)} bytes")
        return f"case {self.number}, {self.kind}: {shown}"


INPUTS: dict[str, dict[str, Any]] = {
    "add": {"x": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "dynamic": {"x": np.ones((2, 5), np.float32)},
    "mlp": {"x": np.ones((3, 8), np.float32)},
    "two": {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)},
    "text": {"words": np.array(["a", "é"], object)},
    "image": {"image": np.ones((1, 4, 8, 8), np.float32)},
}
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**64, 10**400, -(2**63) - 1, 0.5, -0.0, 1e308,
    "", "x", "FP32", "binary_data_size", "a" * 300, "\x00", "\u2028", "é", "\U0001f600", "../../etc/passwd",
)  # fmt: skip
LITERALS = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b'"\\ud800"',
    b'"\xff"',
    b"01",
    b"+1",
    b"'x'",
    b"//",
    b"0x1",
    b"",
)
DATATYPES = [
    *(f"{kind}{bits}" for kind in ("UINT", "INT", "FP") for bits in (8, 16, 32, 64)),
    "BOOL",
    "BYTES",
    "BF16",
    "fp32",
]
CODINGS = ("gzip", "deflate", "zstd", "x-gzip", "identity", "br", "gzip, gzip", "GZIP", "", "\xff")
METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND", "get", "FOO"]


def case(number: int) -> Case:
    """The case of this number."""
    rng = Random(number)
    kind = rng.choice(list(KINDS))
    pieces = KINDS[kind](rng)
    sent = b"".join(pieces).lower()
    allowed = set()
    if b"deadline-ms" in sent or b"timeout" in sent or b"content-encoding" in sent:
        allowed.add(504)
    if b"@" in sent or b"%40" in sent:
        allowed |= {503, 504}  # tails are made one after the other, and few may wait
    if kind == "uploads":
        allowed |= {503, 507}  # another transfer of the same upload goes on; the room for uploads is used up
    return Case(number, kind, tuple(pieces), frozenset(allowed))


# --- whole requests ---


def http(
    rng: Random, body: bytes = b"", header_length: int | None = None, model: str = "add", path: str = "", **headers: str
) -> list[bytes]:
    """A request that HTTP allows."""
    target = path or f"/v2/models/{model}/infer"
    lines = [f"POST {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    if header_length is not None:
        lines.append(f"Inference-Header-Content-Length: {header_length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ["\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n", body]


def good(rng: Random) -> tuple[str, bytes, int | None]:
    """Model, body and length of its head of a request that is right."""
    model = rng.choice(list(INPUTS))
    body = encode_request(INPUTS[model], request_id=rng.choice(["", "1"]), binary=rng.random() < 0.7)
    return model, body.joined(), body.header_length


def flipped_body(rng: Random) -> list[bytes]:
    model, body, length = good(rng)
    return http(rng, mutated(rng, body), length, model)


def flipped_request(rng: Random) -> list[bytes]:
    """Anything may be hit, the HTTP framing too."""
    model, body, length = good(rng)
    whole = b"".join(http(rng, body, length, model))
    end = rng.randint(1, len(whole)) if rng.random() < 0.3 else len(whole)
    return [mutated(rng, whole)[:end]]


def lying_header_length(rng: Random) -> list[bytes]:
    model, body, length = good(rng)
    told = rng.choice([0, 1, (length or 0) + rng.randint(-70, 70), len(body), len(body) + 1, 2**31, 2**63, -1])
    return http(rng, body, told, model)


def structure(rng: Random) -> list[bytes]:
    """JSON of almost the right form."""
    model = rng.choice(list(INPUTS))
    head, rest = request_head(rng, model), b""
    if rng.random() < 0.5:
        rest = rng.randbytes(rng.choice([0, 1, 3, 4, 12, 23, 24, 25, 100, 5000]))
    text = dumped(rng, head)
    told = rng.choice([len(text), len(text), None, len(text) + 1, max(len(text) - 1, 0)])
    return http(rng, text + rest, told, model)


def deep(rng: Random) -> list[bytes]:
    depth = rng.choice([10, 39, 40, 41, 1000, 100_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
    inner = opening * depth + rng.choice([b"", b"1"]) + (closing * depth if rng.random() < 0.7 else b"")
    where = rng.choice(
        [b'{"inputs":%b}', b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,3],"data":%b}]}', b"%b"]
    )
    return http(rng, where % inner)


def numbers(rng: Random) -> list[bytes]:
    """A tensor whose data or shape is of odd literals."""
    literals = [
        rng.choice([*LITERALS, b"1", b"2.5", b"1" * 400, b"1e-999", b"true", b"null", b'"1"']) for _ in range(6)
    ]
    data = b"[" + b",".join(literals) + b"]"
    shape = rng.choice([b"[2,3]", b"[6]", b"[2,3.0]", b"[2,3e0]", b"[" + rng.choice(LITERALS) + b"]", b"[2,-3]", b"[]"])
    datatype = rng.choice(DATATYPES).encode()
    return http(rng, b'{"inputs":[{"name":"x","datatype":"%b","shape":%b,"data":%b}]}' % (datatype, shape, data))


def sizes(rng: Random) -> list[bytes]:
    """Binary sizes that lie, overlap or do not fit a shape, with shapes that claim much."""
    tensors = []
    for name in rng.sample(["x", "y", "a", "b", "x"], rng.randint(1, 3)):
        shape = rng.choice([[2, 3], [6], [0], [2**31, 2**31], [2**62, 4], [1] * 33, [2, -3], [2**20, 2**20, 0], []])
        size = rng.choice([24, 0, 23, 25, 48, 2**31, 2**63, 2**64, -1, -24, "24", True, 24.0, None])
        tensors.append(
            {"name": name, "datatype": rng.choice(DATATYPES), "shape": shape, "parameters": {"binary_data_size": size}}
        )
    text = json.dumps({"inputs": tensors}).encode()
    return http(rng, text + rng.randbytes(rng.choice([0, 24, 48, 1000])), len(text))


def lengths_of_bytes(rng: Random) -> list[bytes]:
    """BYTES elements whose lengths lead out of the tensor."""
    elements = [
        struct.pack("<I", rng.choice([0, 1, 5, 2**31, 2**32 - 1])) + rng.randbytes(rng.randint(0, 6)) for _ in range(3)
    ]
    raw = b"".join(elements)[: rng.randint(0, 40)]
    count = rng.choice([0, 1, 3, 4, 2**20, 2**20 + 1, 2**62])
    head = {"name": "words", "datatype": "BYTES", "shape": [count], "parameters": {"binary_data_size": len(raw)}}
    text = json.dumps({"inputs": [head]}).encode()
    return http(rng, text + raw, len(text), "text")


def coded(rng: Random) -> list[bytes]:
    """Bodies in a content coding: cut off, of another coding, twice, bombs."""
    model, body, length = good(rng)
    if rng.random() < 0.2:
        body = bytes(rng.choice([2**20, 5 * 2**20, 50 * 2**20]))
    content = rng.choice(CODERS)(body)
    if rng.random() < 0.2:
        content = rng.choice(CODERS)(content)
    if rng.random() < 0.5:
        content = mutated(rng, content)
    if rng.random() < 0.3:
        content = content[: rng.randint(0, len(content))] + rng.randbytes(rng.choice([0, 1, 20]))
    return http(rng, content, length, model, Content_Encoding=rng.choice(CODINGS))


def headers(rng: Random) -> list[bytes]:
    model, body, length = good(rng)
    odd = ["0", "1", "-1", "1e3", "99999999999999999999", "999999999999999", "", "soon", "\xb2", "1, 2", "0x10", " 5 "]
    told = {
        "deadline_ms": rng.choice(odd),
        "Accept_Encoding": rng.choice(["gzip", "zstd;q=", "*;q=0", ";;;,,,q", "gzip;q=1;q=0", "a" * 5000, "\xff", ","]),
        "Content_Type": rng.choice(
            ["", "application/json", "text/html\x0b", "multipart/form-data; boundary=" + "-" * 3000]
        ),
        "Authorization": rng.choice(["Bearer", "Bearer \xff", "Basic eA==", ""]),
        "Expect": rng.choice(["100-continue", "200-ok", ""]),
        "Connection": rng.choice(["close", "keep-alive", "upgrade", "\xff"]),
        "Upgrade": rng.choice(["websocket", "h2c", "TLS/1.0"]),
        "X" * rng.choice([1, 100, 70_000]): "y" * rng.choice([1, 100, 70_000]),
    }
    chosen = {name: told[name] for name in rng.sample(list(told), rng.randint(1, 4))}
    if rng.random() < 0.3:
        name = rng.choice(["deadline_ms", "Inference-Header-Content-Length", "Content-Encoding", "content_length"])
        chosen[name.upper()] = rng.choice(odd)
    return http(rng, body, length, model, **chosen)


def deadlines(rng: Random) -> list[bytes]:
    _, body, _ = "add", json.dumps(request_head(rng, "add", wild=0.0)), None
    timeout = json.dumps(rng.choice([*SCALARS, 1, 1000, 10**6]))
    return http(rng, body[:-1].encode() + b',"parameters":{"timeout":%b}}' % timeout.encode())


def paths(rng: Random) -> list[bytes]:
    parts = [
        "v2", "v1", "models", "add", "two", "nothing", "versions", "1", "01", "-1", "٣", "9" * 30, "ready", "infer",
        "health", "live", "repository", "index", "load", "unload", "metrics", "", ".", "..", "%2e%2e", "%2f", "%00",
        "%", "%zz", "%ff", "%25", "%0d%0aX:y", "a" * 3000, "é", "\xff", "add@", "add@h", ";", "#", "?", "*", "\\",
        "CON", "spare", "broken",
    ]  # fmt: skip
    start = rng.choice(
        ["/v2/", "/v2/models/add/", "/v2/repository/models/", "/", "", "//", "http://x/v2/", "http://[", "*"]
    )
    path = start + "/".join(rng.choice(parts) for _ in range(rng.randint(0, 5)))
    if path.endswith("/unload"):
        path += "s"
    version = rng.choice(["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.9", "ICY", ""])
    line = f"{rng.choice(METHODS)} {path} {version}\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    return [line.encode("utf-8" if rng.random() < 0.5 else "latin-1", "replace")]


def tails(rng: Random) -> list[bytes]:
    cuts = ["h1", "h2", "h3,h1", "x", "y", "c", "0123456789ab", "", "h2%252Ch1", "%", ",", ",".join("h" * 300)]
    cuts += ["h1+fp16", "h1+int8", "h1+none", "h2+", "+fp16", "h1@h2", "\x7f", "é", "h" * 9000, "../x", "%00"]
    scales = ["3c000000:0", "3c000000:-128", "7fc00000:0", "7f800000:0", "00000000:0", "bf800000:0", "00000001:0"]
    scales += [
        "3c000000:300",
        "3c000000:",
        "3c",
        ":",
        "",
        "zzzzzzzz:0",
        "3c000000:0,3c000000:0",
        "3c000000:" + "9" * 99,
    ]
    cuts += [f"{cut}+int8={rng.choice(scales)}" for cut in ("h1", "h2", "x", "label", "h1,h2")]
    channels = [
        "-8.EA.",
        "-8.EA._w",
        "99.EA.",
        "-8..-8.E.",
        "-8.EA.EBEB",
        "-8." + "EBAQ" * 1500 + ".",
        "-8.é.",
        "..",
        ".",
    ]
    cuts += [f"{cut}+{rng.choice(['int8c', 'int4c', 'int5'])}={rng.choice(channels)}" for cut in ("h1", "x", "label")]
    cuts += [f"h1+int4={rng.choice(scales)}", "h1+int16=3c000000:1", "h1+int4"]
    prints = ["", "", "", ":", ":deadbeef", ":dead", ":" + "0" * 64, ":" + "g" * 8, ":" + "a" * 200]
    model = rng.choice(["mlp", "mlp", "image", "lite", "nothing", "broken", "", "%6dlp"])
    rest = rng.choice(["", "/ready", "/infer", "/versions/1", "/versions/1/infer", "/versions/9/infer"])
    path = f"/v2/models/{model}{rng.choice(prints)}@{rng.choice(cuts)}{rest}"
    if rng.random() < 0.5:
        return [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1", "replace")]
    body = encode_request({"h1": np.ones((2, 16), np.float32)})
    return http(rng, body.joined(), body.header_length, path=path)


def repository(rng: Random) -> list[bytes]:
    verb = rng.choice(
        ["index", "index", "models/spare/load", "models/spare/unload", "models/nothing/unload", "models/broken/load"]
    )
    body = rng.choice(
        [b"", b"{}", b"[]", b"null", b'{"ready":1}', b'{"ready":true}', b'{"ready":null}', b"\xff", b"{" * 50, b"1"]
    )
    if rng.random() < 0.3:
        body = dumped(rng, {"ready": value(rng), "parameters": value(rng), "repository_name": value(rng)})
    return http(rng, body, path="/v2/repository/" + verb)


def uploads(rng: Random) -> list[bytes]:
    """Uploads begun, continued and given up in any order, with headers that lie; what is sent is no bundle."""
    content = bytes(rng.choice([b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + bytes(500), b"{}", bytes(3000)]))
    digest = hashlib.sha256(content)
    told = base64.b64encode(digest.digest()).decode()
    names = ["", "..", "%2e%2e", "a%2fb", "a@b", "%00", "é", "a" * 300]
    name = rng.choice(names if rng.random() < 0.2 else ["up0", "up1", "up2", "add", "spare"])
    sha = rng.choice(
        [digest.hexdigest()] * 5 + ["", "0" * 64, digest.hexdigest().upper(), "x" * 64, "..", "%2e%2e%2fx"]
    )
    place = f"/v2/repository/models/{name}/uploads"
    odd = ["0", "1", str(len(content)), str(len(content) + 1), "-1", "", "1e3", "9" * 14, "9" * 30, "\xb2"]
    pieces = []
    for _ in range(rng.randint(1, 5)):
        method = rng.choice(["POST", "POST", "PATCH", "PATCH", "GET", "HEAD", "DELETE", "PUT"]) if pieces else "POST"
        at = rng.choice([0, 0, 0, rng.randint(0, len(content))])
        headers = {
            "Upload-Length": rng.choice([str(len(content))] * 20 + odd),
            "Upload-Complete": rng.choice(["?0" if method == "POST" else "?1"] * 6 + ["?0", "?1", "1", "?2", "\xff"]),
            "Upload-Offset": rng.choice([str(at)] * 20 + odd),
            "Repr-Digest": rng.choice(
                [f"sha-256=:{told}:"] * 4 + [f"sha-256=:{told[:-2]}:", "sha-256=::", "md5=:eA==:", ""]
            ),
            "Content-Type": rng.choice(["application/partial-upload"] * 4 + ["text/plain", ""]),
            "Content-Encoding": rng.choice(["identity"] * 4 + ["gzip", "br"]),
        }
        for gone in rng.sample(list(headers), rng.choice([0, 0, 0, 1, 2])):
            del headers[gone]
        query = rng.choice(["", "", "?replace=true", "?replace=1", "?%ff"])
        body = content[at : rng.randint(at, len(content))] if rng.random() < 0.5 else content[at:]
        if method != "PATCH" and rng.random() < 0.9:
            body = b""
        path = place + query if method == "POST" else f"{place}/{sha}{query}"
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        lines += [f"{header}: {text}" for header, text in headers.items()]
        pieces += ["\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n", body]
    return pieces


def framing(rng: Random) -> list[bytes]:
    """Bodies whose length is told wrongly, twice, or in chunks that lie."""
    model, body, length = good(rng)
    told = f"Inference-Header-Content-Length: {length}\r\n" if length is not None else ""
    start = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\n{told}".encode()
    return rng.choice([in_chunks, of_told_length])(rng, start, body)


def of_told_length(rng: Random, start: bytes, body: bytes) -> list[bytes]:
    size = b"Content-Length: %d\r\n" % len(body)
    other = rng.choice([b"-1", b"1e3", b"+5", b"", b"\xb2", b"0x5", b"5 5", b"1" * 30, b"%d" % (len(body) + 2**40)])
    whole = start + size + b"\r\n"
    return rng.choice(
        [
            [start + b"Content-Length: %d\r\n\r\n" % (len(body) + rng.choice([1, 100])), body],
            [start + b"Content-Length: %d\r\n\r\n" % max(len(body) - rng.choice([1, 5, 30]), 0), body],
            [start + b"Content-Length: " + other + b"\r\n\r\n", body],
            [start + size + size + b"\r\n", body],
            [start + size + b"Content-Length: 1\r\n\r\n", body],
            [whole.replace(b"\r\n", b"\n"), body],
            [start + b"X : y\r\n" + size + b"\r\n", body],
            [start + b" folded: y\r\n" + size + b"\r\n", body],
            [start + b"X: \x00\r\n" + size + b"\r\n", body],
            [start + size + b"Expect: 100-continue\r\n\r\n", body],
            [(whole + body)[: rng.randint(0, len(whole) + 40)]],
            [*(bytes([byte]) for byte in whole), body],
        ]
    )


def in_chunks(rng: Random, start: bytes, body: bytes) -> list[bytes]:
    half = len(body) // 2
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (half, body[:half], len(body) - half, body[half:])
    chunked = b"Transfer-Encoding: chunked\r\n"
    sizes = [b"f" * 16, b"f" * 9, b"f" * 30, b"-1", b"zz", b"", b" 5", b"5;" + b"e" * 90_000]
    trailers = [b"X: y\r\n", b"Content-Length: 5\r\n", b"X: " + b"t" * 90_000 + b"\r\n", b"x: y\r\n" * 20_000]
    codings = [b"gzip, chunked", b"chunked, gzip", b"identity", b"CHUNKED", b"x", b"chunked, chunked"]
    return rng.choice(
        [
            [start + b"Content-Length: %d\r\n" % len(body) + chunked + b"\r\n", chunks],
            [start + chunked + chunked + b"\r\n", chunks],
            [start + chunked + b"\r\n", chunks],
            [start + chunked + b"\r\n", chunks[: rng.randint(0, len(chunks))]],
            [start + chunked + b"\r\n", mutated(rng, chunks)],
            [start + chunked + b"\r\n", rng.choice(sizes) + b"\r\n", body],
            [start + chunked + b"\r\n", chunks[:-2] + rng.choice(trailers) + b"\r\n"],
            [start + b"Transfer-Encoding: " + rng.choice(codings) + b"\r\n\r\n", chunks],
        ]
    )


def pipelined(rng: Random) -> list[bytes]:
    """Several requests at once, good and bad ones."""
    makers = [flipped_body, structure, paths, coded, repository, lying_header_length, sizes]
    return [piece for _ in range(rng.randint(2, 12)) for piece in rng.choice(makers)(rng)]


def no_http(rng: Random) -> list[bytes]:
    return [
        rng.choice(
            [
                rng.randbytes(rng.randint(1, 300)),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(300),
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(30),
                b"\r\n" * rng.choice([1, 1000, 100_000]),
                b"GET " + b"a" * rng.choice([10, 70_000, 300_000]),
                b"GET /v2 HTTP/1.1\r\n" + b"x: y\r\n" * rng.choice([10, 5000, 50_000]),
                b"\x00" * 1000,
            ]
        )
    ]


KINDS: dict[str, Callable[[Random], list[bytes]]] = {
    make.__name__: make
    for make in (
        *(flipped_body, flipped_request, lying_header_length, structure, deep, numbers, sizes, lengths_of_bytes, coded),
        *(headers, deadlines, paths, tails, repository, uploads, framing, pipelined, no_http),
    )
}


# --- parts of them ---


def _zstd(content: bytes) -> bytes:
    try:
        from backports import zstd
    except ImportError:
        return content
    return bytes(zstd.compress(content))


CODERS: tuple[Callable[[bytes], bytes], ...] = (gzip.compress, zlib.compress, _zstd)


def mutated(rng: Random, content: bytes) -> bytes:
    """Some bytes changed, taken out, doubled or moved."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(changed) + 1)
        how = rng.randrange(5)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(changed):
            changed[at] = rng.choice(b'\x00\xff"{}[]:,\\0-9e\r\n %')
        elif how == 2:
            del changed[at : at + rng.choice([1, 2, 8])]
        elif how == 3:
            changed[at:at] = changed[at : at + rng.choice([1, 10, 100])]
        else:
            changed[at:at] = rng.choice([*LITERALS, b"\x00" * 9, b'"', b"[", b"{", rng.randbytes(5)])
    return bytes(changed)


def value(rng: Random, depth: int = 3) -> Any:
    roll = rng.random()
    if depth and roll < 0.2:
        return [value(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    if depth and roll < 0.4:
        return {str(rng.choice(SCALARS)): value(rng, depth - 1) for _ in range(rng.randint(0, 3))}
    return rng.choice(SCALARS)


def request_head(rng: Random, model: str, wild: float = 0.15) -> dict[str, Any]:
    """A head in which each part is wild with some probability."""

    def perhaps(right: Any) -> Any:
        return value(rng) if rng.random() < wild else right

    tensors = []
    for name, array in INPUTS[model].items():
        tensor = {"name": perhaps(name), "shape": perhaps([perhaps(size) for size in array.shape])}
        tensor["datatype"] = perhaps("BYTES" if array.dtype.hasobject else "FP32")
        tensor["data"] = perhaps(array.ravel().tolist() if rng.random() < 0.5 else array.tolist())
        if rng.random() < wild:
            tensor["parameters"] = perhaps({"binary_data_size": value(rng)})
        if rng.random() < wild:
            del tensor[rng.choice(list(tensor))]
        tensors.append(perhaps(tensor))
    head: dict[str, Any] = {"inputs": perhaps(tensors)}
    if rng.random() < wild * 2:
        head["outputs"] = perhaps(
            [{"name": perhaps("y"), "parameters": perhaps({"binary_data": value(rng)})}] * rng.randint(0, 2)
        )
    if rng.random() < wild * 2:
        keys = ["binary_data_output", "timeout", "sequence_id", "priority", "x"]
        head["parameters"] = perhaps({rng.choice(keys): value(rng) for _ in range(rng.randint(0, 3))})
    if rng.random() < wild * 2:
        head["id"] = perhaps("5")
    return head


def dumped(rng: Random, head: Any) -> bytes:
    """As JSON, now and then with a key doubled, a mark before it, or something behind."""
    text = json.dumps(head, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 3])).encode(
        "utf-8", "replace"
    )
    roll = rng.random()
    if roll < 0.05:
        text = b"\xef\xbb\xbf" + text
    elif roll < 0.1:
        text = text.replace(b'"name"', b'"name": "x", "name"')
    elif roll < 0.15:
        text = text.replace(b'"inputs"', b'"in\\u0070uts": [], "inputs"')
    elif roll < 0.2:
        text += rng.choice([b"{}", b"\x00", b"   ", b",", b"]"])
    return text


if __name__ == "__main__":
    print(case(int(sys.argv[1])))
