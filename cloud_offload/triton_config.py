"""What of Triton's `config.pbtxt` counts here: the version policy, and how many rows may be computed together.

Source: Triton's `model_config.proto`, and the text format of Protocol Buffers (protobuf.dev, "Text Format Language").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cloud_offload.settings import VersionPolicy
from edge_sdk.errors import UnreadableInput
from edge_sdk.storage import read_whole

__all__ = ["CONFIG", "TritonConfig", "read_config"]

CONFIG = "config.pbtxt"
MAX_BYTES = 2**20
MAX_DEPTH = 32
_LARGEST = 10**9

# White space and comments, then a string, a word (names, numbers, true), or a mark.
_TOKEN = re.compile(
    r"(?:\s++|\#[^\n]*+)++|(\"(?:[^\"\\\n]|\\.)*+\"|'(?:[^'\\\n]|\\.)*+')|([\w.+\-]++)|([{}<>\[\]:,;/])"
)
_CLOSES = {"{": "}", "<": ">"}

Fields = dict[str, list["Value"]]
Value = str | Fields


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """Of one model.

    Attributes:
        policy: which versions are loaded; None where it does not say.
        max_batch: rows that may be computed together, 1 for none; None where it does not say.
    """

    policy: VersionPolicy | None = None
    max_batch: int | None = None


def read_config(model: Path) -> TritonConfig:
    """Reads `config.pbtxt` of a model's folder; where there is none, it says nothing.

    Raises:
        UnreadableInput: it cannot be read, or is not in the text format of Protocol Buffers.
    """
    path = model / CONFIG
    if not path.exists():
        return TritonConfig()
    where = f"{model.name}/{CONFIG}"
    try:
        text = read_whole(path, MAX_BYTES).decode()
    except UnicodeDecodeError:
        raise UnreadableInput(f"{where}: is no text in UTF-8") from None
    fields = _Reader(text, where).message("", 0)
    batch = _number(fields, "max_batch_size", where)
    policy = _one(fields, "version_policy")
    if policy is not None and not isinstance(policy, dict):
        raise UnreadableInput(f"{where}: version_policy is {policy[:40]!r}, expected a message in braces")
    return TritonConfig(None if policy is None else _policy(policy, where), None if batch is None else max(batch, 1))


def _policy(policy: Fields, where: str) -> VersionPolicy:
    if _one(policy, "all") is not None:
        return VersionPolicy(latest=None)
    if isinstance(latest := _one(policy, "latest"), dict):
        return VersionPolicy(latest=max(_number(latest, "num_versions", where) or 1, 1))
    if isinstance(specific := _one(policy, "specific"), dict):
        return VersionPolicy(None, tuple(_whole(v, "versions", where) for v in specific.get("versions", ())))
    return VersionPolicy()


def _one(fields: Fields, name: str) -> Value | None:
    """A field that is there once; of several the last counts, as Protocol Buffers have it."""
    return fields[name][-1] if fields.get(name) else None


def _number(fields: Fields, name: str, where: str) -> int | None:
    value = _one(fields, name)
    return None if value is None else _whole(value, name, where)


def _whole(value: Value, name: str, where: str) -> int:
    number = -1
    if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,9}", value, re.ASCII):
        number = int(value)
    if not 0 <= number <= _LARGEST:
        told = repr(value[:40]) if isinstance(value, str) else "a message"
        raise UnreadableInput(f"{where}: {name} is {told}, expected a whole number")
    return number


class _Reader:
    """Reads text into fields by name; values stay as they are written, strings without their quotes."""

    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._tokens = self._scanned()
        self._next = next(self._tokens, None)
        self._line = 1

    def _scanned(self) -> Iterator[tuple[str, str, int]]:
        at, line = 0, 1
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise UnreadableInput(f"{self._where}: line {line}: {self._text[at : at + 20]!r} is not understood")
            string, word, mark = found.groups()
            if string is not None:
                yield "string", string[1:-1], line
            elif word is not None:
                yield "word", word, line
            elif mark is not None:
                yield "mark", mark, line
            line += found[0].count("\n")
            at = found.end()

    def _take(self) -> tuple[str, str]:
        if self._next is None:
            raise UnreadableInput(f"{self._where}: ends in the middle of a message")
        kind, text, self._line = self._next
        self._next = next(self._tokens, None)
        return kind, text

    def _is(self, mark: str) -> bool:
        return self._next is not None and self._next[:2] == ("mark", mark)

    def _fail(self, found: str, expected: str) -> UnreadableInput:
        return UnreadableInput(f"{self._where}: line {self._line}: {found[:40]!r} where {expected} is expected")

    def message(self, end: str, depth: int) -> Fields:
        """Fields up to the mark `end`; "" for the end of the text."""
        if depth > MAX_DEPTH:
            raise UnreadableInput(f"{self._where}: messages are nested deeper than {MAX_DEPTH} levels")
        fields: Fields = {}
        while not (self._is(end) if end else self._next is None):
            kind, name = self._take()
            if (kind, name) == ("mark", "["):  # the name of an extension
                while self._take() != ("mark", "]"):
                    pass
                name = ""
            elif kind != "word":
                raise self._fail(name, "a field's name")
            if self._is(":"):
                self._take()
            fields.setdefault(name, []).extend(self._values(depth))
            if self._is(",") or self._is(";"):
                self._take()
        if end:
            self._take()
        return fields

    def _values(self, depth: int) -> list[Value]:
        if not self._is("["):
            return [self._value(depth)]
        self._take()
        values: list[Value] = []
        while not self._is("]"):
            values.append(self._value(depth))
            if self._is(","):
                self._take()
            elif not self._is("]"):
                raise self._fail(self._take()[1], "',' or ']'")
        self._take()
        return values

    def _value(self, depth: int) -> Value:
        kind, text = self._take()
        if kind == "mark":
            if text not in _CLOSES:
                raise self._fail(text, "a value")
            return self.message(_CLOSES[text], depth + 1)
        while kind == "string" and self._next is not None and self._next[0] == "string":
            text += self._take()[1]  # strings side by side are one
        if kind == "word" and text == "-" and self._next is not None and self._next[0] == "word":
            text += self._take()[1]
        return text
