"""The range of every activation, measured on calibration data by ONNX Runtime's calibrators."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_sdk.compress.onnx_files import save
from edge_sdk.compress.picking import spread
from edge_sdk.compress.tools import needed, one_line, quiet
from edge_sdk.errors import CompressionError
from edge_sdk.tensors import Array

__all__ = ["METHODS", "SampleReader", "activation_ranges"]

METHODS = ("min-max", "percentile", "entropy")
"""min-max: the whole range seen. percentile: without the outermost 0.01 %. entropy: where the Kullback-Leibler
divergence between the real and the quantised distribution is least (Migacz, "8-bit inference with TensorRT", 2017)."""
_MOST_SAMPLES = {"min-max": 256, "percentile": 128, "entropy": 64}
"""Ranges settle long before; histograms cost time in proportion."""
_AT_ONCE = 8
"""Samples whose activations are held in memory together."""
_PERCENTILE = 99.99
_ENTROPY_BINS = 256


def activation_ranges(model: Any, method: str, feeds: Sequence[Mapping[str, Array]]) -> Any:
    """Ranges by tensor name, as `onnxruntime.quantization` holds them.

    Args:
        model: a prepared `ModelProto`.
        method: one of `METHODS`.
        feeds: the samples.

    Raises:
        CompressionError: the model cannot be run on the samples.
        MissingExtra: a package is missing.
    """
    calibrate = needed("onnxruntime.quantization.calibrate")
    kinds = {
        "min-max": (calibrate.CalibrationMethod.MinMax, {}),
        "percentile": (calibrate.CalibrationMethod.Percentile, {"percentile": _PERCENTILE, "symmetric": False}),
        "entropy": (calibrate.CalibrationMethod.Entropy, {"num_bins": _ENTROPY_BINS, "num_quantized_bins": 128}),
    }
    kind, options = kinds[method]
    samples = spread(feeds, _MOST_SAMPLES[method])
    with tempfile.TemporaryDirectory(prefix="edge-sdk-") as folder, quiet():
        path = Path(folder, "model.onnx")
        save(model, path)
        try:
            calibrator = calibrate.create_calibrator(
                path,
                augmented_model_path=str(Path(folder, "augmented.onnx")),
                calibrate_method=kind,
                extra_options=options,
            )
            for first in range(0, len(samples), _AT_ONCE):
                calibrator.collect_data(SampleReader(samples[first : first + _AT_ONCE]))
            return calibrator.compute_data()
        except Exception as error:  # noqa: BLE001 - the engine and the calibrators raise classes of many kinds
            raise CompressionError(f"{method} calibration failed: {one_line(error)}") from None


class SampleReader:
    """Hands samples out as the calibrators of onnxruntime.quantization ask for them."""

    def __init__(self, feeds: Iterable[Mapping[str, Array]]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        """The next sample; None after the last."""
        feed = next(self._left, None)
        return None if feed is None else dict(feed)
