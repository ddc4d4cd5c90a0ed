"""WAV files to samples, and samples to windows.

The container is read here and not through the standard library's `wave`: on Python 3.11 that refuses
WAVE_FORMAT_EXTENSIBLE, which recorders write for 24 and 32 bits, and it never reads float samples.
Source: Multimedia Programming Interface and Data Specifications 1.0 (1991); Microsoft, WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np

from edge_sdk.errors import InputShapeError, InputValueError, UnreadableInput
from edge_sdk.storage import read_whole
from edge_sdk.tensors import Array

__all__ = ["MAX_SAMPLES", "read_wav", "windows"]

MAX_SAMPLES = 1 << 28
"""Longer recordings are refused: 2^28 samples are 4.6 hours at 16 kHz and 1 GB as float32."""
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MAX_RATE_HZ = 1_000_000


@dataclass(frozen=True, slots=True)
class _Format:
    code: int
    channels: int
    rate_hz: int
    bits: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8


def read_wav(path: str | os.PathLike[str]) -> tuple[Array, int]:
    """Reads a WAV file: PCM of 8, 16, 24 or 32 bits, or float of 32 or 64; several channels are averaged into one.

    Args:
        path: the file.

    Returns:
        The samples, float32 [n] within -1..1, and the sampling rate in Hz.

    Raises:
        UnreadableInput: missing, not a WAV file, damaged, truncated, compressed, or too long.
    """
    where = os.fspath(path)
    data = read_whole(path, 16 * MAX_SAMPLES)
    try:
        form, body = _chunks(data, where)
    except (struct.error, IndexError):
        raise UnreadableInput(f"{where}: the WAV file is truncated within its header") from None
    return _samples(form, body, where), form.rate_hz


def _chunks(data: bytes, where: str) -> tuple[_Format, memoryview]:
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise UnreadableInput(f"{where}: not a WAV file; convert it to WAV with 16-bit PCM samples")
    form: _Format | None = None
    at = 12
    while at + 8 <= len(data):
        name = data[at : at + 4]
        (size,) = struct.unpack_from("<I", data, at + 4)
        at += 8
        if name == b"fmt ":
            form = _read_format(data, at, size, where)
        elif name == b"data":
            if form is None:
                raise UnreadableInput(f"{where}: the WAV file has samples before it tells their format")
            present = len(data) - at
            # A recorder that streams cannot go back to fill in the size and leaves 0 or the maximum there.
            if size in (0, 0x7FFFFFFF, 0xFFFFFFFF) or size == 0xFFFFFFFF - 36:
                size = present
            if size > present:
                raise UnreadableInput(
                    f"{where}: the WAV file is truncated: {present} of {size} bytes of samples are there"
                )
            return form, memoryview(data)[at : at + size]
        at += size + (size & 1)
    raise UnreadableInput(f"{where}: the WAV file is truncated or damaged: it has no samples")


def _read_format(data: bytes, at: int, size: int, where: str) -> _Format:
    code, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", data, at)
    if code == _EXTENSIBLE and size >= 26:
        (code,) = struct.unpack_from("<H", data, at + 24)
    if (code, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        raise UnreadableInput(
            f"{where}: WAV format {code} with {bits} bits is not read; convert it to PCM of 8, 16, 24 or 32 bits"
        )
    if not 1 <= channels <= 64 or not 1 <= rate_hz <= _MAX_RATE_HZ:
        raise UnreadableInput(f"{where}: the WAV file claims {channels} channels at {rate_hz} Hz; it is damaged")
    return _Format(code, channels, rate_hz, bits)


def _samples(form: _Format, body: memoryview, where: str) -> Array:
    frames = len(body) // form.frame_bytes
    if frames == 0:
        raise UnreadableInput(f"{where}: the WAV file holds no sample")
    if frames * form.channels > MAX_SAMPLES:
        raise UnreadableInput(f"{where}: {frames} samples are more than the limit of {MAX_SAMPLES}; cut the recording")
    raw = body[: frames * form.frame_bytes]
    samples: Array
    if form.code == _FLOAT:
        samples = np.frombuffer(raw, f"<f{form.bits // 8}").astype(np.float32)
        if not np.isfinite(samples).all():
            raise UnreadableInput(f"{where}: the WAV file holds samples that are no numbers")
        np.clip(samples, -1, 1, out=samples)
    elif form.bits == 8:
        samples = (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    elif form.bits == 24:
        # Three bytes into the upper part of four: the sign comes out right.
        wide = np.zeros((frames * form.channels, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    else:
        samples = np.frombuffer(raw, f"<i{form.bits // 8}").astype(np.float32) / 2 ** (form.bits - 1)
    if form.channels > 1:
        samples = samples.reshape(frames, form.channels).mean(axis=1, dtype=np.float32)
    return samples


def windows(samples: Array, size: int, step: int | None = None, context: int = 0) -> Array:
    """Cuts samples into windows; each has the `context` samples that stand before it at its front.

    Before the first sample and after the last there is silence (zeros); with `step` up to `size` no sample is left out.

    Args:
        samples: [n], n >= 1.
        size: new samples a window.
        step: samples from one window to the next; None for `size` (no overlap).
        context: samples repeated from before the window.

    Returns:
        [count, context + size] of the samples' dtype: a read-only view with contiguous rows.

    Raises:
        InputShapeError: `samples` is not one row, or is empty.
        InputValueError: size or step is below 1, or context below 0.
    """
    step = size if step is None else step
    if size < 1 or step < 1 or context < 0:
        raise InputValueError(f"windows: size {size} and step {step} must be at least 1, context {context} at least 0")
    if samples.ndim != 1 or samples.size == 0:
        raise InputShapeError(f"windows: expected samples [n] with n >= 1, given shape {list(samples.shape)}")
    covering = 1 + max(0, -(-(samples.size - size) // step))
    count = min(covering, -(-samples.size // step))  # with gaps, none that begins after the end
    padded = np.zeros(context + (count - 1) * step + size, samples.dtype)
    kept = min(samples.size, padded.size - context)
    padded[context : context + kept] = samples[:kept]
    view: Array = np.lib.stride_tricks.sliding_window_view(padded, context + size)[::step]
    return view
