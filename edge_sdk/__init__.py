"""edge-sdk: run any ONNX or TFLite model the best way this device and this network allow, and see why.

import edge_sdk

with edge_sdk.load("model.onnx") as session:
    outputs = session.run({"input": array})
    print(session.plan.reason)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.device import Device, probe
    from edge_sdk.engines.base import CustomOps
    from edge_sdk.engines.guard import AcceleratorFallback, AcceleratorState, Guard
    from edge_sdk.errors import EdgeError
    from edge_sdk.governed import Governed
    from edge_sdk.loading import load
    from edge_sdk.observing.collecting import Metrics
    from edge_sdk.planner import Plan
    from edge_sdk.report import Report
    from edge_sdk.schedule.governor import Target
    from edge_sdk.scheduler import Scheduler
    from edge_sdk.session import Session
    from edge_sdk.tensors import TensorSpec
    from edge_sdk.wire.address import EndpointAddress

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until the program says otherwise

__all__ = [
    "AcceleratorFallback",
    "AcceleratorState",
    "CustomOps",
    "Device",
    "EdgeError",
    "EndpointAddress",
    "Governed",
    "Guard",
    "Metrics",
    "Plan",
    "Report",
    "Scheduler",
    "Session",
    "Target",
    "TensorSpec",
    "__version__",
    "load",
    "probe",
]

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.device": ("Device", "probe"),
        "edge_sdk.engines.base": ("CustomOps",),
        "edge_sdk.engines.guard": ("AcceleratorFallback", "AcceleratorState", "Guard"),
        "edge_sdk.errors": ("EdgeError",),
        "edge_sdk.governed": ("Governed",),
        "edge_sdk.loading": ("load",),
        "edge_sdk.observing.collecting": ("Metrics",),
        "edge_sdk.planner": ("Plan",),
        "edge_sdk.report": ("Report",),
        "edge_sdk.schedule.governor": ("Target",),
        "edge_sdk.scheduler": ("Scheduler",),
        "edge_sdk.session": ("Session",),
        "edge_sdk.tensors": ("TensorSpec",),
        "edge_sdk.wire.address": ("EndpointAddress",),
    },
)
