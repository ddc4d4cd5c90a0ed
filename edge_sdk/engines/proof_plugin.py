"""Proves an accelerator of an engine that is a foreign plug-in, through the `Engine` seam. Runs in a proof's child."""

from __future__ import annotations

from collections.abc import Callable

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.engines.proof_models import ProofModel, onnx_models, tflite_models, told_failures
from edge_sdk.engines.registry import find_engine
from edge_sdk.formats import open_model

__all__ = ["prove"]

_MODELS = {"onnx": onnx_models, "tflite": tflite_models}


def prove(engine_name: str, name: str, kind: str, stages: Callable[[str], None]) -> tuple[bool | None, str]:
    """Runs the small models in strict mode, and asks the runner where it computed.

    Returns:
        Whether one ran there with the CPU's result, None where the engine runs no format known here or cannot tell
        where it computed; and one line that tells what was seen.
    """
    engine = find_engine(engine_name)
    models = [model for form, make in _MODELS.items() if form in engine.formats for model in make()]
    if not models:
        return None, f"engine {engine_name} runs neither ONNX nor TFLite, so there is no model to prove it with"
    models.sort(key=lambda model: model.precision != ("float32" if kind == "gpu" else "int8"))
    failures: dict[str, str] = {}
    for model in models:
        try:
            return _run(engine, name, model, stages)
        except Exception as error:  # noqa: BLE001 - a foreign plug-in raises what it likes; the next model may do
            failures[model.precision] = " ".join(str(error).split())[:250]
    return False, told_failures(failures)


def _run(engine: Engine, name: str, model: ProofModel, stages: Callable[[str], None]) -> tuple[bool | None, str]:
    stages(f"loading the {model.precision} model on {name}")
    runner = _load(engine, name, model)
    stages(f"running the {model.precision} model on {name}")
    (output,) = runner.run({runner.inputs[0].name: model.sample}).values()
    reference = _load(engine, "cpu", model)
    (expected,) = reference.run({reference.inputs[0].name: model.sample}).values()
    if not model.agrees(output, expected):
        raise RuntimeError("the result differs from the CPU's")
    report = runner.placement()
    places = ", ".join(node.where for node in report.nodes)
    if not report.verified:
        return None, f"{model.precision} model ran, but engine {engine.name} cannot tell where"
    if any(node.where == "cpu" and node.count for node in report.nodes):
        raise RuntimeError(f"nodes ran on {places}")
    return True, f"{model.precision} model ran on {places} with the CPU's result"


def _load(engine: Engine, accelerator: str, model: ProofModel) -> Runner:
    options = LoadOptions(accelerator=accelerator, strict=accelerator != "cpu", cache=False)
    return engine.load(open_model(model.content, name=f"proof model ({model.precision})"), options)
