"""Results drawn on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sdk.tensors import Array
from edge_sdk.vision.detections import Detections
from edge_sdk.vision.labels import ScoredLabel
from edge_sdk.vision.opencv import load_cv2
from edge_sdk.vision.pictures import check_image

__all__ = ["draw"]

_COLOURS = ((230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (0, 150, 150), (240, 50, 230))
_WHITE = (255, 255, 255)
_FONT = 0  # cv2.FONT_HERSHEY_SIMPLEX


def draw(image: Array, found: Detections | Sequence[ScoredLabel]) -> Array:
    """Draws boxes with their labels, or the first labels in the upper left corner, on a copy of the picture.

    Args:
        image: uint8 [height, width, 3] RGB, or [height, width] grey.
        found: what to draw.

    Returns:
        uint8 [height, width, 3] RGB.

    Raises:
        InputError: `image` is no such array.
        MissingExtra: OpenCV is not installed.
    """
    check_image(image)
    cv2 = load_cv2()
    canvas = np.ascontiguousarray(image.copy() if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2))
    # Line and letter sizes follow the picture, so that a large photograph is as readable as a small one.
    size = max(0.4, min(canvas.shape[:2]) / 900)
    if isinstance(found, Detections):
        for box, score, index in zip(found.boxes, found.scores, found.class_ids, strict=True):
            name = found.label(int(index)) or f"class {int(index)}"
            _draw_box(cv2, canvas, box, f"{name} {score:.2f}", _COLOURS[int(index) % len(_COLOURS)], size)
        return canvas
    top = 0
    for entry in found:
        score = "" if entry.score is None else f" {entry.score:.3f}"
        top = _draw_text(cv2, canvas, f"{entry.label or f'class {entry.index}'}{score}", 0, top, _COLOURS[2], size)
    return canvas


def _draw_box(cv2: Any, canvas: Array, box: Array, text: str, colour: tuple[int, int, int], size: float) -> None:
    left, upper, right, lower = (round(float(v)) for v in box)
    cv2.rectangle(canvas, (left, upper), (right, lower), colour, max(1, round(size * 3)))
    letters = min(size, max(0.35, (right - left) / 160))
    _draw_text(cv2, canvas, text, left, max(0, upper - round(36 * letters)), colour, letters)


def _draw_text(
    cv2: Any, canvas: Array, text: str, left: int, top: int, colour: tuple[int, int, int], size: float
) -> int:
    """Writes white text on a coloured strip and returns where the next line begins."""
    plain = text.encode("ascii", "replace").decode()  # the built-in letters are ASCII
    thickness = max(1, round(size * 2))
    (width, height), base = cv2.getTextSize(plain, _FONT, size, thickness)
    bottom = top + height + base + round(6 * size)
    cv2.rectangle(canvas, (left, top), (left + width, bottom), colour, -1)
    cv2.putText(canvas, plain, (left, bottom - base), _FONT, size, _WHITE, thickness, cv2.LINE_AA)
    return int(bottom)
