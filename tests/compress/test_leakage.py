"""Leakage is 1 for the input itself, 0 for noise, and less the deeper a cut lies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.compress.leakage import LEAST_SAMPLES, leakage_of
from edge_sdk.engines.base import LoadOptions
from edge_sdk.engines.registry import engines_for
from edge_sdk.errors import InputValueError
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import single_cuts
from edge_sdk.graph.splitting import split_model
from edge_sdk.tensors import Array

CHANCE = np.random.default_rng(3)


def smooth(rows: int, columns: int, channels: int) -> Array:
    """A picture of a few waves: neighbours are alike, and no two pictures are the same."""
    y, x = np.mgrid[0:rows, 0:columns]
    waves = [
        CHANCE.normal(size=channels) * np.sin(y / rows * a + x / columns * b + c)[..., None]
        for a, b, c in CHANCE.uniform(0, 9, (6, 3))
    ]
    return np.asarray(np.sum(waves, axis=0, dtype=np.float32))[None]


PICTURES = [smooth(40, 30, 3) for _ in range(40)]
INPUTS = [{"x": picture} for picture in PICTURES]


def explained(activations: Sequence[Array], inputs: Sequence[dict[str, Array]] = INPUTS) -> float:
    return leakage_of([{"h": array} for array in activations], inputs).explained


class TestPictures:
    def test_the_input_itself_leaks_all_of_it(self) -> None:
        found = leakage_of(INPUTS, INPUTS)
        assert found.explained > 0.99
        assert found.psnr_db > 30
        assert found.samples == 12

    def test_so_does_any_linear_map_of_it_in_either_layout(self) -> None:
        mixing = CHANCE.normal(size=(3, 8)).astype(np.float32)
        mixed = [picture @ mixing for picture in PICTURES]
        assert explained(mixed) > 0.99
        assert explained([array.transpose(0, 3, 1, 2) for array in mixed]) > 0.99

    def test_noise_and_constants_leak_nothing(self) -> None:
        assert explained([CHANCE.normal(size=(1, 10, 8, 16)) for _ in PICTURES]) < 0.05
        assert explained([np.ones((1, 10, 8, 16)) for _ in PICTURES]) < 0.01

    def test_one_colour_leaks_a_part(self) -> None:
        assert 0.2 < explained([picture[..., :1] for picture in PICTURES]) < 0.6

    def test_coarser_maps_and_bytes_leak_less_but_leak(self) -> None:
        fine = explained([picture[:, ::5, ::5] for picture in PICTURES])
        coarse = explained([picture[:, ::20, ::15] for picture in PICTURES])
        assert fine > 0.95
        assert coarse < fine
        low, high = min(p.min() for p in PICTURES), max(p.max() for p in PICTURES)
        assert explained([np.round((p - low) / (high - low) * 255).astype(np.uint8) for p in PICTURES]) > 0.99

    def test_the_tensor_of_several_that_tells_most_counts(self) -> None:
        both = [{"a": CHANCE.normal(size=(1, 5)), "b": picture} for picture in PICTURES]
        assert leakage_of(both, INPUTS).explained > 0.99


class TestOtherInputs:
    def test_rows_of_numbers_leak_through_linear_maps(self) -> None:
        inputs = [{"x": CHANCE.normal(size=(1, 6)).astype(np.float32)} for _ in range(120)]
        mixing = CHANCE.normal(size=(6, 6))
        assert explained([feeds["x"] @ mixing for feeds in inputs], inputs) > 0.99
        assert explained([(feeds["x"] @ mixing)[:, :2] for feeds in inputs], inputs) < 0.6

    def test_sound_is_judged_in_equal_pieces(self) -> None:
        notes = [np.sin(np.arange(4000) / CHANCE.uniform(200, 400))[None].astype(np.float32) for _ in range(60)]
        inputs = [{"wave": note} for note in notes]
        assert explained(notes, inputs) > 0.9
        assert explained([CHANCE.normal(size=(1, 50)) for _ in notes], inputs) < 0.1

    def test_of_several_inputs_the_most_open_one_counts(self) -> None:
        inputs = [{"hidden": CHANCE.normal(size=(1, 4)), "open": CHANCE.normal(size=(1, 4))} for _ in range(60)]
        assert explained([feeds["open"] for feeds in inputs], inputs) > 0.99

    def test_an_input_that_never_changes_cannot_leak(self) -> None:
        inputs = [{"x": np.ones((1, 4), np.float32)} for _ in range(20)]
        assert explained([feeds["x"] for feeds in inputs], inputs) == 0

    def test_sizes_that_change_from_sample_to_sample_and_infinity_are_borne(self) -> None:
        arrays = [np.full((1, 3 + n % 3), np.inf if n == 5 else n, np.float32) for n in range(20)]
        assert 0 <= explained(arrays, [{"x": np.full((1, 2), n, np.float32)} for n in range(20)]) <= 1


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(InputValueError, match=f"at least {LEAST_SAMPLES} samples; given 3 and 3"):
        leakage_of(INPUTS[:3], INPUTS[:3])
    with pytest.raises(InputValueError, match="given 39 and 40"):
        leakage_of(INPUTS[:-1], INPUTS)


@pytest.mark.usefixtures("untried")
def test_deeper_cuts_of_a_real_network_leak_less(assets: Path) -> None:
    """MobileNetV1 on crops of photographs."""
    cv2 = pytest.importorskip("cv2")
    photos = [
        cv2.imread(str(path)) for path in sorted((assets / "photos").iterdir()) if path.suffix in (".bmp", ".jpg")
    ]
    crops = []
    for number in range(48):
        photo = photos[number % len(photos)]
        size = int(min(photo.shape[:2]) * CHANCE.uniform(0.3, 0.9))
        y, x = CHANCE.integers(photo.shape[0] - size), CHANCE.integers(photo.shape[1] - size)
        crops.append(cv2.resize(photo[y : y + size, x : x + size], (128, 128), interpolation=cv2.INTER_AREA)[None])
    with open_model(assets / "models" / "mobilenet_v1_025_128_int8.tflite") as model:
        graph = open_graph(model)
        cuts = single_cuts(graph)
        feeds = [{model.describe().inputs[0].name: crop} for crop in crops]
        found = []
        for cut in (cuts[1], cuts[12], cuts[-6], cuts[-1]):
            split = split_model(model, cut, graph=graph)
            with closing(engines_for("tflite")[0].load(open_model(split.head, name="head"), LoadOptions())) as head:
                found.append(leakage_of([head.run(one) for one in feeds], feeds).explained)
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.8
    assert found[-1] < 0.35
