"""From one model to a bundle: convert, make variants, judge and time them, write what holds the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.building.conversion import Converted, convert
    from edge_sdk.building.report import write_report
    from edge_sdk.building.result import BuildResult, VariantRow
    from edge_sdk.building.workflow import Reading, build

__all__ = ["BuildResult", "Converted", "Reading", "VariantRow", "build", "convert", "write_report"]

_HOMES = {
    "BuildResult": "result",
    "Converted": "conversion",
    "Reading": "workflow",
    "VariantRow": "result",
    "build": "workflow",
    "convert": "conversion",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
