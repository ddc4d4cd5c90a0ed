"""Picture files become RGB arrays the right way up, or one clear line says why not."""

from __future__ import annotations

import base64
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InputError, InputShapeError, InputTypeError, StorageError, UnreadableInput
from edge_sdk.vision import decode_image, read_image, write_image

cv2 = pytest.importorskip("cv2")

RED, BLUE = (255, 0, 0), (0, 0, 255)
# A red 8x8 CMYK JPEG, and red-then-blue animations, which OpenCV cannot write.
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAQCwwODAoQDg0OEhEQExgoGhgWFhgxIyUdKDozPTw5Mzg3QEhcTkBEV0U3OFBtUVdfYmdoZz5NcXlwZHhcZWdj"
    "/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABQAAQAAAAAAAAAAAAAAAAAAAAf/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oADgRDAE0AWQBLAAA/AEAfj8gP"
    "/9k="
)
ANIMATED_GIF = base64.b64decode(
    "R0lGODdhBAACAIEAAP8AAAAAAAAAAAAAACwAAAAABAACAAAIBwABCBwoMCAAIfkEAQAAAQAsAAAAAAQAAgCBAAD/AAAAAAAAAAAACAcAAQgcKDAgADs="
)
ANIMATED_WEBP = base64.b64decode(
    "UklGRoQAAABXRUJQVlA4WAoAAAACAAAAAwAAAQAAQU5JTQYAAAAAAAAAAABBTk1GKAAAAAAAAAAAAAMAAAEAAAAAAAJWUDhMDwAAAC8DQAAABxD9j/4H"
    "IqL/AQBBTk1GKAAAAAAAAAAAAAMAAAEAAAAAAABWUDhMDwAAAC8DQAAABxDR//4HIqL/AQA="
)


