"""Proves an execution provider of ONNX Runtime. Runs in the child process of a proof."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from edge_sdk.engines.accelerators import PluginLibrary, plugin_libraries, provider_of, provider_options
from edge_sdk.engines.proof_models import ProofModel, onnx_models, told_failures

__all__ = ["prove"]

_CPU = "CPUExecutionProvider"
_SILENT = 4


def prove(name: str, kind: str, stages: Callable[[str], None]) -> tuple[bool | None, str]:
    """Runs the small models on provider `name` alone.

    Returns:
        Whether one ran there with the CPU's result, and one line that tells what was seen.
    """
    stages("importing onnxruntime")
    import onnxruntime

    plugin = next((p for p in plugin_libraries() if p.name == name), None)
    if plugin is None and provider_of(name) not in onnxruntime.get_available_providers():
        return False, f"this build of onnxruntime has no {provider_of(name)}"
    failures: dict[str, str] = {}
    models = sorted(
        onnx_models(), key=lambda model: model.precision != ("float32" if kind in ("gpu", "cpu") else "int8")
    )
    for target in _targets(onnxruntime, plugin, name, kind, stages):
        for model in models:
            try:
                return True, _run(onnxruntime, model, target, stages)
            except Exception as error:  # noqa: BLE001 - the engine raises what it likes; the next model or device may do
                failures.setdefault(model.precision, " ".join(str(error).split())[:250])
    return False, told_failures(failures) or "its library registers no device on this machine"


class _Target:
    """How a session is told to use the provider: by name where built in, by a device of it where plugged in."""

    def __init__(self, provider: str, options: dict[str, str], device: Any | None = None) -> None:
        self.provider = provider
        self.options = options
        self.device = device
        simulated = device is not None and str(device.device.type).endswith("CPU")
        self.remark = "; its device is the CPU: a simulator" if simulated else ""

    def session(self, onnxruntime: Any, content: bytes) -> Any:
        """A session that may use nothing but this provider."""
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _SILENT
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # Without enable_fallback=0 the Python layer would try again on the CPU and hide the reason.
        if self.device is None:
            chosen = [(self.provider, self.options)]
            return onnxruntime.InferenceSession(content, settings, providers=chosen, enable_fallback=0)
        settings.add_provider_for_devices([self.device], self.options)
        return onnxruntime.InferenceSession(content, settings, enable_fallback=0)


def _targets(
    onnxruntime: Any, plugin: PluginLibrary | None, name: str, kind: str, stages: Callable[[str], None]
) -> Iterator[_Target]:
    if plugin is None:
        yield _Target(provider_of(name), provider_options(name))
        return
    stages(f"loading {plugin.path}")
    before = {_device_key(device) for device in onnxruntime.get_ep_devices()}
    onnxruntime.register_execution_provider_library(plugin.name, str(plugin.path))
    added = [device for device in onnxruntime.get_ep_devices() if _device_key(device) not in before]
    # A plug-in may offer the CPU as well, as a simulator does: that is tried last.
    added.sort(key=lambda device: (kind.upper() not in str(device.device.type), "CPU" in str(device.device.type)))
    for device in added:
        yield _Target(device.ep_name, provider_options(name), device)


def _device_key(device: Any) -> tuple[Any, ...]:
    return device.ep_name, str(device.device.type), device.device.vendor_id, device.device.device_id


def _run(onnxruntime: Any, model: ProofModel, target: _Target, stages: Callable[[str], None]) -> str:
    stages(f"loading the {model.precision} model on {target.provider}")
    session = target.session(onnxruntime, model.content)
    placed = _placed(session, target.provider)
    stages(f"running the {model.precision} model on {target.provider}")
    output = session.run(None, {"x": model.sample})[0]
    reference = onnxruntime.InferenceSession(model.content, providers=[_CPU])
    if not model.agrees(output, reference.run(None, {"x": model.sample})[0]):
        raise RuntimeError("the result differs from the CPU's")
    return f"{model.precision} model ran on {target.provider} ({placed}) with the CPU's result{target.remark}"


def _placed(session: Any, provider: str) -> str:
    """Where the engine says that the nodes run.

    Raises:
        RuntimeError: elsewhere than on `provider`.
    """
    read = getattr(session, "get_provider_graph_assignment_info", None)
    if read is None:  # an older onnxruntime: the CPU is shut out, and the provider must be in the session
        if provider not in session.get_providers():
            raise RuntimeError(f"the engine left {provider} out and ran on {', '.join(session.get_providers())}")
        return "no other was allowed"
    places = Counter({place.ep_name: 0 for place in read()})
    for place in read():
        places[place.ep_name] += len(place.get_nodes())
    if not places[provider] or len(places) > 1:
        where = ", ".join(f"{count} on {name}" for name, count in places.items() if count) or "nowhere"
        raise RuntimeError(f"nodes were placed elsewhere: {where}")
    return f"{places[provider]} nodes"
