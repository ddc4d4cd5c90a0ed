"""From a chosen plan to a session that uses endpoints: pinned where the caller says how, else planned and followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.offloading.asked import WAYS, Offload, offload_of
    from edge_sdk.offloading.pinned import figures_of, split_runner

__all__ = ["WAYS", "Offload", "figures_of", "offload_of", "split_runner"]

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.offloading.asked": ("WAYS", "Offload", "offload_of"),
        "edge_sdk.offloading.pinned": ("figures_of", "split_runner"),
    },
)
