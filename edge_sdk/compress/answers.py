"""Two models' answers to the same sample, side by side: how far apart they are, and whether they say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edge_sdk.compress.precision_recall import overlaps
from edge_sdk.compress.scores import best_class, class_scores
from edge_sdk.errors import InputError, InputNameError
from edge_sdk.tensors import Array

if TYPE_CHECKING:
    from edge_sdk.vision import Detections, Detector

__all__ = ["Comparing", "apart"]

_SAME_BOX = 0.5
_LEAST_SIZE = 0.01
"""An answer smaller than this share of the output's mean size is compared with that: else next to nothing, beside
nothing, would be an error without bounds."""


class Comparing:
    """Counts, over samples, how a variant's answers differ from the source's.

    Args:
        detector: what boxes are read with, where the model is a known detector.
    """

    def __init__(self, detector: Detector | None = None) -> None:
        self._detector = detector
        self._apart: dict[str, list[tuple[float, float]]] = {}
        self._samples = 0
        self._same = 0
        self._classified = 0
        self._boxes = [0, 0, 0]  # the source's, the variant's, those of both
        self.not_finite = 0

    def add(self, source: Mapping[str, Array], variant: Mapping[str, Array]) -> None:
        """Counts one sample.

        Raises:
            InputNameError: the variant lacks an output of the source.
        """
        missing = [name for name in source if name not in variant]
        if missing:
            raise InputNameError(
                f"the variant has no output {missing[0]!r} as the source has; it gives {', '.join(variant)}"
            )
        pairs = {name: apart(array, variant[name]) for name, array in source.items()}
        for name, pair in pairs.items():
            self._apart.setdefault(name, []).append(pair)
        self.not_finite += any(np.isinf(distance) for distance, _ in pairs.values())
        self._samples += 1
        if self._detector is not None:
            self._add_boxes(self._detector, source, variant)
            return
        expected, given = class_scores(source), class_scores(variant)
        if expected is not None and given is not None and expected.size == given.size > 1:
            self._classified += 1
            self._same += best_class(expected) == best_class(given)

    def _add_boxes(self, detector: Detector, source: Mapping[str, Array], variant: Mapping[str, Array]) -> None:
        from edge_sdk.vision.geometry import geometry

        place = geometry(detector.height, detector.width, detector.height, detector.width, "stretch")
        try:
            one, two = detector.detections(source, place), detector.detections(variant, place)
        except InputError:
            self._detector = None  # the outputs turned out to be no detector's
            return
        for index, count in enumerate((len(one), len(two), _shared(one, two))):
            self._boxes[index] += count

    @property
    def mean_error(self) -> float:
        """Mean over samples of the relative error of the output that differs most."""
        worst: Array = np.zeros(self._samples)
        for pairs in self._apart.values():
            distance, size = np.array(pairs).T
            least = np.maximum(size, _LEAST_SIZE * size.mean())
            nothing = np.where(distance > 0, 1.0, 0.0)
            worst = np.maximum(worst, np.divide(distance, least, out=nothing, where=least > 0))
        return float(worst.mean()) if self._samples else 0.0

    @property
    def agreement(self) -> float | None:
        """Share of answers that are the same; None where the answers are neither classes nor boxes."""
        if self._detector is not None and self._boxes[0]:
            return 2 * self._boxes[2] / (self._boxes[0] + self._boxes[1])
        if self._detector is None and self._classified == self._samples > 0:
            return self._same / self._classified
        return None

    @property
    def counted(self) -> str:
        """What `agreement` is a share of: "360 samples", "17 boxes"."""
        return f"{self._boxes[0]} boxes" if self._detector is not None else f"{self._classified} samples"


def apart(expected: Array, given: Array) -> tuple[float, float]:
    """|given - expected| and |expected|, Euclidean; of whole numbers and text the share that differs, and one.

    The first is infinite where shapes differ, or where NaN or infinity stands in other places.
    """
    if expected.shape != given.shape:
        return float("inf"), 1.0
    if expected.dtype.kind not in "fc" or given.dtype.kind not in "fc":
        return (float(np.mean(expected != given)) if expected.size else 0.0), 1.0
    one, two = expected.astype(np.float64, copy=False), given.astype(np.float64, copy=False)
    finite = np.isfinite(one)
    if not finite.all() or not np.isfinite(two).all():
        same_places = np.array_equal(finite, np.isfinite(two))
        if not (same_places and np.array_equal(one[~finite], two[~finite], equal_nan=True)):
            return float("inf"), 1.0
        one, two = one[finite], two[finite]
    return float(np.linalg.norm(two - one)), float(np.linalg.norm(one))


def _shared(one: Detections, two: Detections) -> int:
    """How many boxes of a class both have, matched greedily from the best score down."""
    count = 0
    shared = overlaps(two.boxes, one.boxes)
    same_class = two.class_ids[:, None] == one.class_ids[None, :]
    free = np.ones(len(one), bool)
    for row in np.where(same_class, shared, 0.0):
        place = int(np.where(free, row, 0).argmax()) if len(row) else 0
        if len(row) and free[place] and row[place] >= _SAME_BOX:
            free[place] = False
            count += 1
    return count
