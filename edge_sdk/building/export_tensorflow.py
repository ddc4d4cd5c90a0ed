"""Converts a SavedModel or a Keras model to TFLite. Runs by itself, as a script of the user's own Python.

    python export_tensorflow.py '{"source": "saved_model/", "folder": "/where/to"}'

Writes `model.tflite` and `result.json` into the folder.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

__all__ = ["main"]


def main(task: dict[str, str]) -> dict[str, Any]:
    """Does the conversion; returns what `result.json` holds."""
    try:
        tensorflow = importlib.import_module("tensorflow")
    except ImportError as error:
        return {"missing": "tensorflow", "message": str(error)}
    source, out = task["source"], os.path.join(task["folder"], "model.tflite")
    try:
        content = _converted(tensorflow, source, task["folder"])
    except Exception as error:  # noqa: BLE001 - whatever TensorFlow raises is told in one line
        return {"message": f"{type(error).__name__}: {error}"}
    with open(out, "wb") as file:
        file.write(content)
    return {"file": out, "how": f"tensorflow {tensorflow.__version__}, TFLiteConverter", "example": False}


def _converted(tensorflow: Any, source: str, folder: str) -> bytes:
    converter = tensorflow.lite.TFLiteConverter
    if os.path.isdir(source):
        return bytes(converter.from_saved_model(source).convert())
    model = tensorflow.keras.models.load_model(source, compile=False)
    try:
        return bytes(converter.from_keras_model(model).convert())
    except Exception:  # noqa: BLE001 - some versions of Keras convert only by way of a SavedModel
        saved = os.path.join(folder, "saved_model")
        model.export(saved)
        return bytes(converter.from_saved_model(saved).convert())


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    outcome = main(given)
    with open(os.path.join(given["folder"], "result.json"), "w", encoding="utf-8") as file:
        json.dump(outcome, file)
