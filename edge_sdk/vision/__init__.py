"""Pictures to tensors, and what models answer about them to labels and boxes.

`read_image` -> `prepare` -> (a session runs) -> `top_k`, or a `Detector` recognised from the outputs -> `draw`.
OpenCV is imported on first use; it comes with the extra `vision` (or `vision-headless`).
"""

from edge_sdk.vision.detections import Detections, intersection_over_union, nms
from edge_sdk.vision.detectors import Detector, recognise
from edge_sdk.vision.drawing import draw
from edge_sdk.vision.geometry import Geometry
from edge_sdk.vision.labels import ScoredLabel, read_labels, top_k
from edge_sdk.vision.opencv import load_cv2
from edge_sdk.vision.pictures import MAX_PIXELS, decode_image, read_image, write_image
from edge_sdk.vision.preprocessing import Preprocessing, prepare

__all__ = [
    "MAX_PIXELS",
    "Detections",
    "Detector",
    "Geometry",
    "Preprocessing",
    "ScoredLabel",
    "decode_image",
    "draw",
    "intersection_over_union",
    "load_cv2",
    "nms",
    "prepare",
    "read_image",
    "read_labels",
    "recognise",
    "top_k",
    "write_image",
]
