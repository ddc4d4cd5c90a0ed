"""Finds faces with the same detector as ONNX and as TFLite, compares the answers, and draws the boxes.

python examples/detect_faces.py ultraface_rfb320.onnx ultraface_rfb320.tflite faces.jpg faces_drawn.png
"""

import sys

import numpy as np

import edge_sdk
from edge_sdk.tensors import Array
from edge_sdk.vision import Detections, Preprocessing, draw, prepare, read_image, recognise, write_image

HEIGHT, WIDTH = 240, 320


def detect(model: str, image: Array) -> Detections:
    """Boxes in pixels of `image`, uint8 [height, width, 3] in RGB."""
    with edge_sdk.load(model) as session:
        detector = recognise(session.outputs, HEIGHT, WIDTH)
        if detector is None:
            sys.exit(f"detect_faces: {model} is no face detector that is known here")
        # The detector knows what its pictures need: (pixel - 127) / 128, stretched to 320x240.
        preprocessing = Preprocessing.for_input(session.inputs[0], **detector.preprocessing)
        outputs = session.run(prepare(image, preprocessing))
        print(f"{model}: {session.plan.reason}")
        return detector.detections(outputs, preprocessing.geometry(*image.shape[:2]))


def main(onnx_model: str, tflite_model: str, picture: str, drawing: str) -> None:
    image = read_image(picture)
    first, second = detect(onnx_model, image), detect(tflite_model, image)
    if len(first) != len(second):
        sys.exit(f"detect_faces: {len(first)} faces from ONNX, {len(second)} from TFLite")
    difference = np.abs(first.scores - second.scores).max(initial=0)
    print(f"{len(first)} faces from both, scores differ by at most {difference:.1e}")
    write_image(drawing, draw(image, first))
    print(f"drawn in {drawing}")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except edge_sdk.EdgeError as error:
        sys.exit(f"detect_faces: {error}")
