"""Names what is in a picture.

python examples/classify_image.py mobilenet_v2_224_int8.tflite cat.bmp imagenet_labels.txt
"""

import sys

import edge_sdk
from edge_sdk.tensors import dequantize
from edge_sdk.vision import Preprocessing, prepare, read_image, read_labels, top_k


def main(model: str, picture: str, labels_file: str) -> None:
    labels = read_labels(labels_file)
    image = read_image(picture)
    with edge_sdk.load(model) as session:
        preprocessing = Preprocessing.for_input(session.inputs[0])
        outputs = session.run(prepare(image, preprocessing))
        first = session.outputs[0]
        for entry in top_k(dequantize(outputs[first.name], first), 3, labels):
            print(f"{entry.score:.3f}  {entry.label}")
        print(session.plan.reason)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except edge_sdk.EdgeError as error:
        sys.exit(f"classify_image: {error}")
