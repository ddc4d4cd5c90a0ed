"""edge-sdk: run any ONNX or TFLite model the best way this device and this network allow, and see why.

import edge_sdk

with edge_sdk.load("model.onnx") as session:
    outputs = session.run({"input": array})
    print(session.plan.reason)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.activation import AcceleratorFallback
    from edge_sdk.device import Device, probe
    from edge_sdk.engines.base import CustomOps
    from edge_sdk.errors import EdgeError
    from edge_sdk.planner import Plan
    from edge_sdk.report import Report
    from edge_sdk.session import Session, load
    from edge_sdk.tensors import TensorSpec
    from edge_sdk.wire.address import EndpointAddress

__version__ = "0.1.0"

_HOMES = {
    "AcceleratorFallback": "edge_sdk.activation",
    "CustomOps": "edge_sdk.engines.base",
    "Device": "edge_sdk.device",
    "EdgeError": "edge_sdk.errors",
    "EndpointAddress": "edge_sdk.wire.address",
    "Plan": "edge_sdk.planner",
    "Report": "edge_sdk.report",
    "Session": "edge_sdk.session",
    "TensorSpec": "edge_sdk.tensors",
    "load": "edge_sdk.session",
    "probe": "edge_sdk.device",
}

__all__ = [
    "AcceleratorFallback",
    "CustomOps",
    "Device",
    "EdgeError",
    "EndpointAddress",
    "Plan",
    "Report",
    "Session",
    "TensorSpec",
    "__version__",
    "load",
    "probe",
]


def __getattr__(name: str) -> Any:
    """Public names come in on first use, so that importing the package costs next to nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
