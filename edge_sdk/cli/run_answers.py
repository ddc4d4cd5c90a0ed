"""What came back for one input, and its two forms: a line of JSON and text for people."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge_sdk.cli.plain import plain
from edge_sdk.tensors import Array, TensorSpec, dequantize
from edge_sdk.vision import Detections, ScoredLabel, top_k

if TYPE_CHECKING:
    from edge_sdk.audio import Stretch
    from edge_sdk.planner import Plan
    from edge_sdk.session import Session

__all__ = ["Answer", "Stopwatch", "as_json", "as_text", "best_classes", "class_scores"]

_BOXES_SHOWN = 20


class Stopwatch:
    """Times the parts of one request, for its answer and for the session's report.

    Attributes:
        latency_ms: milliseconds by part: "decode", "pre", "run" and "post".
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.latency_ms = dict.fromkeys(("decode", "pre", "run", "post"), 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time of what it surrounds to `name`."""
        began = time.perf_counter()
        try:
            if name == "run":
                yield  # the session times its own part
            else:
                with self._session.stage(name):
                    yield
        finally:
            self.latency_ms[name] += (time.perf_counter() - began) * 1e3


@dataclass(frozen=True, slots=True)
class Answer:
    """One input's answer.

    Attributes:
        input: the file, as it was given.
        top: best classes; empty where the model is no classifier.
        boxes: None where the model is no known detector.
        latency_ms: by part of the request.
        outputs: raw, by name.
        scores: one a window of sound, where the model gives one figure a window.
        stretches: of speech, where `scores` are probabilities.
        notes: further lines for people.
    """

    input: str
    top: tuple[ScoredLabel, ...]
    latency_ms: Mapping[str, float]
    outputs: Mapping[str, Any]
    boxes: Detections | None = None
    scores: tuple[float, ...] | None = None
    stretches: tuple[Stretch, ...] | None = None
    notes: tuple[str, ...] = field(default=())


def class_scores(outputs: Mapping[str, Any], specs: Sequence[TensorSpec]) -> Array | None:
    """The first output that is one row of numbers, dequantised: class scores, as far as shapes can tell.

    Returns:
        [classes], or None where no output is such a row.
    """
    by_name = {spec.name: spec for spec in specs}
    for name, value in outputs.items():
        if (
            isinstance(value, np.ndarray)
            and value.dtype.kind in "biuf"
            and value.size == max(value.shape, default=1) > 0
        ):
            row = dequantize(value, by_name[name]) if name in by_name else value
            return row.reshape(-1)
    return None


def best_classes(
    outputs: Mapping[str, Any], specs: Sequence[TensorSpec], count: int, labels: Sequence[str] | None
) -> tuple[ScoredLabel, ...]:
    """The best classes, or nothing where the model is no classifier."""
    row = class_scores(outputs, specs)
    return () if row is None else top_k(row, count, labels)


def as_json(answer: Answer, plan: Plan) -> str:
    """One line of JSON; figures that are no numbers are null."""
    record: dict[str, Any] = {
        "input": answer.input,
        "top": [{"index": e.index, "label": e.label, "score": e.score} for e in answer.top],
        "boxes": [] if answer.boxes is None else answer.boxes.records(),
        "latency_ms": {name: round(ms, 3) for name, ms in answer.latency_ms.items()},
        "engine": plan.engine,
        "placement": msgspec.to_builtins(plan.placement),
    }
    if answer.scores is not None:
        record["scores"] = [round(score, 6) if math.isfinite(score) else None for score in answer.scores]
    if answer.stretches is not None:
        record["speech"] = [{"start_s": round(s.start_s, 3), "end_s": round(s.end_s, 3)} for s in answer.stretches]
    return json.dumps(record, allow_nan=False)


def as_text(answer: Answer) -> str:
    """Some lines for people."""
    lines = [plain(answer.input)]
    for entry in answer.top:
        score = "not a number" if entry.score is None else f"{entry.score:.3f}"
        lines.append(f"  {score}  {plain(entry.label) if entry.label else f'class {entry.index}'}")
    if answer.boxes is not None:
        lines += _box_lines(answer.boxes)
    if answer.stretches is not None:
        lines.append(f"  {len(answer.stretches)} stretches of speech")
        lines += [f"  {s.start_s:8.2f} to {s.end_s:.2f} s" for s in answer.stretches]
    if not answer.top and answer.boxes is None and answer.scores is None:
        for name, value in answer.outputs.items():
            what = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
            lines.append(f"  output {plain(name)}: {what}")
    lines += [f"  {note}" for note in answer.notes]
    lines.append("  " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in answer.latency_ms.items()))
    return "\n".join(lines)


def _box_lines(found: Detections) -> list[str]:
    lines = [f"  {len(found)} {'box' if len(found) == 1 else 'boxes'}"]
    for record in found.records()[:_BOXES_SHOWN]:
        name = plain(record["label"]) if record["label"] else f"class {record['index']}"
        corners = ", ".join(f"{v:.0f}" for v in record["box"])
        lines.append(f"  {record['score']:.3f}  {name} [{corners}]")
    if len(found) > _BOXES_SHOWN:
        lines.append(f"  … and {len(found) - _BOXES_SHOWN} more")
    return lines
