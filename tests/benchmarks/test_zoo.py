"""The zoo: models shaped like real architectures, and small networks whose accuracy means something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import edge_sdk
from benchmarks import zoo
from edge_sdk.graph import open_graph

SMALL = ("mobilenet_v2_035_96", "resnet8_32", "text_64", "gru_64", "keywords_64", "mlp_64", "conv_autoencoder_96")


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mobilenet_v1_224", 569),  # Howard et al. 2017, table 4
        ("mobilenet_v2_224", 300),  # Sandler et al. 2018, table 4
        ("mobilenet_v3_small_224", 56),  # Howard et al. 2019, table 3
        ("resnet18_224", 1814),  # torchvision
        ("shufflenet_v2_224", 146),  # Ma et al. 2018, table 8
    ],
)
def test_an_architecture_has_the_published_multiply_accumulates(name: str, millions: int) -> None:
    assert zoo.build(name).macs / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_runs_and_its_answer_depends_on_its_input(name: str, tmp_path: Path) -> None:
    net = zoo.build(name)
    with edge_sdk.load(zoo.write(tmp_path, [name])[name], threads=1, trusted=True) as session:
        first, second = (session.run(net.feeds(seed=seed)) for seed in (1, 2))
    for key, answer in first.items():
        assert np.isfinite(answer).all()
        assert not np.allclose(answer, second[key], rtol=1e-3), f"{key} does not depend on the input"


def test_the_same_seed_gives_the_same_file_and_another_one_another() -> None:
    one, same, other = (zoo.build("resnet8_32", seed).model().SerializeToString() for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_folding_normalisations_into_convolutions_keeps_the_answer(tmp_path: Path) -> None:
    answers = []
    for folded in (False, True):
        net = zoo.build("keywords_wide")
        net.folded = folded
        model = net.model()
        assert folded != any(node.op_type == "BatchNormalization" for node in model.graph.node)
        path = tmp_path / f"{folded}.onnx"
        onnx.save(model, str(path))
        with edge_sdk.load(path, threads=1, trusted=True) as session:
            answers.append(session.run(net.feeds())["probabilities"])
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)


def test_families_can_be_held_out_whole() -> None:
    assert set(zoo.FAMILIES) == set(zoo.NAMES)
    assert len(zoo.NAMES) >= 30
    assert len(set(zoo.FAMILIES.values())) >= 20


def test_the_fragile_network_is_the_sound_one_in_float_and_nothing_in_per_tensor_int8(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    trained = zoo.write_trained(tmp_path)
    with np.load(trained.held_out) as arrays:
        image, labels = arrays["image"][:100], arrays["labels"][:100]

    def scores(path: Path) -> np.ndarray:
        with edge_sdk.load(path, threads=1, trusted=True) as session:
            return session.run({"image": image})["scores"]

    def accuracy(path: Path) -> float:
        return float((scores(path).argmax(1) == labels).mean())

    sound, fragile = trained.models["digits_depthwise"], trained.models["fragile_depthwise"]
    assert accuracy(trained.models["digits_plain"]) > 0.95
    assert accuracy(sound) > 0.95
    np.testing.assert_allclose(scores(fragile), scores(sound), atol=1e-4)
    ruined = {path: tmp_path / f"int8_{path.name}" for path in (sound, fragile)}
    for path, made in ruined.items():
        quantize_dynamic(path, made, per_channel=False)
    assert accuracy(ruined[sound]) > 0.95
    assert accuracy(ruined[fragile]) < 0.3


@pytest.mark.parametrize("name", SMALL)
def test_the_graph_counts_the_multiply_accumulates_that_the_writer_counted(name: str, tmp_path: Path) -> None:
    graph = open_graph(zoo.write(tmp_path, [name])[name])
    assert graph.macs == zoo.build(name).macs
    assert not graph.uncounted
