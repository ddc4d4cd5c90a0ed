"""Recordings: cut into windows, run one after the other, and answered with a score a window or with classes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk.audio import Stretch, read_wav, speech_stretches, windows
from edge_sdk.cli.run_answers import Answer, Stopwatch, class_scores
from edge_sdk.cli.run_inputs import FeedPlan
from edge_sdk.errors import InputShapeError, InputTypeError, InputValueError
from edge_sdk.tensors import Array, TensorSpec
from edge_sdk.vision import ScoredLabel, top_k

if TYPE_CHECKING:
    from edge_sdk.session import Session

__all__ = ["SoundTask"]


@dataclass(frozen=True, slots=True)
class SoundTask:
    """How recordings go through one model.

    Attributes:
        window: new samples a request; None for the whole recording at once.
        step: samples from one window to the next.
        context: samples before the window that are fed with it.
    """

    plan: FeedPlan
    spec: TensorSpec
    window: int | None
    step: int | None
    context: int
    labels: Sequence[str] | None
    top: int
    confidence: float

    @classmethod
    def make(cls, arguments: argparse.Namespace, plan: FeedPlan, labels: Sequence[str] | None) -> SoundTask:
        """Works out the windows from the model and the flags.

        Raises:
            InputError: the model takes no recording, or the flags contradict it.
        """
        spec = plan.main_input("sound")
        if spec.dtype != "float32":
            raise InputTypeError(
                f"input {spec.name!r} ({spec.describe()}) does not take samples as float32; feed a .npy file"
            )
        sizes = [d for d in spec.shape or (None,) if d != 1]
        last = spec.shape[-1] if spec.shape else None
        if len([d for d in sizes if isinstance(d, int)]) > 1 or (isinstance(last, int) and last == 1):
            raise InputShapeError(
                f"input {spec.name!r} ({spec.describe()}) does not take a row of samples; feed a .npy file"
            )
        fixed = last if isinstance(last, int) else None
        window = arguments.window
        if window is None and fixed is not None:
            window = fixed - arguments.context
        if fixed is not None and (window or 0) + arguments.context != fixed:
            raise InputShapeError(
                f"input {spec.name!r} ({spec.describe()}) takes {fixed} samples, and --window {window} with"
                f" --context {arguments.context} are {(window or 0) + arguments.context}"
            )
        if window is not None and window < 1:
            raise InputValueError(f"--context {arguments.context} leaves no room for a window in {spec.describe()}")
        if window is None and (arguments.step is not None or arguments.context):
            raise InputValueError(
                "--step and --context need --window, since the model leaves the number of samples open"
            )
        confidence = 0.5 if arguments.confidence is None else arguments.confidence
        return cls(plan, spec, window, arguments.step, arguments.context, labels, arguments.top, confidence)

    def feeds(self, path: Path) -> dict[str, Any]:
        """See `run.Task`."""
        samples, rate_hz = read_wav(path)
        return {**self._extra(rate_hz, path), self.spec.name: self._shaped(self._rows(samples)[0])}

    def answer(self, session: Session, path: Path) -> Answer:
        """See `run.Task`. State begins anew with each recording.

        Raises:
            InputError: the recording cannot be read, or the model refused it.
            EngineError: the engine failed.
        """
        watch = Stopwatch(session)
        with watch.part("decode"):
            samples, rate_hz = read_wav(path)
        with watch.part("pre"):
            rows = self._rows(samples)
            feeds = self._extra(rate_hz, path)
        session.reset_state()
        scores = []
        outputs: Mapping[str, Any] = {}
        with watch.part("run"):
            for row in rows:
                feeds[self.spec.name] = self._shaped(row)
                outputs = session.run(feeds)
                scores.append(self._score(outputs))
        with watch.part("post"):
            top, figures, stretches = self._read(scores, rate_hz)
        notes = _pace(len(rows), watch.latency_ms["run"], samples.size / rate_hz)
        return Answer(str(path), top, watch.latency_ms, outputs, None, figures, stretches, notes)

    def _rows(self, samples: Array) -> Array:
        if self.window is None:
            return samples[None]
        return windows(samples, self.window, self.step, self.context)

    def _shaped(self, row: Array) -> Array:
        rank = 2 if self.spec.shape is None else len(self.spec.shape)
        return row.reshape((1,) * (rank - 1) + row.shape)

    def _extra(self, rate_hz: int, path: Path) -> dict[str, Any]:
        """What is fed beside the samples, the sampling rate among it where the model asks for that."""
        feeds = dict(self.plan.fixed)
        asked = self.plan.rate_input
        if asked is None:
            return feeds
        if asked.name not in feeds:
            feeds[asked.name] = np.full((1,) * len(asked.shape or ()), rate_hz, asked.numpy_dtype)
        elif np.asarray(feeds[asked.name]).reshape(-1).tolist() != [rate_hz]:
            told = np.asarray(feeds[asked.name]).tolist()
            raise InputValueError(
                f"{path}: is recorded at {rate_hz} Hz, and --feed says {asked.name}={told}; resample it"
            )
        return feeds

    def _score(self, outputs: Mapping[str, Any]) -> Array | None:
        carried = set(self.plan.state.values())
        return class_scores({n: v for n, v in outputs.items() if n not in carried}, self.plan.outputs)

    def _read(
        self, scores: Sequence[Array | None], rate_hz: int
    ) -> tuple[tuple[ScoredLabel, ...], tuple[float, ...] | None, tuple[Stretch, ...] | None]:
        rows = [row for row in scores if row is not None]
        if len(rows) < len(scores) or len({row.size for row in rows}) != 1:
            return (), None, None
        table = np.stack(rows)
        if table.shape[1] > 1:
            # Several classes: what is heard over the whole recording.
            return top_k(table.mean(axis=0), self.top, self.labels), None, None
        figures = tuple(float(v) for v in table[:, 0])
        step = self.step or self.window
        stretches = None
        if step is not None and all(0 <= v <= 1 for v in figures):
            stretches = speech_stretches(figures, step / rate_hz, threshold=self.confidence)
        return (), figures, stretches

    def explain(self) -> str:
        """See `run.Task`."""
        if self.window is None:
            return "sound fed whole"
        step = self.step or self.window
        return f"sound fed in windows of {self.window} samples every {step}, {self.context} before each"


def _pace(count: int, run_ms: float, length_s: float) -> tuple[str, ...]:
    pace = f"{length_s * 1e3 / run_ms:.0f} times real time" if run_ms else "at once"
    return (f"{count} windows over {length_s:.1f} s of sound, {run_ms / count:.3f} ms each, {pace}",)
