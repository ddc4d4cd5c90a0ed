"""Damaged files of every kind are refused with an `EdgeError` or read; nothing else comes out, and nothing hangs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import EdgeError
from edge_sdk.formats import open_model, without_initializer_inputs
from edge_sdk.formats.detect import detect_format
from tests import models

MODELS: dict[str, Callable[[], bytes]] = models.ONNX_MODELS | models.TFLITE_MODELS
Edit = tuple[str, int, bytes]

edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "insert", "delete", "cut", "word"]),
        st.integers(0, 1 << 30),
        st.binary(min_size=1, max_size=4)
        | st.sampled_from([b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"]),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, changes: list[Edit]) -> bytes:
    """The file after a few edits at places that are taken modulo its length."""
    data = bytearray(content)
    for kind, place, new in changes:
        at = place % max(len(data), 1)
        if kind == "flip" and data:
            data[at] ^= 1 << (new[0] % 8)
        elif kind == "set":
            data[at : at + 1] = new[:1]
        elif kind == "insert":
            data[at:at] = new
        elif kind == "delete":
            del data[at : at + len(new)]
        elif kind == "cut":
            del data[at:]
        else:
            at -= at % 4
            data[at : at + 4] = new.ljust(4, b"\0")
    return bytes(data)


def read(content: bytes) -> bool:
    """Whether the file was read to the end; any exception but an `EdgeError` of one line passes through."""
    try:
        model = open_model(content, name="damaged")
        assert model.format in ("onnx", "tflite")
        model.describe()
        model.check()
        if model.format == "onnx":
            without_initializer_inputs(content)
    except EdgeError as error:
        assert "\n" not in str(error) and "damaged" in str(error)
        return False
    return True


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(MODELS)), edits)
def test_damaged_models(name: str, changes: list[Edit]) -> None:
    read(damaged(MODELS[name](), changes))


@settings(max_examples=100)
@given(st.binary(max_size=600), st.sampled_from([b"", b"\x08\x08", b"\0\0\0\0TFL3", b"PK\x03\x04", b"\x14\0\0\0TFL3"]))
def test_noise(noise: bytes, start: bytes) -> None:
    read(start + noise)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.sampled_from([".onnx", ".tflite", ".pt", ".xml", ".zip", ".pb", ""]))
def test_any_content_under_any_suffix_has_a_verdict(content: bytes, suffix: str) -> None:
    try:
        assert detect_format(memoryview(content), f"file{suffix}") in ("onnx", "tflite")
    except EdgeError as error:
        assert str(error).startswith(f"file{suffix}: ")


@pytest.mark.parametrize("name", ["mnist_cnn.onnx", "resnet8_cifar10_int8.tflite", "must_fail_custom_op.tflite"])
def test_damaged_real_models(assets: Path, name: str) -> None:
    content = (assets / "models" / name).read_bytes()
    assert read(content)

    @settings(max_examples=60)
    @given(edits)
    def damage(changes: list[Edit]) -> None:
        read(damaged(content, changes))

    damage()
