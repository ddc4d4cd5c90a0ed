"""Our client at other people's servers, and tails that we export run by them: mlserver, Triton, OpenVINO.

They are installed below `.cache/peers` of the checkout on first use; what cannot be had is skipped, with the reason.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from benchmarks import peers
from edge_sdk.cli import main
from edge_sdk.errors import EndpointMismatch, EndpointRefused, WireError
from edge_sdk.formats import open_model
from edge_sdk.graph.codec import coding_mark
from edge_sdk.graph.cuts import single_cuts
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.splitting import Split, split_model
from edge_sdk.offload.exporting import export_tail
from edge_sdk.offload.opening import open_split
from edge_sdk.tensors import Array
from edge_sdk.wire.endpoint import TailIdentity
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.retry import NO_RETRY
from tests import models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def started(server: AbstractContextManager[peers.Server]) -> Iterator[str]:
    """The address of a server that runs while this does."""
    try:
        running = server.__enter__()
    except peers.Missing as error:
        pytest.skip(str(error))
    try:
        yield running.url
    finally:
        server.__exit__(None, None, None)


@pytest.fixture
def endpoint(url: str) -> Iterator[HttpEndpoint]:
    """Our client of the server that a class starts."""
    with closing(HttpEndpoint(url, retry=NO_RETRY)) as client:
        yield client


def mlp_split(codec: str = "none") -> Split:
    """x[batch,8] ─ Gemm ─│─ Relu ─ Gemm ─ Softmax ─ y[batch,4]"""
    content = models.onnx_mlp()
    cut = single_cuts(open_graph(content))[0]
    return split_model(content, cut, codec=codec, ranges={cut.tensors[0]: (-4.0, 4.0)} if codec == "int8" else {})


def requests(count: int) -> list[dict[str, Array]]:
    generator = np.random.default_rng(5)
    return [{"x": generator.standard_normal((1, 8), np.float32)} for _ in range(count)]


def identity(codec: str = "none") -> TailIdentity:
    with open_model(models.onnx_mlp()) as model:
        split = mlp_split(codec)
        return TailIdentity(model.fingerprint, split.cut.id, coding_mark(codec, split.scales))


def here(split: Split, sent: Array) -> Array:
    """What the tail answers where it is run on this machine."""
    import onnxruntime

    session = onnxruntime.InferenceSession(split.tail, providers=["CPUExecutionProvider"])
    answer: Array = session.run(None, {split.sent[0]: sent})[0]
    return answer


def whole(feeds: dict[str, Array]) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(models.onnx_mlp(), providers=["CPUExecutionProvider"])
    answer: Array = session.run(None, feeds)[0]
    return answer


class TestMlserver:
    """It has no binary tensors over HTTP: ours finds that out, and sends JSON."""

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        content = {"add": models.onnx_add(), "two": models.onnx_two_inputs(), "tail": mlp_split().tail}
        yield from started(peers.mlserver(tmp_path_factory.mktemp("mlserver"), content))

    def test_inference(self, endpoint: HttpEndpoint) -> None:
        for turn in range(3):
            np.testing.assert_array_equal(endpoint.infer("add", {"x": X + turn}).outputs["y"], X + turn + 1)

    def test_only_the_outputs_that_are_asked_for(self, endpoint: HttpEndpoint) -> None:
        np.testing.assert_array_equal(endpoint.infer("add", {"x": X}, outputs=["y"]).outputs["y"], X + 1)

    def test_ready_and_metadata(self, endpoint: HttpEndpoint) -> None:
        assert endpoint.ready()
        assert endpoint.ready("add")
        assert not endpoint.ready("nothing")
        assert endpoint.metadata("add").name == "add"

    def test_an_unknown_model_and_a_broken_request(self, endpoint: HttpEndpoint) -> None:
        with pytest.raises(EndpointRefused, match="nothing"):
            endpoint.infer("nothing", {"x": X})
        with pytest.raises(EndpointRefused):
            endpoint.infer("add", {"z": X})
        np.testing.assert_array_equal(endpoint.infer("add", {"x": X}).outputs["y"], X + 1)

    def test_what_json_cannot_tell(self, endpoint: HttpEndpoint) -> None:
        endpoint.infer("add", {"x": X})
        with pytest.raises(WireError, match="NaN or infinity"):
            endpoint.infer("add", {"x": X * np.inf})

    def test_it_does_not_tell_which_tail_it_holds_so_it_is_refused_and_all_is_answered_here(
        self, endpoint: HttpEndpoint
    ) -> None:
        with pytest.raises(EndpointMismatch, match="edge_bundle is not told"):
            endpoint.infer("tail", {}, identity=TailIdentity("sha256:1", "cut"))
        with (
            open_model(models.onnx_mlp()) as model,
            closing(open_split(model, mlp_split(), [endpoint], "tail")) as runner,
        ):
            for feeds in requests(5):
                np.testing.assert_allclose(runner.run(feeds)["y"], whole(feeds), rtol=1e-5, atol=1e-6)
            assert runner.figures().remote == 0


class TestTriton:
    """A real Triton with tails that `edge-sdk split --export triton-python` laid out for its Python back end."""

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        folder = tmp_path_factory.mktemp("triton")
        (folder / "mlp.onnx").write_bytes(models.onnx_mlp())
        cut = mlp_split().cut.tensors  # the command calls the tail mlp-CUT
        told = ["split", str(folder / "mlp.onnx"), "--at", *cut, "-o", str(folder / "parts")]
        assert main([*told, "--export", "triton-python", str(folder / "repository")]) == 0
        for codec in ("fp16", "int8"):
            export_tail("triton-python", folder / "repository", f"tail-{codec}", mlp_split(codec))
        yield from started(peers.triton(folder / "repository", folder))

    @pytest.fixture
    def tail(self) -> str:
        return f"mlp-{mlp_split().cut.id}"

    def test_ready_and_metadata(self, endpoint: HttpEndpoint, tail: str) -> None:
        assert endpoint.ready()
        assert not endpoint.ready("nothing")
        metadata = endpoint.metadata(tail)
        assert metadata.platform == "python"
        assert metadata.inputs == mlp_split().sent
        assert metadata.shapes["y"] == (-1, 4)

    def test_the_exported_tail_answers_what_the_whole_answers(self, endpoint: HttpEndpoint, tail: str) -> None:
        with (
            open_model(models.onnx_mlp()) as model,
            closing(open_split(model, mlp_split(), [endpoint], tail)) as runner,
        ):
            for feeds in requests(50):
                np.testing.assert_allclose(runner.run(feeds)["y"], whole(feeds), rtol=1e-5, atol=1e-6)
            figures = runner.figures()
        assert figures.requests == 50
        assert figures.remote > 0

    @pytest.mark.parametrize("codec", ["fp16", "int8"])
    def test_so_it_does_with_a_codec(self, endpoint: HttpEndpoint, codec: str) -> None:
        split = mlp_split(codec)
        sent = np.random.default_rng(2).integers(0, 100, (3, 16)).astype("uint8" if codec == "int8" else "float16")
        answer = endpoint.infer(f"tail-{codec}", {split.sent[0]: sent}, identity=identity(codec))
        np.testing.assert_allclose(answer.outputs["y"], here(split, sent), rtol=1e-5, atol=1e-6)

    def test_another_tail_is_refused(self, endpoint: HttpEndpoint, tail: str) -> None:
        feeds = {mlp_split().sent[0]: np.zeros((1, 16), np.float32)}
        with pytest.raises(EndpointMismatch, match="edge_bundle"):
            endpoint.infer(tail, feeds, identity=TailIdentity("sha256:other", mlp_split().cut.id))

    def test_errors_arrive_with_their_reason(self, endpoint: HttpEndpoint, tail: str) -> None:
        with pytest.raises(EndpointRefused, match="unknown model"):
            endpoint.infer("nothing", {"x": X})
        with pytest.raises(EndpointRefused, match="expected"):
            endpoint.infer(tail, {mlp_split().sent[0]: np.zeros((1, 17), np.float32)})

    def test_compressed_both_ways(self, endpoint: HttpEndpoint, tail: str) -> None:
        client = HttpEndpoint(endpoint.name, coding="gzip")
        feeds = {mlp_split().sent[0]: np.zeros((500, 16), np.float32)}
        plain, packed = endpoint.infer(tail, feeds), client.infer(tail, feeds)
        np.testing.assert_array_equal(plain.outputs["y"], packed.outputs["y"])
        assert packed.size_bytes < plain.size_bytes


def test_openvino_opens_and_runs_an_exported_tail(tmp_path: Path) -> None:
    try:
        python = peers.environment("openvino")
    except peers.Missing as error:
        pytest.skip(str(error))
    split = mlp_split()
    export_tail("openvino", tmp_path, "tail", split)
    base = json.loads((tmp_path / "config.json").read_text())["model_config_list"][0]["config"]["base_path"]
    x = np.random.default_rng(1).standard_normal((2, 16), np.float32)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy, openvino;"
        # Where the processor has bfloat16 OpenVINO would compute floats in that.
        "model = openvino.Core().compile_model(sys.argv[1], 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'});"
        "numpy.save(sys.argv[3], model(numpy.load(sys.argv[2]))[0])"
    )
    command = [str(python), "-c", code, f"{base}/1/model.onnx", str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), here(split, x), rtol=1e-4, atol=1e-5)
