"""Requests as a model file itself takes them, from requests as a session takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any

import numpy as np

from edge_sdk.engines.base import Runner
from edge_sdk.engines.wrapping import WrappingRunner
from edge_sdk.tensors import FeedCheck, Feeds

__all__ = ["inner_feeds"]


def inner_feeds(
    runner: Runner, wrap: Callable[[Runner], Runner], requests: Iterable[Feeds], where: str
) -> list[dict[str, Any]]:
    """What reaches a runner when requests go through all that wraps it: mapping, quantising, carried state.

    Args:
        runner: of the model file; closed afterwards.
        wrap: puts what wraps it around it.
        requests: as the outermost runner takes them.
        where: what messages call a request.

    Raises:
        InputError: a request does not fit.
        EngineError: the model failed on one.
    """
    recorder = _Recorder(runner)
    try:
        wrapped = wrap(recorder)
    except BaseException:
        recorder.close()
        raise
    with closing(wrapped) as outer:
        check = FeedCheck(outer.inputs, outer.optional_inputs, where)
        # Where nothing is in between there is nothing to run.
        pass_on: Callable[[Feeds], object] = recorder.keep if outer is recorder else outer.run
        for request in requests:
            pass_on(check(request))
    return recorder.seen


class _Recorder(WrappingRunner):
    """Runs what it wraps, and keeps copies of the feeds."""

    def __init__(self, inner: Runner) -> None:
        super().__init__(inner)
        self.seen: list[dict[str, Any]] = []

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        self.keep(feeds)
        return self.inner.run(feeds, out)

    def keep(self, feeds: Mapping[str, Any]) -> None:
        """Keeps a copy."""
        self.seen.append({name: np.array(value) for name, value in feeds.items()})
