"""The deployable: a manifest and its variants, as a folder `NAME.edge` or the same folder as one zip.

bundle = edge_sdk.bundle.open("digits.edge")
file = bundle.open_variant("int8-static")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.bundle.limits import Limits
    from edge_sdk.bundle.manifest import Accuracy, BundleFile, Cascade, Cut, CutCodec, Latency, Manifest, Variant
    from edge_sdk.bundle.manifest_json import BundleWarning
    from edge_sdk.bundle.reading import Answer, Bundle, Golden, is_bundle
    from edge_sdk.bundle.reading import open_bundle as open
    from edge_sdk.bundle.writing import copy, create, update

__all__ = [
    "Accuracy",
    "Answer",
    "Bundle",
    "BundleFile",
    "BundleWarning",
    "Cascade",
    "Cut",
    "CutCodec",
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

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.bundle.limits": ("Limits",),
        "edge_sdk.bundle.manifest": (
            "Accuracy",
            "BundleFile",
            "Cascade",
            "Cut",
            "CutCodec",
            "Latency",
            "Manifest",
            "Variant",
        ),
        "edge_sdk.bundle.manifest_json": ("BundleWarning",),
        "edge_sdk.bundle.reading": ("Answer", "Bundle", "Golden", "is_bundle", "open"),
        "edge_sdk.bundle.writing": ("copy", "create", "update"),
    },
    renamed={"open": "open_bundle"},
)
