"""Proves an execution provider of ONNX Runtime. Runs in the child process of a proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_sdk.engines.onnxruntime_providers import CPU_PROVIDER, ProviderTarget, nodes_elsewhere, provider_targets
from edge_sdk.engines.proof_models import ProofModel, onnx_models, told_failures
from edge_sdk.errors import AcceleratorError

__all__ = ["prove"]

_SILENT = 4


def prove(name: str, kind: str, stages: Callable[[str], None]) -> tuple[bool | None, str]:
    """Runs the small models on provider `name` alone.

    Returns:
        Whether one ran there with the CPU's result, and one line that tells what was seen.
    """
    stages("importing onnxruntime")
    import onnxruntime

    failures: dict[str, str] = {}
    models = sorted(
        onnx_models(), key=lambda model: model.precision != ("float32" if kind in ("gpu", "cpu") else "int8")
    )
    stages(f"loading {name}")
    try:
        targets = provider_targets(onnxruntime, name)
    except AcceleratorError as error:
        return False, str(error).removeprefix(f"accelerator {name!r}: ")
    for target in targets:
        for model in models:
            try:
                return True, _run(onnxruntime, model, target, stages)
            except Exception as error:  # noqa: BLE001 - the engine raises what it likes; the next model or device may do
                failures.setdefault(model.precision, " ".join(str(error).split())[:250])
    return False, told_failures(failures) or "its library registers no device on this machine"


def _run(onnxruntime: Any, model: ProofModel, target: ProviderTarget, stages: Callable[[str], None]) -> str:
    stages(f"loading the {model.precision} model on {target.provider}")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    arguments = target.use(settings, {}, beside_cpu=False)
    session = onnxruntime.InferenceSession(model.content, settings, enable_fallback=0, **arguments)
    elsewhere = nodes_elsewhere(session, target.provider)
    if elsewhere is None or elsewhere:
        raise RuntimeError(f"nodes were placed elsewhere: {', '.join(elsewhere or ['all'])}")
    stages(f"running the {model.precision} model on {target.provider}")
    output = session.run(None, {"x": model.sample})[0]
    reference = onnxruntime.InferenceSession(model.content, providers=[CPU_PROVIDER])
    if not model.agrees(output, reference.run(None, {"x": model.sample})[0]):
        raise RuntimeError("the result differs from the CPU's")
    remark = "; its device is the CPU: a simulator" if target.simulated else ""
    return f"{model.precision} model ran on {target.provider} alone with the CPU's result{remark}"
