"""A runner that computes an input once, and answers it from what it keeps when it comes again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_sdk.engines.answers import Answers, KeptAnswers
from edge_sdk.engines.base import Runner
from edge_sdk.engines.wrapping import WrappingRunner
from edge_sdk.errors import InputError

__all__ = ["RememberingRunner"]


class RememberingRunner(WrappingRunner):
    """Answers inputs that are equal to earlier ones, byte for byte, without computing them.

    Args:
        inner: the runner behind it; owned, closed with this one.
        max_bytes: that kept answers may take.

    Raises:
        InputError: the model keeps state from request to request: equal inputs have different answers.
    """

    def __init__(self, inner: Runner, max_bytes: int) -> None:
        behind: Runner | None = inner
        while behind is not None:
            if behind.keeps_state:
                raise InputError(
                    f"{inner.model}: answers cannot be kept: the model carries state from request to request, so that"
                    " equal inputs have different answers; leave out keep_answers_mb"
                )
            behind = behind.inner
        super().__init__(inner)
        self.answers = Answers(max_bytes)

    @property
    def computing(self) -> Runner:
        """See `Runner.computing`."""
        return self.inner.computing

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        return self.answers.answer(feeds, lambda: self.inner.run(feeds, out), out)

    def figures(self) -> KeptAnswers:
        """How often an answer was there."""
        return self.answers.figures()

    def close(self) -> None:
        """See `Runner.close`."""
        self.answers.clear()
        super().close()