def half_red_half_blue(height: int = 24, width: int = 32) -> Any:
    """The left half red, the right half blue: tells turning, mirroring and channel order apart."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = RED
    image[:, width // 2 :] = BLUE
    return image


def encoded(suffix: str, image: Any) -> bytes:
    stored = image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
    done, data = cv2.imencode(suffix, np.ascontiguousarray(stored))
    assert done
    return bytes(data)


def with_exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def png(width: int, height: int, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm", ".webp", ".jpg"])
def test_formats_are_told_by_content_and_give_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "picture.without_a_known_suffix"
    path.write_bytes(encoded(suffix, half_red_half_blue()))
    image = read_image(path)
    assert image.shape == (24, 32, 3) and image.dtype == np.uint8
    assert np.allclose(image[12, 2], RED, atol=20) and np.allclose(image[12, 29], BLUE, atol=20)


@pytest.mark.parametrize(
    ("orientation", "shape", "red_at"),
    [
        (1, (24, 32), (12, 2)),
        (2, (24, 32), (12, 29)),
        (3, (24, 32), (12, 29)),
        (4, (24, 32), (12, 2)),
        (5, (32, 24), (2, 12)),
        (6, (32, 24), (2, 12)),
        (7, (32, 24), (29, 12)),
        (8, (32, 24), (29, 12)),
    ],
)
def test_exif_orientation_is_applied(orientation: int, shape: tuple[int, int], red_at: tuple[int, int]) -> None:
    image = decode_image(with_exif_orientation(encoded(".jpg", half_red_half_blue()), orientation))
    assert image.shape[:2] == shape
    assert image[red_at][0] > 200 and image[red_at][2] < 60


def test_grey_becomes_three_equal_channels() -> None:
    image = decode_image(encoded(".png", np.full((4, 6), 77, np.uint8)))
    assert image.shape == (4, 6, 3) and (image == 77).all()


def test_sixteen_bits_become_eight() -> None:
    image = decode_image(encoded(".png", np.full((4, 6), 0x8040, np.uint16)))
    assert image.dtype == np.uint8 and (image == 0x80).all()


def test_transparency_is_dropped_and_the_colours_beneath_stay() -> None:
    bgra = np.zeros((4, 6, 4), np.uint8)
    bgra[..., 2] = 200
    image = decode_image(encoded(".png", bgra))
    assert image.shape == (4, 6, 3) and (image == (200, 0, 0)).all()


def test_cmyk_becomes_rgb() -> None:
    image = decode_image(CMYK_JPEG)
    assert image.shape == (8, 8, 3)
    assert np.allclose(image[4, 4], RED, atol=30)


@pytest.mark.parametrize("data", [ANIMATED_GIF, ANIMATED_WEBP], ids=["gif", "webp"])
def test_an_animation_gives_its_first_frame(data: bytes) -> None:
    try:
        image = decode_image(data)
    except UnreadableInput:
        pytest.skip("this OpenCV cannot read the format")
    assert image.shape == (2, 4, 3) and (image == RED).all()


def test_bytes_that_a_camera_left_between_jpeg_segments_do_no_harm() -> None:
    data = encoded(".jpg", half_red_half_blue())
    end_of_first = 4 + struct.unpack_from(">H", data, 4)[0]
    assert decode_image(data[:end_of_first] + b"\0\0\0" + data[end_of_first:]).shape == (24, 32, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".ppm", ".tiff", ".webp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encoded(suffix, noise)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UnreadableInput, match="cut"):
        read_image(path)


def test_the_message_names_the_file_and_the_reason(tmp_path: Path) -> None:
    cases = {
        "missing.jpg": (None, "No such file"),
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"hello there, no picture here", "not a picture of a known type"),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "convert it to JPEG"),
        "flipped.png": (png(2, 2, bytes(14))[:-20] + b"\0" * 20, "PNG"),
        "no_end.jpg": (encoded(".jpg", half_red_half_blue())[:-2], "truncated"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UnreadableInput) as caught:
            read_image(path)
        message = str(caught.value)
        assert name in message and reason in message and "\n" not in message


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(UnreadableInput):
            read_image(path)


@pytest.mark.parametrize(
    "bomb",
    [
        png(60000, 60000),
        b"P6 99999 99999 255\n" + bytes(100),
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(50),
        b"BM" + struct.pack("<IIIIiiHHIIIIII", 100, 0, 54, 40, 50000, 50000, 1, 24, 1, 0, 0, 0, 0, 0),
    ],
    ids=["png", "ppm", "gif", "bmp"],
)
def test_a_small_file_that_claims_a_huge_picture_is_refused_before_decoding(bomb: bytes) -> None:
    with pytest.raises(UnreadableInput, match=r"claims \d+x\d+ pixels, more than the limit of 100000000"):
        decode_image(bomb)


def test_the_pixel_limit_is_the_callers_to_set() -> None:
    data = encoded(".png", half_red_half_blue())
    assert decode_image(data, max_pixels=24 * 32).shape == (24, 32, 3)
    with pytest.raises(UnreadableInput, match="max_pixels"):
        decode_image(data, max_pixels=24 * 32 - 1)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_what_was_written_reads_back_equal(tmp_path: Path, suffix: str) -> None:
    image = half_red_half_blue()
    write_image(tmp_path / f"out{suffix}", image)
    assert np.array_equal(read_image(tmp_path / f"out{suffix}"), image)


def test_writing_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    image = half_red_half_blue()
    with pytest.raises(InputError, match=r"\.xyz"):
        write_image(tmp_path / "a.xyz", image)
    with pytest.raises(InputTypeError, match="uint8"):
        write_image(tmp_path / "a.png", image.astype(np.float32))
    with pytest.raises(InputShapeError, match="height, width, 3"):
        write_image(tmp_path / "a.png", image[..., :2])
    with pytest.raises(StorageError):
        write_image(tmp_path / "no_folder" / "a.png", image)


WHOLE_FILES = [
    *(encoded(s, half_red_half_blue(9, 7)) for s in (".jpg", ".png", ".bmp", ".tiff", ".ppm", ".webp")),
    CMYK_JPEG,
    ANIMATED_GIF,
    ANIMATED_WEBP,
    with_exif_orientation(encoded(".jpg", half_red_half_blue(9, 7)), 6),
]


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    data=st.sampled_from(WHOLE_FILES),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), max_size=6),
    kept=st.floats(0, 1),
)
def test_damaged_files_give_a_picture_or_a_clear_error(
    data: bytes, edits: list[tuple[float, bytes]], kept: float
) -> None:
    damaged = bytearray(data)
    for place, content in edits:
        at = int(place * len(damaged))
        damaged[at : at + len(content)] = content
    try:
        image = decode_image(bytes(damaged[: int(len(damaged) * kept) + 1]), max_pixels=1_000_000)
    except UnreadableInput as error:
        assert "\n" not in str(error)
    else:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@settings(max_examples=150)
@given(
    st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF....WEBP", b"II*\0", b"MM\0+", b"P6 "]
    ),
    st.binary(max_size=80),
)
def test_any_bytes_after_a_known_beginning_give_a_clear_error(beginning: bytes, rest: bytes) -> None:
    try:
        image = decode_image(beginning + rest, max_pixels=1_000_000)
    except UnreadableInput as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 3
