"""Boxes in pictures, from a file in COCO's format.

Source: the object detection format of https://cocodataset.org/#format-data: `images` with `id` and `file_name`,
`annotations` with `image_id`, `category_id` and `bbox` as [x, y, width, height] in pixels, `categories` with `id` and
`name`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edge_sdk.compress.scores import BoxTruth
from edge_sdk.errors import InputValueError, UnreadableInput
from edge_sdk.storage import read_whole

if TYPE_CHECKING:
    from edge_sdk.vision import Preprocessing

__all__ = ["ANNOTATIONS", "read_boxes"]

ANNOTATIONS = "annotations.json"
_MAX_BYTES = 1 << 30


class _Image(msgspec.Struct):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0


class _Category(msgspec.Struct):
    id: int
    name: str


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_boxes(
    path: Path, pictures: Sequence[Path], preprocessing: Preprocessing, classes: Sequence[str], notes: list[str]
) -> list[BoxTruth]:
    """The boxes of each picture, as the model's own class indices.

    Args:
        path: the file.
        pictures: what to read boxes for, by file name.
        preprocessing: how pictures come to lie in the input, for the way back.
        classes: the model's class names by index; categories are taken in the order of their ids where there are none.
        notes: what was assumed is added here.

    Raises:
        UnreadableInput: the file is damaged, or does not name a picture.
        InputValueError: a category is none of the model's classes.
    """
    try:
        content = msgspec.json.decode(read_whole(path, _MAX_BYTES), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableInput(f"{path}: {error}; expected COCO's images, annotations and categories") from None
    index = _class_indices(path, content.categories, classes, notes)
    images = {Path(image.file_name).name: image for image in content.images}
    by_image: dict[int, list[_Annotation]] = {}
    for annotation in content.annotations:
        if annotation.category_id not in index:
            raise UnreadableInput(f"{path}: a box has category_id {annotation.category_id}, which is not in categories")
        by_image.setdefault(annotation.image_id, []).append(annotation)
    truths = []
    for picture in pictures:
        image = images.get(picture.name)
        if image is None:
            raise UnreadableInput(f"{path}: does not name the picture {picture.name!r} under images")
        truths.append(_truth(by_image.get(image.id, []), index, image, picture, preprocessing))
    return truths


def _truth(
    annotations: Sequence[_Annotation],
    index: dict[int, int],
    image: _Image,
    picture: Path,
    preprocessing: Preprocessing,
) -> BoxTruth:
    height, width = image.height, image.width
    if height is None or width is None or height < 1 or width < 1:
        from edge_sdk.vision import read_image

        height, width = read_image(picture).shape[:2]
    corners = np.array([a.bbox for a in annotations], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return BoxTruth(
        boxes=corners,
        class_ids=np.array([index[a.category_id] for a in annotations], np.int64),
        crowd=np.array([bool(a.iscrowd) for a in annotations], bool),
        geometry=preprocessing.geometry(height, width),
    )


def _class_indices(
    path: Path, categories: Sequence[_Category], classes: Sequence[str], notes: list[str]
) -> dict[int, int]:
    ordered = sorted(categories, key=lambda category: category.id)
    if not classes:
        notes.append("boxes' categories are numbered in the order of their ids; give --labels for another order")
        return {category.id: place for place, category in enumerate(ordered)}
    lower = [name.lower() for name in classes]
    index = {}
    for category in ordered:
        if category.name.lower() not in lower:
            raise InputValueError(
                f"{path}: category {category.name!r} is none of the model's classes: {', '.join(classes)[:200]}"
            )
        index[category.id] = lower.index(category.name.lower())
    return index
