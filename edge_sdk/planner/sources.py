"""From what a caller names (a path, bytes, a bundle) to the variants there are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Union

from edge_sdk.errors import ModelNotFound
from edge_sdk.formats import open_model
from edge_sdk.planner.variants import Variant, variant_of_file

if TYPE_CHECKING:
    from edge_sdk.bundle import Bundle

__all__ = ["ModelSource", "open_variants"]

ModelSource = Union[str, os.PathLike[str], bytes, "Bundle"]


def open_variants(source: ModelSource, only: str | None = None) -> tuple[str, tuple[Variant, ...]]:
    """Name of the model and its variants, in the bundle's order.

    Args:
        source: what the caller named.
        only: the name of the one variant of a bundle that is wanted.

    Raises:
        ModelError: it is no model and no bundle, or damaged, or has no variant of that name.
    """
    bundle = _bundle_of(source)
    if bundle is None:
        assert isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview))
        file = open_model(source)
        if only is not None:
            raise ModelNotFound(
                f"{file.name}: is a model file and has no variant {only!r}; expected a bundle NAME.edge"
            )
        return file.name, (variant_of_file(file),)
    from edge_sdk.planner.bundled import variants_of_bundle

    return bundle.name, variants_of_bundle(bundle, only)


def _bundle_of(source: ModelSource) -> Bundle | None:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return None
    if isinstance(source, (str, os.PathLike)):
        from edge_sdk import bundle

        return bundle.open(source) if bundle.is_bundle(source) else None
    return source
