"""Pictures: read, prepared, run, and answered with classes or boxes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.run_answers import Answer, Stopwatch, best_classes
from edge_sdk.cli.run_inputs import FeedPlan
from edge_sdk.cli.run_saving import Folder
from edge_sdk.errors import InputShapeError
from edge_sdk.tensors import dequantize
from edge_sdk.vision import (
    Detections,
    Detector,
    Preprocessing,
    ScoredLabel,
    draw,
    load_cv2,
    prepare,
    read_image,
    recognise,
    write_image,
)

if TYPE_CHECKING:
    from edge_sdk.session import Session
    from edge_sdk.tensors import Array

__all__ = ["PictureTask"]

_SETTINGS = ("size", "mean", "scale", "layout", "channels", "resize", "interpolation")
_DRAWN_AS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(slots=True)
class PictureTask:
    """How pictures go through one model."""

    plan: FeedPlan
    input_name: str
    preprocessing: Preprocessing
    detector: Detector | None
    labels: Sequence[str] | None
    top: int
    confidence: float | None
    iou: float | None
    drawings: Folder | None

    @classmethod
    def make(cls, arguments: argparse.Namespace, plan: FeedPlan, labels: Sequence[str] | None) -> PictureTask:
        """Works out preprocessing and the kind of answer from the model and the flags.

        Raises:
            InputError: the model takes no picture, or a flag contradicts it.
        """
        load_cv2()  # so that the first picture's time is its own
        spec = plan.main_input("picture")
        given = {name: getattr(arguments, name) for name in _SETTINGS if getattr(arguments, name) is not None}
        preprocessing = Preprocessing.for_input(spec, **given)
        detector = recognise(plan.outputs, preprocessing.height, preprocessing.width)
        if detector is not None:
            usual = {name: value for name, value in detector.preprocessing.items() if name not in given}
            if "mean" in given or "scale" in given or preprocessing.quantization is not None:
                usual = {name: value for name, value in usual.items() if name not in ("mean", "scale")}
            preprocessing = preprocessing.with_settings(**usual, notes=_told(preprocessing, detector, usual))
        drawings = Folder(arguments.annotate) if arguments.annotate else None
        limits = (arguments.confidence, arguments.iou)
        return cls(plan, spec.name, preprocessing, detector, labels, arguments.top, *limits, drawings)

    def feeds(self, path: Path) -> dict[str, Any]:
        """See `run.Task`."""
        return {**self.plan.fixed, self.input_name: prepare(read_image(path), self.preprocessing)}

    def answer(self, session: Session, path: Path) -> Answer:
        """See `run.Task`.

        Raises:
            InputError: the picture cannot be read, or the model refused it.
            EngineError: the engine failed.
        """
        watch = Stopwatch(session)
        with watch.part("decode"):
            image = read_image(path)
        with watch.part("pre"):
            tensor = prepare(image, self.preprocessing)
        with watch.part("run"):
            outputs = session.run({**self.plan.fixed, self.input_name: tensor})
        with watch.part("post"):
            top, boxes = self._read(outputs, image)
        if self.drawings is not None:
            name = path.name if path.suffix.lower() in _DRAWN_AS else f"{path.name}.png"
            write_image(self.drawings.place(name, path), draw(image, top if boxes is None else boxes))
        return Answer(str(path), top, watch.latency_ms, outputs, boxes)

    def _read(self, outputs: dict[str, Array], image: Array) -> tuple[tuple[ScoredLabel, ...], Detections | None]:
        if self.detector is None:
            return best_classes(outputs, self.plan.outputs, self.top, self.labels), None
        specs = {spec.name: spec for spec in self.plan.outputs}
        real = {name: dequantize(value, specs[name]) for name, value in outputs.items() if name in specs}
        geometry = self.preprocessing.geometry(*image.shape[:2])
        try:
            boxes = self.detector.detections(
                real, geometry, confidence=self.confidence, iou=self.iou, labels=self.labels
            )
        except InputShapeError:
            if any(spec.shape is not None and None not in spec.shape for spec in self.plan.outputs):
                raise
            # The file left the sizes open, and they turned out to be no detector's.
            self.detector = None
            return self._read(outputs, image)
        return (), boxes

    def explain(self) -> str:
        """See `run.Task`."""
        kind = "" if self.detector is None else f"; boxes read as {self.detector.name}"
        return f"pictures fed as {self.preprocessing.explain()}{kind}"


def _told(preprocessing: Preprocessing, detector: Detector, usual: dict[str, Any]) -> tuple[str, ...]:
    kept = preprocessing.notes
    if "mean" in usual:
        kept = tuple(note for note in kept if not note.startswith("pixels"))
    return (*kept, f"{', '.join(sorted(usual))} as {detector.name} needs") if usual else kept
