"""The deployable: a manifest and its variants, as a folder `NAME.edge` or the same folder as one zip.

bundle = edge_sdk.bundle.open("digits.edge")
file = bundle.open_variant("int8-static")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.bundle.limits import Limits
    from edge_sdk.bundle.manifest import Accuracy, BundleFile, Cut, Latency, Manifest, Variant
    from edge_sdk.bundle.manifest_json import BundleWarning
    from edge_sdk.bundle.reading import Answer, Bundle, Golden, is_bundle
    from edge_sdk.bundle.reading import open_bundle as open
    from edge_sdk.bundle.writing import copy, create, update

_HOMES = {
    "limits": ("Limits",),
    "manifest": ("Accuracy", "BundleFile", "Cut", "Latency", "Manifest", "Variant"),
    "manifest_json": ("BundleWarning",),
    "reading": ("Answer", "Bundle", "Golden", "is_bundle", "open"),
    "writing": ("copy", "create", "update"),
}

__all__ = [
    "Accuracy",
    "Answer",
    "Bundle",
    "BundleFile",
    "BundleWarning",
    "Cut",
    "Golden",
    "Latency",
    "Limits",
    "Manifest",
    "Variant",
    "copy",
    "create",
    "is_bundle",
    "open",
    "update",
]


def __getattr__(name: str) -> Any:
    """Names come in on first use: a device that reads bundles never loads what writes them."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), "open_bundle" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
