"""From one model to a bundle: convert, make variants, judge and time them, write what holds the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.building.conversion import Converted, convert
    from edge_sdk.building.report import write_report
    from edge_sdk.building.result import BuildResult, VariantRow
    from edge_sdk.building.workflow import Reading, build

__all__ = ["BuildResult", "Converted", "Reading", "VariantRow", "build", "convert", "write_report"]

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.building.conversion": ("Converted", "convert"),
        "edge_sdk.building.report": ("write_report",),
        "edge_sdk.building.result": ("BuildResult", "VariantRow"),
        "edge_sdk.building.workflow": ("Reading", "build"),
    },
)
