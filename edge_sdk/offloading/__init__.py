"""From a chosen plan to a session that uses endpoints: pinned where the caller says how, else planned and followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.offloading.asked import WAYS, Offload, offload_of
    from edge_sdk.offloading.automatic import Automatic
    from edge_sdk.offloading.figures import EndpointFigures, endpoint_figures, figures_of
    from edge_sdk.offloading.pinned import samples_of, split_runner
    from edge_sdk.offloading.places import Places
    from edge_sdk.offloading.table import WaysTable

__all__ = [
    "WAYS",
    "Automatic",
    "EndpointFigures",
    "Offload",
    "Places",
    "WaysTable",
    "endpoint_figures",
    "figures_of",
    "offload_of",
    "samples_of",
    "split_runner",
]

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.offloading.asked": ("WAYS", "Offload", "offload_of"),
        "edge_sdk.offloading.automatic": ("Automatic",),
        "edge_sdk.offloading.figures": ("EndpointFigures", "endpoint_figures", "figures_of"),
        "edge_sdk.offloading.pinned": ("samples_of", "split_runner"),
        "edge_sdk.offloading.places": ("Places",),
        "edge_sdk.offloading.table": ("WaysTable",),
    },
)
