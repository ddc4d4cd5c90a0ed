"""How the tensors of a request are packed for an endpoint, and what is done where it does not take them so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from edge_sdk.errors import EdgeError, EndpointRefused
from edge_sdk.offload.input_coding import check_coding, encode
from edge_sdk.tensors import Array
from edge_sdk.wire.content_coding import coded
from edge_sdk.wire.encoded import Encoded, Feed
from edge_sdk.wire.endpoint import Endpoint

__all__ = ["Sending"]

_log = logging.getLogger(__name__)
_NOT_SO = frozenset({400, 415, 422})
"""Statuses of a server that does not know a coding: 415 of ours, others of those that take the file for raw bytes."""

Answer = TypeVar("Answer")
Infer = Callable[[Mapping[str, Feed], str], Answer]


class Sending:
    """Packs tensors; any number of threads may call at once.

    Args:
        codings: tensor to input coding ("jpeg@80", "webp@75", "flac"); others travel raw.
        content_coding: of whole bodies: "", "deflate" or "zstd".

    Raises:
        InputError: there is no such input coding.
        MissingExtra: the content coding is not installed.
    """

    def __init__(self, codings: Mapping[str, str], content_coding: str) -> None:
        for coding in codings.values():
            check_coding(coding)
        if content_coding:
            coded((), content_coding)
        self._codings, self._content_coding = dict(codings), content_coding
        # By endpoint, how many of the ways in `_ways` it has refused.
        self._refused: dict[Endpoint, int] = {}
        self._told: set[str] = set()

    def encoded(self, tensors: Mapping[str, Array]) -> Mapping[str, Feed]:
        """The tensors as they travel. One that cannot be encoded travels raw: a larger request is better than none."""
        if not self._codings:
            return tensors
        feeds: dict[str, Feed] = dict(tensors)
        for name, coding in self._codings.items():
            try:
                feeds[name] = encode(tensors[name], coding)
            except EdgeError as error:
                if name not in self._told:
                    self._told.add(name)
                    _log.warning("%s travels raw: %s", name, error)
        return feeds

    def packed_bytes(self, feeds: Mapping[str, Feed]) -> int:
        """How many bytes the tensors travel as, content coding included."""
        if not self._content_coding:
            return sum(feed.nbytes for feed in feeds.values())
        pieces = [
            feed.content if isinstance(feed, Encoded) else np.ascontiguousarray(feed).data for feed in feeds.values()
        ]
        return len(coded([memoryview(piece).cast("B") for piece in pieces], self._content_coding))

    def ask(
        self, endpoint: Endpoint, raw: Mapping[str, Array], encoded: Mapping[str, Feed], infer: Infer[Answer]
    ) -> Answer:
        """Asks an endpoint in the best way that it takes; what it takes is found out with the first request.

        Args:
            endpoint: that is asked.
            raw: the tensors.
            encoded: the same from `encoded`.
            infer: asks with such feeds and such a content coding.

        Raises:
            EdgeError: as `infer`, the last time.
        """
        ways: list[tuple[Mapping[str, Feed], str]] = [(encoded, self._content_coding)]
        if self._content_coding:
            ways.append((encoded, ""))
        if self._codings:
            ways.append((raw, ""))
        begin = self._refused.get(endpoint, 0)
        for number, way in enumerate(ways[begin:], begin):
            try:
                answer = infer(*way)
            except EndpointRefused as error:
                if error.status not in _NOT_SO or number + 1 == len(ways):
                    raise
                _log.info("%s: refused what travels so; asked again with less packing: %s", endpoint.name, error)
                continue
            if number > begin:
                self._refused[endpoint] = number
            return answer
        raise AssertionError("one way at least is tried")
