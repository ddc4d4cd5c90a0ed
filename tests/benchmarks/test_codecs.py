"""What benchmarks/codecs.py judges by: boxes, the float form of a quantised network, and rows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("cv2")

from benchmarks import codecs

ONE, FAR = np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([[50.0, 50.0, 60.0, 60.0]])


def scored(boxes: np.ndarray, *scores: float) -> codecs.Boxes:  # type: ignore[type-arg]
    return boxes, np.array(scores)


def test_f1_counts_sure_boxes_and_leaves_out_what_the_whole_is_unsure_of() -> None:
    sure, nothing = scored(ONE, 0.95), scored(np.zeros((0, 4)))
    both = scored(np.concatenate([ONE, FAR]), 0.95, 0.75)
    assert codecs.f1([sure], [sure], 0.9) == 1
    assert codecs.f1([sure], [nothing], 0.9) == 0
    assert codecs.f1([sure], [both], 0.9) == pytest.approx(2 / 3)
    # The whole sees something at FAR too, but would not swear to it: found or not, it counts neither way.
    assert codecs.f1([both], [both], 0.9) == codecs.f1([both], [sure], 0.9) == 1
    assert codecs.f1([both], [sure], 0.7) == pytest.approx(2 / 3)
    # A box of too low a score was not found.
    assert codecs.f1([sure], [scored(ONE, 0.6)], 0.9) == 0


def test_the_float_form_of_a_quantised_network_sees_the_same(assets: Path) -> None:
    pixels = codecs.load_cv2().imread(str(assets / "photos" / "hot_dog.jpg"))[..., ::-1]
    array = codecs.load_cv2().resize(np.ascontiguousarray(pixels), (224, 224))[None]
    content = (assets / "models" / "mobilenet_v2_224_int8.tflite").read_bytes()
    with closing(codecs.loaded(codecs.floating(content))) as network:
        assert {spec.dtype for spec in (*network.inputs, *network.outputs)} == {"float32"}
        name = network.inputs[0].name
        assert codecs.label_of(codecs.run(network, {name: (array.astype(np.float32) - 127) / 127.5})) == 935


def test_an_entropy_coding_pays_below_the_bandwidth_at_which_it_saves_as_much_time_as_it_takes() -> None:
    row = codecs.packed("cut", 0.5, "int4", [bytes(100_000)] * 3, (400_000, 800_000), 0.1, (0.9, 0.005, 0.95))
    saved_bits = 8 * (100_000 - row.packed_bytes["deflate"])
    at_mbps = row.pays_below_mbps("deflate")
    assert saved_bits / (at_mbps * 1e3) == pytest.approx(row.pack_ms["deflate"])
    assert row.able and row.ratio > 100
    assert codecs.summary([row])["best"]["cut"] == "cut"
