"""From PyTorch and TensorFlow to ONNX and TFLite, by the user's own torch or tensorflow in a child process.

The child is a Python that may be another than this one, so that neither library needs to be installed beside this
package; what it exports is compared with the model's own answer where the model brings an example.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.compress.answers import apart
from edge_sdk.compress.running import Subject
from edge_sdk.errors import MissingExtra, ModelError, ModelNotFound, UnsupportedFormat

__all__ = ["Converted", "convert", "needs_converting"]

TOLERANCE = 1e-2
"""Largest |difference| / |answer| between an exported file and the model itself."""
_KERAS = (".keras", ".h5", ".hdf5")


@dataclass(frozen=True, slots=True)
class Converted:
    """A model file made from something else.

    Attributes:
        file: the ONNX or TFLite file.
        how: what made it: "torch 2.9.0, torch.onnx.export with dynamo".
        error: largest relative difference from the model's own answer; None where that was not to be had.
    """

    file: Path
    how: str
    error: float | None


def needs_converting(source: str) -> bool:
    """Whether `source` is a PyTorch exported program, `module:function`, a SavedModel or a Keras model."""
    return _kind(source) is not None


def convert(source: str, folder: Path, python: str | None = None) -> Converted:
    """Converts a model.

    Args:
        source: a `.pt2` file, `module:function` that gives (model, example_inputs), a SavedModel folder, a Keras file.
        folder: where to write.
        python: the Python that has torch or tensorflow; this one where None.

    Raises:
        MissingExtra: it has not; the message is the export command.
        ModelNotFound: no such file.
        ModelError: the export failed, or its answers differ from the model's own.
    """
    kind = _kind(source)
    if kind is None:
        raise UnsupportedFormat(f"{source}: is nothing that is converted here; expected .pt2, module:function, a"
                                " SavedModel folder or a Keras file")  # fmt: skip
    if kind != "function" and not os.path.exists(source):
        raise ModelNotFound(f"{source}: no such file or folder")
    script = "export_tensorflow.py" if kind in ("saved-model", "keras") else "export_torch.py"
    result = _child(python or sys.executable, Path(__file__).with_name(script), source, folder)
    if "missing" in result:
        raise MissingExtra(
            f"{source}: converting it needs {result['missing']}, which {python or 'this Python'} does not have"
            f" ({result['message']}); name one that has with --python, or run there: {_command(kind, source)}"
        )
    if "file" not in result:
        reason = " ".join(str(result.get("message", "")).split())[:400]
        raise ModelError(f"{source}: could not be converted: {reason}; try: {_command(kind, source)}")
    file = Path(result["file"])
    error = _compared(file, folder / "example.npz", source) if result.get("example") else None
    return Converted(file, str(result["how"]), error)


def _kind(source: str) -> str | None:
    path = Path(source)
    if path.suffix == ".pt2":
        return "pt2"
    if path.suffix in _KERAS:
        return "keras"
    if (path / "saved_model.pb").is_file():
        return "saved-model"
    module, separator, function = source.rpartition(":")
    dotted = all(part.isidentifier() for part in module.split("."))
    if separator and dotted and function.isidentifier() and not path.exists():
        return "function"
    return None


def _child(python: str, script: Path, source: str, folder: Path) -> dict[str, Any]:
    task = json.dumps({"source": source, "folder": str(folder)})
    try:
        # What the exporters print is theirs: the result comes by file.
        done = subprocess.run(
            [python, str(script), task], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False,
        )  # fmt: skip
    except OSError as error:
        raise ModelError(
            f"{source}: {python} cannot be started: {error.strerror}; expected a Python that has torch or tensorflow"
        ) from None
    try:
        result = json.loads((folder / "result.json").read_bytes())
        if isinstance(result, dict):
            return result
    except (OSError, ValueError):
        pass
    said = [line.strip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return {"message": f"{python} ended with {how}: {said[-1] if said else 'without a word'}"}


def _command(kind: str, source: str) -> str:
    """The exact command that exports it by hand."""
    quoted = json.dumps(source)
    if kind == "pt2":
        out = json.dumps(str(Path(source).with_suffix(".onnx")))
        code = f"import torch; torch.onnx.export(torch.export.load({quoted}), dynamo=True).save({out})"
    elif kind == "function":
        module, _, function = source.rpartition(":")
        code = (
            f"import torch; from {module} import {function}; model, inputs = {function}();"
            f' torch.onnx.export(model.eval(), inputs, "{function}.onnx", dynamo=True)'
        )
    else:
        what = f"from_saved_model({quoted})"
        if kind == "keras":
            what = f"from_keras_model(tf.keras.models.load_model({quoted}))"
        out = json.dumps(Path(source).stem + ".tflite")
        code = f"import tensorflow as tf; open({out}, 'wb').write(tf.lite.TFLiteConverter.{what}.convert())"
    return f"python -c {shlex.quote(code)}"


def _compared(file: Path, example: Path, source: str) -> float | None:
    """How far the file's answer to the example lies from the model's own; None where they cannot be set side by side.

    Raises:
        ModelError: too far.
    """
    with np.load(example, allow_pickle=False) as kept:
        inputs = [kept[f"input_{i}"] for i in range(sum(name.startswith("input_") for name in kept.files))]
        outputs = [kept[f"output_{i}"] for i in range(sum(name.startswith("output_") for name in kept.files))]
    with Subject(file, foreign=True) as subject:
        if len(subject.inputs) != len(inputs) or len(subject.outputs) != len(outputs):
            return None
        answer = subject.answer({spec.name: array for spec, array in zip(subject.inputs, inputs, strict=True)})
    worst = 0.0
    for own, given in zip(outputs, answer.values(), strict=True):
        distance, size = apart(own, given)
        worst = max(worst, distance / size if size > 0 else float(distance > 0))
    if worst > TOLERANCE:
        raise ModelError(
            f"{source}: the exported file answers the example {worst:.2g} of its size apart from the model itself, more"
            f" than {TOLERANCE:g}; is the model in eval mode?"
        )
    return worst
