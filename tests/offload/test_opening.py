"""Real model files, cut, with the tail at a simulated endpoint, at home, and now here, now there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.engines import LoadOptions, Runner
from edge_sdk.engines.registry import engines_for
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.errors import EndpointUnreachable
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.cuts import cuts_of
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.splitting import FLOAT_TOLERANCE, split_model
from edge_sdk.offload.opening import open_split
from edge_sdk.wire.endpoint import TailIdentity
from edge_sdk.wire.simulated import SimulatedEndpoint
from tests import models

pytest.importorskip("onnx")

MADE = {"onnx": models.onnx_mlp, "tflite": models.tflite_float_conv}


def load(content: bytes | ModelFile) -> Runner:
    model = content if isinstance(content, ModelFile) else open_model(content)
    return engines_for(model.format)[0].load(model, LoadOptions())


def equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one) == list(other)
    for name in one:
        size = float(np.abs(one[name]).max(initial=0)) or 1.0
        assert float(np.abs(one[name].astype(np.float64) - other[name]).max(initial=0)) <= FLOAT_TOLERANCE * size


def check(model: ModelFile, most: int) -> int:
    """All of the first single-tensor cuts that divide the model; how many there were."""
    with_cuts = [cut for cut in cuts_of(open_graph(model)).cuts if cut.divides and len(cut.tensors) == 1][:most]
    whole = load(model)
    feeds = made_up_feeds(whole.inputs, whole.optional_inputs)
    expected = whole.run(feeds)
    for cut in with_cuts:
        split = split_model(model, cut)
        tail = load(split.tail)
        broken = dict.fromkeys(range(2, 4), EndpointUnreachable("cut"))
        told = {"m@cut": TailIdentity(model.fingerprint, cut.id).parameters()}
        endpoint = SimulatedEndpoint({"m@cut": tail.run}, parameters=told, fail_at=broken)
        runner = open_split(model, split, [endpoint], "m@cut")
        for number in range(6):
            equal(expected, runner.run(feeds))
            assert runner.local.loaded == (number >= 2), "the local tail is loaded once it is needed, not before"
        figures = runner.figures()
        assert (figures.remote, figures.local) == (4, 2), figures
        runner.close()
        tail.close()
    whole.close()
    return len(with_cuts)


@pytest.fixture(params=sorted(MADE))
def model(request: pytest.FixtureRequest) -> Iterator[ModelFile]:
    if request.param == "tflite":
        pytest.importorskip("ai_edge_litert")
    with open_model(MADE[request.param]()) as file:
        yield file


def test_head_here_and_tail_there_or_here_give_what_the_whole_gives(model: ModelFile) -> None:
    if model.format == "onnx":
        assert check(model, most=10) > 0
    else:
        check(model, most=10)


@pytest.mark.parametrize(
    "name", ["mnist_cnn.onnx", "ultraface_rfb320.onnx", "resnet8_cifar10_int8.tflite", "ultraface_rfb320.tflite"]
)
def test_shared_models_too(assets: Path, name: str) -> None:
    if name.endswith(".tflite"):
        pytest.importorskip("ai_edge_litert")
    with open_model(assets / "models" / name) as file:
        assert check(file, most=3) > 0
