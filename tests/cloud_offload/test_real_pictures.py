"""Photographs through a real endpoint: whole models and tails, in every form of sending."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.engines.base import LoadOptions
from edge_sdk.engines.registry import engines_for
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.cuts import Cut, cut_at, input_cut
from edge_sdk.graph.opening import open_graph
from edge_sdk.offload.opening import open_split
from edge_sdk.offload.parts import made_parts
from edge_sdk.offload.tail_names import TailName
from edge_sdk.tensors import Array
from edge_sdk.wire.http import HttpEndpoint
from tests.cloud_offload.endpoints import put, running

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")
cv2 = pytest.importorskip("cv2")
MODELS = ("mobilenet_v2_224_int8.tflite", "ultraface_rfb320.onnx")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpEndpoint]:
    assets = Path(__file__).resolve().parents[2].parent / "shared" / "assets"
    if not assets.is_dir():
        pytest.skip("the shared models and photographs are not here")
    repository = tmp_path_factory.mktemp("repository")
    for name in MODELS:
        path = assets / "models" / name
        put(repository, path.stem, path.read_bytes(), file=f"model{path.suffix}")
    with running(repository, tmp_path_factory.mktemp("cache")) as endpoint:
        client = HttpEndpoint(endpoint.url)
        yield client
        client.close()


def photo(assets: Path, name: str, height: int, width: int) -> Array:
    pixels: Array = cv2.resize(cv2.imread(str(assets / "photos" / name))[..., ::-1], (width, height))
    return np.ascontiguousarray(pixels)


def outputs(
    device: HttpEndpoint, model: ModelFile, cut: Cut, codec: str, array: Array, codings: str = "", content: str = ""
) -> tuple[dict[str, Array], int]:
    """The answer by way of the endpoint, and how many bytes travelled both ways."""
    name = model.describe().inputs[0].name
    made = made_parts(model, cut, codec=codec, samples=[{name: array}])
    assert model.path is not None
    tail = str(TailName.of_tensors(model.path.stem, cut.tensors, codec, model.fingerprint, made.split.scales))
    device.metadata(tail)  # from here on it is made
    coded = dict.fromkeys(made.split.sent, codings) if codings else None
    seen: list[int] = []

    class Counting(HttpEndpoint):
        def infer(self, *given, **options):  # type: ignore[no-untyped-def]
            answer = super().infer(*given, **options)
            seen.append(answer.size_bytes)
            return answer

    with closing(Counting(device.name)) as there:
        runner = open_split(model, made.split, [there], tail, codings=coded, content_coding=content)
        with closing(runner):
            runner.run({name: array})
            found = runner.run({name: array})
            assert runner.figures().failure == "" and runner.figures().remote
    return found, seen[-1]


def whole(model: ModelFile, array: Array) -> dict[str, Array]:
    with closing(engines_for(model.format)[0].load(model, LoadOptions(spin=False, cache=False))) as runner:
        return {n: np.array(a) for n, a in dict(runner.run({runner.inputs[0].name: array})).items()}


@pytest.mark.parametrize(("coding", "most"), [("", 160_000), ("jpeg@85", 20_000), ("webp@80", 15_000)])
def test_a_photograph_is_classified_there(device: HttpEndpoint, assets: Path, coding: str, most: int) -> None:
    array = photo(assets, "hot_dog.jpg", 224, 224)[None]
    with open_model(assets / "models" / MODELS[0]) as model:
        found, size_bytes = outputs(device, model, input_cut(open_graph(model)), "none", array, coding)
    assert [np.argmax(scores) for scores in found.values()] == [935]  # hotdog
    assert size_bytes < most


def test_bytes_of_a_quantised_model_become_16_levels(device: HttpEndpoint, assets: Path) -> None:
    array = photo(assets, "grace_hopper.bmp", 224, 224)[None]
    with open_model(assets / "models" / MODELS[0]) as model:
        graph = open_graph(model)
        cut = cut_at(graph, [next(n for n in graph.tensors if n.endswith("expanded_conv_6/add/add"))])
        expected = whole(model, array)
        sizes = {}
        for codec, content in (("none", ""), ("int4", ""), ("int4", "deflate"), ("int4c", "")):
            found, sizes[codec, content] = outputs(device, model, cut, codec, array, content=content)
            assert [np.argmax(a) for a in found.values()] == [np.argmax(a) for a in expected.values()]
    assert sizes["int4", "deflate"] < sizes["int4", ""] < 0.6 * sizes["none", ""]


def test_faces_are_found_with_4_bits_a_value(device: HttpEndpoint, assets: Path) -> None:
    array = ((photo(assets, "faces_1.jpg", 240, 320).astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None].copy()
    with open_model(assets / "models" / MODELS[1]) as model:
        graph = open_graph(model)
        expected = whole(model, array)["scores"][0, :, 1] > 0.7
        for cut, codec, coding in (
            (cut_at(graph, ["268"]), "int4c", ""),
            (input_cut(graph), "int8", "jpeg@90"),
        ):
            found, size_bytes = outputs(device, model, cut, codec, array, coding)
            sure = found["scores"][0, :, 1] > 0.7
            assert (sure & expected).sum() >= 0.9 * max(sure.sum(), expected.sum()) > 0
            assert size_bytes - sum(a.nbytes for a in found.values()) < 50_000
