"""Inputs that travel as pictures or sound: what comes back, and what is refused before it costs anything."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InputError, MissingExtra, WireError
from edge_sdk.offload.input_coding import decode, encode, may_travel_as
from edge_sdk.tensors import Array
from edge_sdk.wire.encoded import Encoded
from edge_sdk.wire.limits import Limits

LIMITS = Limits()
PICTURES = [(1, 40, 60, 3), (1, 3, 40, 60), (1, 40, 60, 1), (1, 1, 40, 60), (40, 60, 3), (3, 40, 60), (40, 60)]


def smooth(shape: tuple[int, ...]) -> Array:
    """A picture without sharp edges, each channel another."""
    rows, columns = np.mgrid[0:40, 0:60]
    planes = np.stack([(rows * 3 + columns * (place + 1)) % 200 + 20 * place for place in range(3)])
    planes = np.clip(np.sin(planes / 60) * 100 + 128, 0, 255).astype(np.uint8)
    last = shape[-1] == 3 and len(shape) > 2
    channels = 3 if 3 in shape else 1
    return (planes.transpose(1, 2, 0) if last else planes[:channels]).reshape(shape)


def tone() -> Array:
    return (np.sin(np.arange(4000) / 9) * 9000).astype(np.int16).reshape(1, -1)


def status_of(encoded: Encoded, limits: Limits = LIMITS) -> int:
    """With which it is refused."""
    with pytest.raises(WireError) as refused:
        decode(encoded, "x", limits)
    assert "\n" not in str(refused.value) and "tensor 'x'" in str(refused.value)
    return refused.value.status


@pytest.mark.parametrize("coding", ["jpeg@90", "webp@90"])
@pytest.mark.parametrize("shape", PICTURES)
def test_a_picture_comes_back_in_the_same_layout_nearly_as_it_was(coding: str, shape: tuple[int, ...]) -> None:
    pytest.importorskip("cv2")
    array = smooth(shape)
    encoded = encode(array, coding)
    assert (encoded.datatype, encoded.shape, encoded.coding) == ("UINT8", shape, coding)
    assert encoded.nbytes < array.nbytes
    decoded = decode(encoded, "x", LIMITS)
    assert (decoded.dtype, decoded.shape, decoded.flags.writeable) == (np.uint8, shape, False)
    assert np.abs(decoded.astype(int) - array.astype(int)).mean() < 6


def test_a_lower_quality_is_smaller() -> None:
    pytest.importorskip("cv2")
    array = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8)
    sizes = [encode(array, f"{kind}@{quality}").nbytes for kind in ("jpeg", "webp") for quality in (90, 50, 10)]
    assert sizes[0] > sizes[1] > sizes[2] and sizes[3] > sizes[4] > sizes[5]


@pytest.mark.parametrize("shape", [(1, 4000), (4000,)])
def test_sound_comes_back_to_the_bit(shape: tuple[int, ...]) -> None:
    pytest.importorskip("soundfile")
    array = tone().reshape(shape)
    encoded = encode(array, "flac")
    assert encoded.nbytes < array.nbytes
    assert np.array_equal(decode(encoded, "x", LIMITS), array)


@pytest.mark.parametrize(
    "coding", ["", "jpeg", "jpeg@0", "jpeg@101", "jpeg@٥", "webp@-1", "png@5", "flac@5", "jpeg@80\n"]
)
def test_there_are_no_other_codings(coding: str) -> None:
    with pytest.raises(InputError, match="is not known; expected jpeg@1 to jpeg@100"):
        may_travel_as(coding, "uint8", (1, 4, 4, 3))
    assert status_of(Encoded(b"", "UINT8", (1, 4, 4, 3), coding)) == 415


@pytest.mark.parametrize(
    ("dtype", "shape", "coding"),
    [
        ("float32", (1, 8, 8, 3), "jpeg@80"), ("uint8", (2, 8, 8, 3), "jpeg@80"), ("uint8", (1, 8, 8, 4), "webp@80"),
        ("uint8", (8,), "jpeg@80"), ("uint8", (1, 0, 8, 3), "jpeg@80"), ("uint8", (1, 20000, 8, 3), "webp@80"),
        ("uint8", (1, 8), "flac"), ("int16", (2, 8), "flac"), ("int16", (1, 0), "flac"), ("int16", (), "flac"),
    ],
)  # fmt: skip
def test_what_is_no_picture_and_no_sound_does_not_travel_so(dtype: str, shape: tuple[int, ...], coding: str) -> None:
    assert not may_travel_as(coding, dtype, shape)
    with pytest.raises(InputError, match=r"cannot travel as .*; expected"):
        encode(np.zeros(shape, dtype), coding)
    assert status_of(Encoded(b"\xff\xd8\xff", dtype.upper(), shape, coding)) == 400


def test_a_picture_of_another_size_than_told_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    large = {coding: encode(np.zeros((1, 4000, 4000, 3), np.uint8), coding) for coding in ("jpeg@80", "webp@80")}
    monkeypatch.setattr("edge_sdk.vision.opencv.load_cv2", lambda: pytest.fail("a decoder was asked"))
    for encoded in large.values():
        assert encoded.nbytes < 300_000
        assert status_of(replace(encoded, shape=(1, 32, 32, 3))) == 400
    # What it tells of itself may not be larger than the limits either.
    assert status_of(large["jpeg@80"], Limits(max_body_bytes=2**20)) == 413
    assert status_of(replace(large["jpeg@80"], coding="webp@80")) == 400
    assert status_of(replace(large["webp@80"], coding="jpeg@80")) == 400


def test_webp_with_frames_of_their_own_is_refused() -> None:
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (31).to_bytes(3, "little") * 2
    content = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
    assert status_of(Encoded(content, "UINT8", (1, 32, 32, 3), "webp@80")) == 400


def test_sound_of_another_length_or_form_is_refused() -> None:
    soundfile = pytest.importorskip("soundfile")
    import io

    encoded = encode(tone(), "flac")
    for shape in ((1, 3999), (1, 4001), (1, 100_000_000)):
        assert status_of(replace(encoded, shape=shape)) == 400
    assert status_of(replace(encoded, shape=(1, 2**40))) == 413
    assert status_of(replace(encoded, content=encoded.content[:-200])) == 400
    for form, channels in (("WAV", 1), ("OGG", 1), ("FLAC", 2)):
        file = io.BytesIO()
        soundfile.write(file, np.zeros((4000, channels), np.int16), 16000, format=form)
        assert status_of(replace(encoded, content=file.getvalue())) == 400


@settings(max_examples=150)
@given(st.data())
def test_any_damage_gives_a_tensor_or_one_line(data: st.DataObject) -> None:
    pytest.importorskip("cv2"), pytest.importorskip("soundfile")
    coding = data.draw(st.sampled_from(["jpeg@50", "webp@50", "flac"]))
    whole = encode(tone() if coding == "flac" else smooth((1, 40, 60, 3)), coding)
    content = bytearray(whole.content)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else bytes(content)
    try:
        array = decode(replace(whole, content=damaged), "x", LIMITS)
    except WireError as error:
        assert error.status == 400 and "\n" not in str(error)
    else:
        assert array.shape == whole.shape


@given(st.binary(max_size=200), st.sampled_from(["jpeg@50", "webp@50", "flac"]))
def test_any_bytes_are_refused(content: bytes, coding: str) -> None:
    shape, datatype = ((1, 9), "INT16") if coding == "flac" else ((1, 9, 9, 3), "UINT8")
    assert status_of(Encoded(content, datatype, shape, coding)) == 400


def test_without_the_packages_both_sides_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2"), pytest.importorskip("soundfile")
    files: dict[str, tuple[Encoded, Any]] = {
        "soundfile": (encode(tone(), "flac"), tone()),
        "cv2": (encode(smooth((1, 40, 60, 3)), "jpeg@80"), smooth((1, 40, 60, 3))),
    }
    for package, (encoded, array) in files.items():
        monkeypatch.setitem(sys.modules, package, None)
        assert status_of(encoded) == 415
        with pytest.raises(MissingExtra):
            encode(array, encoded.coding)
