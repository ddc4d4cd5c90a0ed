"""Reads the small part of YAML that a device profile is written in.

A profile may come from anywhere, so this takes plain mappings, lists and scalars and refuses the rest: aliases (a few
lines of them expand to gigabytes), tags, several documents, a key given twice, deep nesting. Plain scalars follow the
core schema of YAML 1.2, in which `no`, `on` and `12:30` are text.
"""

from __future__ import annotations

import re
from typing import Any

from edge_sdk.errors import ProfileError

__all__ = ["MAX_BYTES", "read_yaml", "write_yaml"]

MAX_BYTES = 256 * 1024
"""A profile of a 256-core server is a tenth of this."""

_MAX_DEPTH = 16
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,22}([eE][-+]?[0-9]{1,3})?")
_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}


def read_yaml(content: bytes, where: str) -> Any:
    """Returns the one document in `content` as dicts with string keys, lists, strings, numbers, booleans and None.

    Args:
        content: UTF-8 text of at most `MAX_BYTES`.
        where: what messages call the file.

    Raises:
        ProfileError: it is larger, is not UTF-8 or not YAML, or uses what profiles may not; the message names the line.
    """
    if len(content) > MAX_BYTES:
        raise ProfileError(f"{where}: {len(content)} bytes, expected a device profile of at most {MAX_BYTES}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProfileError(
            f"{where}: byte {error.start} is not UTF-8, expected a device profile as YAML text"
        ) from None
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(where).build(yaml.parse(text, Loader=loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
        raise ProfileError(f"{where}: {line}not YAML: {_one_line(str(problem))}") from None


def write_yaml(document: Any) -> bytes:
    """Writes dicts, lists and scalars as YAML that `read_yaml` returns unchanged. Innermost lists stay on one line."""
    import yaml

    class Plain(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True  # an empty list used twice would become an alias, which read_yaml refuses

    text: str = yaml.dump(
        document, Dumper=Plain, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )
    return text.encode("utf-8", "replace")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


class _Builder:
    """Makes the document from the parser's events, keeping open collections on a stack of its own."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.root: Any = None
        self.open: list[dict[str, Any] | list[Any]] = []
        self.keys: list[str | None] = []  # beside each open mapping the key that waits for its value

    def build(self, events: Any) -> Any:
        documents = 0
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise self._refuse(event, "a second document, expected one")
            elif kind == "AliasEvent":
                raise self._refuse(event, f"alias *{event.anchor}, which profiles may not use; write the value out")
            elif kind == "ScalarEvent":
                self._scalar(event)
            elif kind in ("MappingStartEvent", "SequenceStartEvent"):
                self._begin(event, {} if kind == "MappingStartEvent" else [])
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                self.open.pop()
                self.keys.pop()
        return self.root

    def _begin(self, event: Any, collection: dict[str, Any] | list[Any]) -> None:
        self._plain(event)
        if len(self.open) >= _MAX_DEPTH:
            raise self._refuse(event, f"nested deeper than {_MAX_DEPTH} levels")
        self._put(event, collection)
        self.open.append(collection)
        self.keys.append(None)

    def _scalar(self, event: Any) -> None:
        self._plain(event)
        if self.open and isinstance(self.open[-1], dict) and self.keys[-1] is None:
            if event.value in self.open[-1]:
                raise self._refuse(event, f"key {event.value[:80]!r} is given twice")
            self.keys[-1] = event.value
        else:
            self._put(event, event.value if event.style else _resolve(event.value))

    def _put(self, event: Any, value: Any) -> None:
        if not self.open:
            self.root = value
            return
        collection = self.open[-1]
        if isinstance(collection, list):
            collection.append(value)
            return
        key = self.keys[-1]
        if key is None:
            raise self._refuse(event, "a list or mapping as a key, expected text")
        collection[key] = value
        self.keys[-1] = None

    def _plain(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!":
            raise self._refuse(event, f"tag {event.tag[:80]!r}, which profiles may not use")

    def _refuse(self, event: Any, problem: str) -> ProfileError:
        return ProfileError(f"{self.where}: line {event.start_mark.line + 1}: {_one_line(problem)}")


def _resolve(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text
