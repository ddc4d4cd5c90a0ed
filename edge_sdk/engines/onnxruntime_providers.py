"""How a session of ONNX Runtime is told to use an execution provider, and which nodes it left out.

A provider that is built in is chosen by name. One that is plugged in is registered from its library first and then
chosen by a device that it offers.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_sdk.engines.accelerators_onnxruntime import (
    PluginLibrary,
    plugin_libraries,
    provider_of,
    provider_options,
)
from edge_sdk.errors import AcceleratorError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["CPU_PROVIDER", "ProviderTarget", "nodes_elsewhere", "provider_targets"]

CPU_PROVIDER = "CPUExecutionProvider"
_SUFFIX = "ExecutionProvider"
_registering = threading.Lock()
_devices_of: dict[str, tuple[Any, ...]] = {}
"""Devices by plug-in name: the engine refuses to register a library twice in one process."""


@dataclass(frozen=True, slots=True)
class ProviderTarget:
    """A provider, and for one that is plugged in the device of it to use.

    Attributes:
        provider: its name, as the engine records it for the nodes it runs.
        options: without which it does not start.
        device: the engine's own description; None for a provider that is built in.
        build: what tells one build of a plug-in from another; "" for a provider that is built in.
    """

    provider: str
    options: Mapping[str, str]
    device: Any | None = None
    build: str = ""

    @property
    def simulated(self) -> bool:
        """Whether the plug-in computes on the CPU after all, as a vendor's simulator does."""
        return self.device is not None and str(self.device.device.type).endswith("CPU")

    def use(self, settings: onnxruntime.SessionOptions, options: Mapping[str, str], beside_cpu: bool) -> dict[str, Any]:
        """Prepares `settings` and returns the further arguments of `InferenceSession`.

        Args:
            settings: the session's options, changed where the provider is plugged in.
            options: the caller's, which go before the provider's own.
            beside_cpu: whether the CPU runs what the provider does not take.
        """
        merged = {**self.options, **options}
        if self.device is not None:
            settings.add_provider_for_devices([self.device], merged)
            return {}
        chosen: list[Any] = [(self.provider, merged)]
        return {"providers": [*chosen, CPU_PROVIDER] if beside_cpu else chosen}


def provider_targets(ort: Any, accelerator: str) -> tuple[ProviderTarget, ...]:
    """The ways to reach an accelerator, likeliest first; empty where its plug-in offers no device.

    Args:
        ort: the module `onnxruntime`.
        accelerator: name of an accelerator, or of a provider.

    Raises:
        AcceleratorError: this build has no such provider and no plug-in brings it, or the plug-in does not load.
    """
    plugin = next((p for p in plugin_libraries() if p.name == accelerator), None)
    if plugin is not None:
        devices = _registered(ort, plugin)
        options, build = provider_options(accelerator), _build_of(plugin)
        return tuple(ProviderTarget(d.ep_name, options, d, build) for d in devices)
    provider = provider_of(accelerator)
    available = ort.get_available_providers()
    if provider not in available:
        # The engine would only warn, and the CPU would run everything.
        names = ", ".join(name.removesuffix(_SUFFIX) for name in available)
        raise AcceleratorError(
            f"accelerator {accelerator!r}: this build of onnxruntime has no {provider}; it has {names};"
            " install the build or plug-in for it"
        )
    return (ProviderTarget(provider, provider_options(accelerator)),)


def _registered(ort: Any, plugin: PluginLibrary) -> tuple[Any, ...]:
    with _registering:
        if plugin.name not in _devices_of:
            before = {_device_key(device) for device in ort.get_ep_devices()}
            try:
                ort.register_execution_provider_library(plugin.name, str(plugin.path))
            except Exception as error:
                reason = " ".join(str(error).split())
                raise AcceleratorError(f"accelerator {plugin.name!r}: {plugin.path} does not load: {reason}") from error
            added = [device for device in ort.get_ep_devices() if _device_key(device) not in before]
            # A plug-in may offer the CPU as well, as a simulator does: that is tried last.
            kind = plugin.kind.upper()
            added.sort(key=lambda device: (kind not in str(device.device.type), "CPU" in str(device.device.type)))
            _devices_of[plugin.name] = tuple(added)
        return _devices_of[plugin.name]


def _build_of(plugin: PluginLibrary) -> str:
    try:
        status = plugin.path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _device_key(device: Any) -> tuple[Any, ...]:
    return device.ep_name, str(device.device.type), device.device.vendor_id, device.device.device_id


def nodes_elsewhere(session: onnxruntime.InferenceSession, provider: str) -> list[str] | None:
    """Names of the nodes that run elsewhere than on `provider`; None where it runs none at all.

    An engine too old to tell (no assignment records) passes if the provider is in the session.
    """
    read = getattr(session, "get_provider_graph_assignment_info", None)
    if read is None:
        return [] if provider in session.get_providers() else None
    elsewhere: list[str] = []
    taken = 0
    for place in read():
        nodes = [node.name or node.op_type for node in place.get_nodes()]
        if place.ep_name == provider:
            taken += len(nodes)
        else:
            elsewhere += nodes
    return elsewhere if taken else None
