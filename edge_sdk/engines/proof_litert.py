"""Proves an accelerator of LiteRT: its GPU and NPU, the Edge TPU, an external delegate. Runs in a proof's child."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_sdk.engines.litert_delegate import make_delegate
from edge_sdk.engines.litert_library import import_interpreter
from edge_sdk.engines.proof_models import ProofModel, tflite_models, told_failures
from edge_sdk.tensors import Array

__all__ = ["EDGE_TPU_MODEL_VARIABLE", "prove"]

EDGE_TPU_MODEL_VARIABLE = "EDGE_SDK_EDGETPU_MODEL"
"""A model compiled for the Edge TPU, to prove it with: only Google's closed compiler can make one."""


def prove(name: str, kind: str, stages: Callable[[str], None]) -> tuple[bool | None, str]:
    """Runs the small models on accelerator `name` alone.

    Returns:
        Whether one ran there with the CPU's result, and one line that tells what was seen.
    """
    stages("importing LiteRT")
    if name == "edgetpu":
        return _prove_edge_tpu(stages)
    run: Callable[[ProofModel], str]
    if name in ("gpu", "npu"):
        try:
            compiled = importlib.import_module("ai_edge_litert.compiled_model")
        except ImportError:
            return False, "needs ai-edge-litert 2 or newer; what is installed reaches delegates only"
        run = lambda model: _run_compiled(compiled, name, model, stages)  # noqa: E731
    else:
        stages(f"loading {name}")
        delegate = make_delegate(import_interpreter(), name, {})
        run = lambda model: _run_delegate(delegate, name, model, stages)  # noqa: E731
    failures: dict[str, str] = {}
    for model in sorted(tflite_models(), key=lambda model: model.precision != ("float32" if kind == "gpu" else "int8")):
        try:
            return True, run(model)
        except Exception as error:  # noqa: BLE001 - the engine raises what it likes; the other precision may do
            failures[model.precision] = _tidy(error)
    return False, told_failures(failures)


def _tidy(error: Exception) -> str:
    """LiteRT's errors are a tree of source locations with the reason, if any, at its end."""
    lines = [line.strip(" └│─") for line in str(error).splitlines()]
    told = [line for line in lines if line and not (line.startswith("ERROR: [") and line.endswith("]"))]
    return " ".join(told)[:250] or "LiteRT refuses it and gives no reason"


# --- GPU and NPU ------------------------------------------------------------------------------------------------------


def _run_compiled(compiled: Any, name: str, model: ProofModel, stages: Callable[[str], None]) -> str:
    # Together with the CPU, LiteRT falls back without a word and still reports full acceleration; alone, it refuses.
    alone = getattr(compiled.HardwareAccelerator, name.upper())
    stages(f"loading the {model.precision} model on the {name.upper()}")
    loaded = compiled.CompiledModel.from_buffer(model.content, hardware_accel=alone)
    if not loaded.is_fully_accelerated():
        raise RuntimeError("parts of the model stay on the CPU")
    stages(f"running the {model.precision} model on the {name.upper()}")
    inputs, outputs = loaded.create_input_buffers(0), loaded.create_output_buffers(0)
    inputs[0].write(model.sample)
    loaded.run_by_index(0, inputs, outputs)
    output = outputs[0].read(model.sample.size, model.sample.dtype).reshape(model.sample.shape)
    _compare(model, output)
    return f"{model.precision} model ran on LiteRT's {name.upper()} accelerator alone with the CPU's result"


def _compare(model: ProofModel, output: Array) -> None:
    module = import_interpreter()
    _, expected = _interpret(module, model.content, model.sample)
    if not model.agrees(output, expected):
        raise RuntimeError("the result differs from the CPU's")


def _interpret(
    module: Any, content: bytes, sample: Array | None, delegates: list[Any] | None = None
) -> tuple[int, Array]:
    """Runs a model without LiteRT's own delegates. Returns how many nodes are delegates' parts, and the output."""
    interpreter = module.Interpreter(
        model_content=content,
        experimental_delegates=delegates,
        experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    parts = sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
    if sample is not None:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
    interpreter.invoke()
    output: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return parts, output


# --- delegates --------------------------------------------------------------------------------------------------------


def _run_delegate(delegate: Any, name: str, model: ProofModel, stages: Callable[[str], None]) -> str:
    stages(f"running the {model.precision} model with {name}")
    parts, output = _interpret(import_interpreter(), model.content, model.sample, [delegate])
    if not parts:
        raise RuntimeError("the delegate loads, but took none of the nodes; all ran on the CPU")
    _compare(model, output)
    return f"{model.precision} model ran with the delegate, which took nodes, with the CPU's result"


def _prove_edge_tpu(stages: Callable[[str], None]) -> tuple[bool | None, str]:
    stages("opening the Edge TPU")
    module = import_interpreter()
    delegate = make_delegate(module, "edgetpu", {})  # raises where the device does not answer
    path = os.environ.get(EDGE_TPU_MODEL_VARIABLE)
    if not path:
        return None, (
            "the Edge TPU was opened; set EDGE_SDK_EDGETPU_MODEL to a model compiled for it"
            " (edgetpu_compiler) to prove that it computes"
        )
    stages(f"running {path} on the Edge TPU")
    # Its one op is a custom op that no CPU kernel exists for: where the model ran, the Edge TPU ran it.
    parts, _ = _interpret(module, Path(path).read_bytes(), None, [delegate])
    if not parts:
        return False, f"{path} ran on the CPU: it is not compiled for the Edge TPU"
    return True, f"{path} ran on the Edge TPU"
