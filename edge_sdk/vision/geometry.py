"""Where a picture comes to lie in a model's input, and the way back for boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_sdk.tensors import Array

__all__ = ["Geometry", "ResizeMode", "geometry"]

ResizeMode = Literal["stretch", "letterbox", "center-crop"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """A part of a picture and the rectangle of the input that it fills.

    Attributes:
        image_height, image_width: of the picture, in pixels.
        source: the part taken: (top, left, bottom, right) in pixels of the picture.
        target_top, target_left, target_height, target_width: the rectangle filled, in pixels of the input.
    """

    image_height: int
    image_width: int
    source: tuple[int, int, int, int]
    target_top: int
    target_left: int
    target_height: int
    target_width: int

    def to_image(self, boxes: Array) -> Array:
        """Maps boxes from the input to the picture and clips them to it.

        Args:
            boxes: (n, 4), [x1, y1, x2, y2] in pixels of the input.

        Returns:
            float32 (n, 4), [x1, y1, x2, y2] in pixels of the picture.
        """
        top, left, bottom, right = self.source
        scale_x = (right - left) / self.target_width
        scale_y = (bottom - top) / self.target_height
        factors = np.array([scale_x, scale_y, scale_x, scale_y])
        offset = np.array([left - self.target_left * scale_x, top - self.target_top * scale_y] * 2)
        mapped = np.asarray(boxes, np.float64).reshape(-1, 4) * factors + offset
        limits = np.array([self.image_width, self.image_height] * 2)
        clipped: Array = np.clip(mapped, 0, limits).astype(np.float32)
        return clipped


def geometry(
    image_height: int, image_width: int, height: int, width: int, resize: ResizeMode, crop_fraction: float = 0.875
) -> Geometry:
    """Lays a picture of `image_height` x `image_width` pixels into an input of `height` x `width`.

    Args:
        image_height: of the picture, in pixels.
        image_width: of the picture, in pixels.
        height: of the input, in pixels.
        width: of the input, in pixels.
        resize: see `Preprocessing.resize`.
        crop_fraction: see `Preprocessing.crop_fraction`.
    """
    whole = (0, 0, image_height, image_width)
    if resize == "letterbox":
        factor = min(height / image_height, width / image_width)
        target_height = min(height, max(1, round(image_height * factor)))
        target_width = min(width, max(1, round(image_width * factor)))
        top, left = (height - target_height) // 2, (width - target_width) // 2
        return Geometry(image_height, image_width, whole, top, left, target_height, target_width)
    if resize == "center-crop":
        factor = min(image_height / height, image_width / width) * crop_fraction
        part_height = min(image_height, max(1, round(height * factor)))
        part_width = min(image_width, max(1, round(width * factor)))
        top, left = (image_height - part_height) // 2, (image_width - part_width) // 2
        return Geometry(
            image_height, image_width, (top, left, top + part_height, left + part_width), 0, 0, height, width
        )
    return Geometry(image_height, image_width, whole, 0, 0, height, width)
