"""edge-sdk: run any ONNX or TFLite model the best way this device and this network allow, and see why."""

from __future__ import annotations
