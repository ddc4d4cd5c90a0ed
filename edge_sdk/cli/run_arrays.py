"""Arrays from .npy and .npz files, fed as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk.cli.run_answers import Answer, Stopwatch, best_classes
from edge_sdk.cli.run_inputs import FeedPlan
from edge_sdk.formats.array_files import read_arrays

if TYPE_CHECKING:
    from edge_sdk.session import Session

__all__ = ["ArrayTask"]


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """How arrays go through one model."""

    plan: FeedPlan
    labels: Sequence[str] | None
    top: int

    def feeds(self, path: Path) -> dict[str, Any]:
        """See `run.Task`: a .npz file names its inputs, a .npy file fills the one that is open."""
        loaded = read_arrays(path)
        arrays = {self.plan.main_input("array").name: loaded} if isinstance(loaded, np.ndarray) else loaded
        return {**self.plan.fixed, **arrays}

    def answer(self, session: Session, path: Path) -> Answer:
        """See `run.Task`.

        Raises:
            InputError: the file cannot be read, or a name, dtype or shape is not the model's.
            EngineError: the engine failed.
        """
        watch = Stopwatch(session)
        with watch.part("decode"):
            feeds = self.feeds(path)
        with watch.part("run"):
            outputs = session.run(feeds)
        with watch.part("post"):
            top = best_classes(outputs, session.outputs, self.top, self.labels)
        return Answer(str(path), top, watch.latency_ms, outputs)

    def explain(self) -> str:
        """See `run.Task`."""
        return ""
