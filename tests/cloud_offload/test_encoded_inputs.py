"""Inputs that come to the endpoint as pictures or sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import EndpointRefused
from edge_sdk.offload.input_coding import encode
from edge_sdk.wire.encoded import Encoded
from edge_sdk.wire.http import HttpEndpoint
from tests import models
from tests.cloud_offload.endpoints import put, running

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")
pytest.importorskip("soundfile")
PICTURE = np.tile(np.arange(48, dtype=np.uint8).reshape(1, 1, 48, 1) * 5, (1, 32, 1, 3))
SOUND = (np.sin(np.arange(800) / 5) * 1000).astype(np.int16).reshape(1, -1)


def whole_numbers(dtype: str, shape: list[int]) -> bytes:
    """y = float32 of x"""
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    taken, made = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", 1, shape)
    return models.onnx_bytes([helper.make_node("Cast", ["x"], ["y"], to=1)], [taken], [made])


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpEndpoint]:
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "picture", whole_numbers("uint8", [1, 32, 48, 3]))
    put(repository, "sound", whole_numbers("int16", [1, 800]))
    with running(repository, tmp_path_factory.mktemp("cache")) as endpoint:
        client = HttpEndpoint(endpoint.url)
        yield client
        client.close()


def refused(device: HttpEndpoint, model: str, feeds: dict[str, Any]) -> tuple[int, str]:
    with pytest.raises(EndpointRefused) as error:
        device.infer(model, feeds)
    return error.value.status, str(error.value)


def test_pictures_and_sound_are_decoded_there(device: HttpEndpoint) -> None:
    for coding in ("jpeg@90", "webp@90"):
        answer = device.infer("picture", {"x": encode(PICTURE, coding)})
        assert np.abs(answer.outputs["y"] - PICTURE).mean() < 3
    assert np.array_equal(device.infer("sound", {"x": encode(SOUND, "flac")}).outputs["y"], SOUND)


@pytest.mark.parametrize("coding", ["deflate", "gzip", "zstd"])
def test_the_whole_body_may_be_compressed_by_request(device: HttpEndpoint, coding: str) -> None:
    if coding == "zstd":
        pytest.importorskip("backports.zstd")
    plain = device.infer("sound", {"x": SOUND}).size_bytes
    answer = device.infer("sound", {"x": SOUND}, content_coding=coding)
    assert np.array_equal(answer.outputs["y"], SOUND) and answer.size_bytes < plain


def test_what_cannot_be_decoded_is_told(device: HttpEndpoint) -> None:
    whole = encode(PICTURE, "jpeg@80")
    assert refused(device, "picture", {"x": replace(whole, coding="jpeg2000@80")})[0] == 415
    status, told = refused(device, "picture", {"x": replace(whole, shape=(1, 16, 48, 3))})
    assert status == 400 and "has 32x48 pixels, its head tells [1, 16, 48, 3]" in told
    assert refused(device, "picture", {"x": replace(whole, content=b"\xff\xd8\xff nothing")})[0] == 400
    assert refused(device, "picture", {"x": replace(whole, shape=(1, 2**30, 2**30, 3))})[0] == 413
    # What is decoded must fit the model as any tensor must.
    assert refused(device, "sound", {"x": whole})[0] == 400
    assert refused(device, "picture", {"x": Encoded(b"", "BYTES", (1, 32, 48, 3), "jpeg@80")})[0] == 400
    assert np.array_equal(device.infer("picture", {"x": PICTURE}).outputs["y"], PICTURE)
