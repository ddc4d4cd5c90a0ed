"""Tails that the endpoint makes on demand, asked for by a device whose model is split."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("onnx")

import edge_sdk
from edge_sdk import bundle
from edge_sdk.bundle import Variant
from edge_sdk.engines.base import LoadOptions
from edge_sdk.engines.onnxruntime import OnnxRuntimeEngine
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.errors import EndpointRefused, InputError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.codec import Scale, coding_mark
from edge_sdk.graph.cuts import Cut, cut_at, cuts_of, input_cut
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.splitting import split_model
from edge_sdk.offload import SplitRunner
from edge_sdk.offload.opening import open_split
from edge_sdk.offload.parts import made_parts
from edge_sdk.offload.tail_names import TailName
from edge_sdk.signature import LogicalTensor, Signature
from edge_sdk.tensors import Array
from edge_sdk.wire.endpoint import TailIdentity
from edge_sdk.wire.http import HttpEndpoint
from tests import models
from tests.cloud_offload.endpoints import Endpoint, Start, put, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "mlp", models.onnx_mlp())
    with running(repository, tmp_path_factory.mktemp("cache")) as endpoint:
        yield endpoint


@pytest.fixture
def device(server: Endpoint) -> Iterator[HttpEndpoint]:
    client = HttpEndpoint(server.url)
    yield client
    client.close()


@pytest.fixture
def model() -> Iterator[ModelFile]:
    with open_model(models.onnx_mlp()) as file:
        yield file


def cuts(model: ModelFile) -> list[Cut]:
    return list(cuts_of(open_graph(model)))


def feeds_of(number: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(number).standard_normal((1, 8), np.float32)}


def runner_of(model: ModelFile, cut: Cut, endpoint: HttpEndpoint, name: str, codec: str = "none") -> SplitRunner:
    return open_split(model, split_model(model, cut, codec=codec), [endpoint], name)


def whole(model: ModelFile, number: int) -> Array:
    with model.content() as content, edge_sdk.load(bytes(content), plan_budget_s=0) as session:
        return np.asarray(session.run(feeds_of(number))["y"])


def ask(runner: SplitRunner, count: int) -> None:
    for number in range(count):
        runner.run(feeds_of(number))


@pytest.mark.parametrize("codec", ["none", "fp16"])
def test_a_device_gets_the_whole_models_answers_from_a_tail_it_never_deployed(
    device: HttpEndpoint, model: ModelFile, codec: str
) -> None:
    cut = cuts(model)[0]
    name = str(TailName("mlp", cut.id, codec, model.fingerprint))
    assert device.ready(name), "asking whether it is ready makes it"
    runner = runner_of(model, cut, device, name, codec)
    for number in range(10):
        np.testing.assert_allclose(
            runner.run(feeds_of(number))["y"], whole(model, number), rtol=0, atol=1e-6 if codec == "none" else 1e-2
        )
    assert runner.figures().remote > 0, runner.figures()
    assert not runner.figures().failure
    runner.close()


def test_it_tells_what_it_was_made_from(device: HttpEndpoint, model: ModelFile) -> None:
    for cut in cuts(model):
        metadata = device.metadata(f"mlp@{cut.id}")
        TailIdentity(model.fingerprint, cut.id).check(metadata.parameters, "tail")
        assert metadata.inputs == cut.tensors
        assert metadata.versions == ("1",)
        assert metadata.platform == "onnxruntime_onnx"


def test_a_cut_may_be_named_by_its_tensors(device: HttpEndpoint, model: ModelFile) -> None:
    cut = cuts(model)[0]
    metadata = device.metadata(str(TailName.of_tensors("mlp", cut.tensors)))
    assert metadata.parameters["edge_cut"] == cut.id


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mlp@0123456789ab", "no cut '0123456789ab'"),
        ("mlp@nothing", "nothing called 'nothing'"),
        ("mlp@", "expected MODEL@CUT"),
        ("mlp:xyz@0123456789ab", "expected MODEL@CUT"),
        ("mlp:00000000@0123456789ab", "no file with fingerprint"),
        ("mlp@h2+int8", "int8 needs the scales of its head"),
        ("mlp@h2+int4c", "int4c needs the scales of its head"),
        ("mlp@0123456789ab+int8=", "expected MODEL@CUT"),
        ("mlp@0123456789ab+int8=3f800000:256", "expected MODEL@CUT"),
        ("nobody@0123456789ab", "model 'nobody' is not here"),
    ],
)
def test_what_cannot_be_made_is_told_with_404(server: Endpoint, name: str, reason: str) -> None:
    for _ in range(2):
        reply = server.ask("GET", f"/v2/models/{name}")
        assert (reply.status, reason in reply.json()["error"]) == (404, True), reply
    assert server.infer(name, feeds_of(0)).status == 404


def test_scales_that_are_not_of_the_cut_are_told_with_400(server: Endpoint, model: ModelFile) -> None:
    name = TailName("mlp", cuts(model)[0].id, "int8", scales=(Scale(1.0, 0), Scale(1.0, 0)))
    reply = server.ask("GET", f"/v2/models/{quote(str(name), safe='')}")
    assert (reply.status, "2 scales are given" in reply.json()["error"]) == (400, True), reply


@pytest.mark.parametrize("scale", [Scale(2.0**-149, 0), Scale(float.fromhex("0x1.fffffep127"), 255)])
def test_scales_at_the_ends_of_what_is_allowed_do_no_harm(server: Endpoint, model: ModelFile, scale: Scale) -> None:
    name = TailName("mlp", cuts(model)[0].id, "int8", scales=(scale,))
    assert server.ask("GET", f"/v2/models/{quote(str(name), safe='')}").status in (200, 400)
    assert server.ask("GET", "/v2/health/ready").status == 200


def test_of_a_bundle_the_fingerprint_chooses_the_variant(start: Start, tmp_path: Path) -> None:
    with bundle.create(
        tmp_path / "pair.edge",
        name="pair",
        signature=Signature(
            inputs=(LogicalTensor(name="x", dtype="float32", shape=("batch", 8)),),
            outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),),
        ),
        variants=(Variant(name="small"), Variant(name="large")),
        files={"small": models.onnx_mlp(8, 4, 4), "large": models.onnx_mlp(8, 64, 4)},
    ) as made:
        files = [made.open_variant(variant.name) for variant in made.variants]
        prints = [file.fingerprint for file in files]
        cut = cuts(files[1])[0]
    endpoint = start(tmp_path)

    def told(name: str) -> Any:
        return endpoint.ask("GET", f"/v2/models/{name}").json()["parameters"]["edge_bundle"]

    assert told(str(TailName("pair", cut.id))) == prints[0]
    assert told(str(TailName("pair", cut.id, fingerprint=prints[1]))) == prints[1]
    assert told(str(TailName("pair", cut.id, fingerprint=prints[1][:8]))) == prints[1]
    endpoint.wait_for("tail made", 3)


def test_a_tflite_model_is_cut_too(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    put(tmp_path, "conv", models.tflite_float_conv(), file="model.tflite")
    endpoint = start(tmp_path)
    client = HttpEndpoint(endpoint.url)
    with open_model(models.tflite_float_conv()) as model, model.content() as content:
        listed = cuts(model)
        with edge_sdk.load(bytes(content), plan_budget_s=0) as session:
            feeds = made_up_feeds(session.inputs)
            expected = session.run(feeds)
        for cut in listed:
            assert client.metadata(f"conv@{cut.id}").platform == "litert_tflite"
            runner = runner_of(model, cut, client, f"conv@{cut.id}")
            for _ in range(5):
                for name, array in runner.run(feeds).items():
                    np.testing.assert_array_equal(array, expected[name])
            assert runner.figures().remote > 0, runner.figures()
            runner.close()
    client.close()


def test_a_model_that_cannot_be_cut_is_told_with_400(start: Start, tmp_path: Path) -> None:
    put(tmp_path, "branch", models.onnx_if())
    reply = start(tmp_path).ask("GET", "/v2/models/branch@0123456789ab")
    assert (reply.status, "control flow" in reply.json()["error"]) == (400, True), reply


def test_two_who_ask_at_once_have_it_made_once(start: Start, tmp_path_factory: pytest.TempPathFactory) -> None:
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "mlp", models.onnx_mlp())
    endpoint = start(repository)
    with open_model(models.onnx_mlp()) as model:
        name = f"mlp@{cuts(model)[0].id}"
    together = threading.Barrier(4)

    def metadata() -> int:
        together.wait()
        return endpoint.ask("GET", f"/v2/models/{name}").status

    with ThreadPoolExecutor(4) as pool:
        assert [f.result() for f in [pool.submit(metadata) for _ in range(4)]] == [200] * 4
    assert endpoint.ask("POST", "/v2/repository/models/mlp/unload").status == 200
    assert endpoint.ask("GET", f"/v2/models/{name}").status == 404, "a tail goes with its model"
    assert endpoint.terminate() == 0
    endpoint.wait_for("ended")
    assert sum(event["event"] == "tail made" for event in endpoint.events) == 1


def test_when_the_endpoint_is_killed_the_device_answers_itself(
    start: Start, tmp_path_factory: pytest.TempPathFactory, model: ModelFile
) -> None:
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "mlp", models.onnx_mlp())
    endpoint = start(repository)
    client = HttpEndpoint(endpoint.url)
    cut = cuts(model)[-1]
    assert client.ready(f"mlp@{cut.id}")
    runner = runner_of(model, cut, client, f"mlp@{cut.id}")
    ask(runner, 10)
    remote = runner.figures().remote
    assert remote > 0, runner.figures()
    endpoint.process.kill()
    endpoint.process.wait()
    for number in range(5):
        np.testing.assert_allclose(runner.run(feeds_of(number))["y"], whole(model, number), rtol=1e-5, atol=1e-6)
    assert runner.figures().remote == remote
    runner.close()
    client.close()


@pytest.mark.parametrize("codec", ["int8c", "int4", "int4c", "int16"])
def test_a_tail_of_any_codec_is_made_from_its_name(device: HttpEndpoint, model: ModelFile, codec: str) -> None:
    graph = open_graph(model)
    cut = cut_at(graph, ["h2"])
    made = made_parts(model, cut, codec=codec, graph=graph)
    name = str(TailName("mlp", cut.id, codec, model.fingerprint, made.split.scales))
    (spec,) = open_model(made.split.tail).describe().inputs
    sent = np.random.default_rng(0).integers(0, 256, (1, *spec.shape[1:])).astype(spec.dtype)  # type: ignore[index]
    identity = TailIdentity(model.fingerprint, cut.id, coding_mark(codec, made.split.scales))
    answer = device.infer(name, {spec.name: sent}, identity=identity)
    with open_model(made.split.tail) as tail:
        runner = OnnxRuntimeEngine().load(tail, LoadOptions(spin=False, cache=False))
        here = runner.run({spec.name: sent})
        runner.close()
    assert np.array_equal(answer.outputs["y"], here["y"])


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_the_whole_model_is_the_tail_behind_its_inputs(device: HttpEndpoint, model: ModelFile, codec: str) -> None:
    cut = input_cut(open_graph(model))
    feeds = {"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)}
    made = made_parts(model, cut, codec=codec, samples=[feeds])
    by_id = TailName("mlp", cut.id, codec, model.fingerprint, made.split.scales)
    by_tensors = TailName.of_tensors("mlp", cut.tensors, codec, model.fingerprint, made.split.scales)
    with closing(OnnxRuntimeEngine().load(model, LoadOptions(spin=False, cache=False))) as whole:
        expected = whole.run(feeds)["y"]
    for name in (by_id, by_tensors):
        device.metadata(str(name))  # from here on it is made
        with closing(open_split(model, made.split, [device], str(name))) as runner:
            outputs = runner.run(feeds)
            assert runner.figures().remote == 1, runner.figures()
        assert np.abs(outputs["y"] - expected).max() <= (0 if codec == "none" else 0.05)


def test_scales_of_many_channels_fit_into_a_name(device: HttpEndpoint) -> None:
    graph = open_graph(models.onnx_mlp())
    cut = cut_at(graph, ["h2"])
    scales = (tuple(Scale(1.5 * 2.0 ** -(n % 14), n % 200) for n in range(2048)),)
    name = TailName.of_tensors("mlp", cut.tensors, "int8c", "", scales)
    assert TailName.parse(str(name)) == name and len(str(name)) < 6000
    # It reaches the endpoint whole, which sees that h2 has no such channels.
    with pytest.raises(EndpointRefused, match=r"2048 scales of channels given for 'h2'; expected one"):
        device.metadata(str(name))
    with pytest.raises(InputError, match="characters, more than 8192; expected one scale for each tensor"):
        TailName.of_tensors("mlp", ("a", "b"), "int4c", "", scales * 2)


def test_the_shortest_name_is_found_too(device: HttpEndpoint, model: ModelFile) -> None:
    graph = open_graph(model)
    for cut in (cut_at(graph, ["h2"]), input_cut(graph)):
        name = TailName.of_cut("mlp", cut, "fp16", model.fingerprint)
        assert str(name) == f"mlp:{model.fingerprint[:16]}@{cut.id}+fp16"
        assert device.metadata(str(name)).parameters["edge_cut"] == cut.id
