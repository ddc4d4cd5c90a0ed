"""WAV files become samples, and samples become windows."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.audio import read_wav, windows
from edge_sdk.errors import InputError, UnreadableInput


def pcm(values: Any, bits: int) -> bytes:
    """Numbers within -1..1 as little-endian PCM."""
    stored = np.clip(np.rint(np.asarray(values) * 2 ** (bits - 1)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(
        np.int64
    )
    if bits == 8:
        return bytes((stored + 128).astype(np.uint8))
    return b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in stored.reshape(-1))


def wav(body: bytes, *, bits: int = 16, channels: int = 1, rate_hz: int = 16000, code: int = 1) -> bytes:
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate_hz, rate_hz * frame, frame, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def extensible(body: bytes, bits: int, code: int) -> bytes:
    form = struct.pack("<HHIIHH", 0xFFFE, 1, 8000, 8000 * bits // 8, bits // 8, bits)
    form += struct.pack("<HHIH", 22, bits, 4, code) + bytes(14)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def read(tmp_path: Path, content: bytes) -> tuple[Any, int]:
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    return read_wav(path)


WAVEFORM = np.sin(np.linspace(0, 20, 101)) * 0.9


@pytest.mark.parametrize(("bits", "error"), [(8, 1 / 128), (16, 1e-4), (24, 1e-6), (32, 1e-6)])
def test_every_depth_of_pcm(tmp_path: Path, bits: int, error: float) -> None:
    samples, rate_hz = read(tmp_path, wav(pcm(WAVEFORM, bits), bits=bits, rate_hz=44100))
    assert samples.dtype == np.float32 and rate_hz == 44100
    assert np.abs(samples - WAVEFORM).max() < error


def test_the_standard_librarys_files_read_alike(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(pcm(WAVEFORM, 16))
    assert np.abs(read(tmp_path, buffer.getvalue())[0] - WAVEFORM).max() < 1e-4


def test_float_samples_and_the_extensible_form(tmp_path: Path) -> None:
    as_float = WAVEFORM.astype("<f4").tobytes()
    assert np.allclose(read(tmp_path, wav(as_float, bits=32, code=3))[0], WAVEFORM)
    assert np.allclose(read(tmp_path, extensible(as_float, 32, 3))[0], WAVEFORM)
    assert np.abs(read(tmp_path, extensible(pcm(WAVEFORM, 24), 24, 1))[0] - WAVEFORM).max() < 1e-6


def test_several_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([np.full(10, 0.5), np.full(10, -0.25)], axis=1)
    samples, _ = read(tmp_path, wav(pcm(stereo, 16), channels=2))
    assert samples.shape == (10,) and np.allclose(samples, 0.125, atol=1e-4)


def test_chunks_before_the_samples_are_passed_over(tmp_path: Path) -> None:
    plain = wav(pcm(WAVEFORM, 16))
    padded = plain[:12] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + plain[12:]
    assert np.array_equal(read(tmp_path, padded)[0], read(tmp_path, plain)[0])


def test_a_streamed_recording_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    data = wav(pcm(WAVEFORM, 16))
    at = data.index(b"data") + 4
    assert read(tmp_path, data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])[0].shape == (101,)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a WAV file"),
        (b"ID3\x03 this is an mp3", "convert it to WAV"),
        (wav(pcm(WAVEFORM, 16))[:60], "truncated"),
        (wav(pcm(WAVEFORM, 16))[:30], "truncated"),
        (wav(b""), "no sample"),
        (wav(bytes(10), code=2), "format 2"),
        (wav(bytes(10), bits=12), "12 bits"),
        (wav(bytes(10), channels=0), "0 channels"),
        (wav(bytes(10), rate_hz=0), "0 Hz"),
        (wav(np.array([np.nan], "<f4").tobytes(), bits=32, code=3), "no numbers"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableInput, match=reason) as caught:
        read(tmp_path, content)
    assert "sound.wav" in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="No such file"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(UnreadableInput):
        read_wav(tmp_path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.sampled_from([wav(pcm(WAVEFORM, 16)), wav(pcm(WAVEFORM, 24), bits=24), extensible(bytes(40), 32, 3)]),
    edits=st.lists(st.tuples(st.integers(0, 80), st.binary(min_size=1, max_size=5)), max_size=4),
    kept=st.integers(0, 400),
)
def test_damaged_files_give_samples_or_a_clear_error(
    tmp_path: Path, data: bytes, edits: list[tuple[int, bytes]], kept: int
) -> None:
    damaged = bytearray(data)
    for at, content in edits:
        damaged[at : at + len(content)] = content
    try:
        samples, rate_hz = read(tmp_path, bytes(damaged[:kept]))
    except UnreadableInput as error:
        assert "\n" not in str(error)
    else:
        assert samples.size and np.abs(samples).max() <= 1 and rate_hz > 0


def test_windows_follow_each_other_and_the_last_is_filled_with_silence() -> None:
    cut = windows(np.arange(1, 8, dtype=np.float32), 3)
    assert cut.tolist() == [[1, 2, 3], [4, 5, 6], [7, 0, 0]]


def test_context_is_what_stood_before_the_window() -> None:
    cut = windows(np.arange(1, 7, dtype=np.float32), 2, context=1)
    assert cut.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]


def test_windows_may_overlap_or_leave_gaps() -> None:
    samples = np.arange(1, 7, dtype=np.float32)
    assert windows(samples, 4, 2).tolist() == [[1, 2, 3, 4], [3, 4, 5, 6]]
    assert windows(samples, 2, 3).tolist() == [[1, 2], [4, 5]]


@settings(max_examples=100)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.integers(0, 10))
def test_every_sample_lies_in_its_window(count: int, size: int, step: int, context: int) -> None:
    samples = np.arange(1, count + 1, dtype=np.float32)
    cut = windows(samples, size, step, context)
    padded = np.concatenate([np.zeros(context, np.float32), samples, np.zeros(size + step, np.float32)])
    for index, row in enumerate(cut):
        assert np.array_equal(row, padded[index * step : index * step + context + size])
        assert row.flags.c_contiguous
    assert (len(cut) - 1) * step < count and (len(cut) * step >= count or (len(cut) - 1) * step + size >= count)


@pytest.mark.parametrize(("size", "step", "context"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_windows_that_make_no_sense_are_refused(size: int, step: int, context: int) -> None:
    with pytest.raises(InputError, match="windows"):
        windows(np.zeros(3, np.float32), size, step, context)
    with pytest.raises(InputError, match="windows"):
        windows(np.zeros((2, 2), np.float32), 1)
