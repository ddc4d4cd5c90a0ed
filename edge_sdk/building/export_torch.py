"""Exports a PyTorch model to ONNX. Runs by itself, as a script of the user's own Python: only torch is needed there.

    python export_torch.py '{"source": "model.pt2", "folder": "/where/to"}'

Writes `model.onnx`, `example.npz` (the example's inputs and the model's outputs to it, `input_0`, …, `output_0`, …) and
`result.json` into the folder.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

__all__ = ["main"]

LARGE_BYTES = 1_500_000_000
"""An ONNX file holds 2 GB at most: weights of larger models lie beside it."""


def main(task: dict[str, str]) -> dict[str, Any]:
    """Does the export; returns what `result.json` holds."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        return {"missing": "torch", "message": str(error)}
    sys.path.insert(0, os.getcwd())
    source, out = task["source"], os.path.join(task["folder"], "model.onnx")
    try:
        program, module, inputs = _loaded(torch, source)
        how = _export(torch, program, module, inputs, out)
    except Exception as error:  # noqa: BLE001 - whatever the user's code or torch raises is told in one line
        return {"message": f"{type(error).__name__}: {error}"}
    compared = _kept_example(torch, module, inputs, os.path.join(task["folder"], "example.npz"))
    return {"file": out, "how": f"torch {torch.__version__}, {how}", "example": compared}


def _loaded(torch: Any, source: str) -> tuple[Any, Any, tuple[Any, ...] | None]:
    """The exported program (or None), a module to call, and example inputs (or None)."""
    name, separator, function = source.rpartition(":")
    if not separator or os.path.exists(source):
        program = torch.export.load(source)
        example = program.example_inputs
        return program, program.module(), tuple(example[0]) if example is not None and not example[1] else None
    made = getattr(importlib.import_module(name), function)
    if callable(made) and not isinstance(made, torch.nn.Module):
        made = made()
    if hasattr(made, "graph_signature") and hasattr(made, "module"):
        example = made.example_inputs
        return made, made.module(), tuple(example[0]) if example is not None and not example[1] else None
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], torch.nn.Module)):
        raise TypeError(f"{source} gave a {type(made).__name__}; expected (model, example_inputs)")
    module, inputs = made
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    return None, module.eval(), inputs


def _export(torch: Any, program: Any, module: Any, inputs: tuple[Any, ...] | None, out: str) -> str:
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    try:
        if program is not None:
            exported = torch.onnx.export(program, dynamo=True)
        else:
            exported = torch.onnx.export(module, inputs, dynamo=True)
        exported.save(out, external_data=size > LARGE_BYTES)
        return "torch.onnx.export with dynamo"
    except Exception as error:  # the older exporter takes what the newer does not, or where onnxscript is missing
        if inputs is None:
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        torch.onnx.export(module, inputs, out, dynamo=False, opset_version=17)
    except TypeError:  # a torch that knows no other exporter
        torch.onnx.export(module, inputs, out, opset_version=17)
    return f"torch.onnx.export by tracing, since the newer exporter failed ({reason[:120]})"


def _kept_example(torch: Any, module: Any, inputs: tuple[Any, ...] | None, path: str) -> bool:
    """Keeps the example with the model's own answer, to compare the ONNX file with; False where there is none."""
    if inputs is None or not all(isinstance(value, torch.Tensor) for value in inputs):
        return False
    try:
        numpy = importlib.import_module("numpy")
        with torch.no_grad():
            answer = module(*inputs)
        outputs = [value for value in _flat(answer) if isinstance(value, torch.Tensor)]
        arrays = {f"input_{i}": value.detach().cpu().numpy() for i, value in enumerate(inputs)}
        arrays |= {f"output_{i}": value.detach().cpu().numpy() for i, value in enumerate(outputs)}
        numpy.savez(path, **arrays)
    except Exception:  # noqa: BLE001 - the export stands; it is only not compared
        return False
    return True


def _flat(answer: Any) -> list[Any]:
    if isinstance(answer, dict):
        return [part for value in answer.values() for part in _flat(value)]
    if isinstance(answer, (tuple, list)):
        return [part for value in answer for part in _flat(value)]
    return [answer]


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    outcome = main(given)
    with open(os.path.join(given["folder"], "result.json"), "w", encoding="utf-8") as file:
        json.dump(outcome, file)
