"""The logical signature of a model, and how a variant's own tensors map to it.

All variants of a bundle answer to one signature: the same names, shapes, layouts and dtypes for the caller, whatever
the file behind it calls them and however it lays them out.

`extra` of each object holds the `x-…` keys of a bundle's manifest, which are free and kept as they are.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["LogicalTensor", "Mapping", "Signature", "TensorMapping"]


class LogicalTensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An input or output as the caller sees it.

    Attributes:
        name: what the caller feeds it by.
        dtype: "float32", "uint8", …
        shape: sizes; a name or None where open; None as a whole where even the rank is open.
        layout: "NCHW", "NHWC" or None where it is no picture.
        meaning: one line for people.
        scale, zero_point: per-tensor quantisation where the dtype is an integer that stands for a real number:
            real = scale * (stored - zero_point).
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None = None
    layout: str | None = None
    meaning: str = ""
    scale: float | None = None
    zero_point: int | None = None
    extra: dict[str, Any] = {}


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the model takes and gives.

    Attributes:
        labels: class names by index, where the bundle knows them.
        preprocessing, postprocessing: how a picture or sound becomes the input, and the output an answer: key to value
            as the flags of `edge-sdk run` have them ("mean", "std", "layout", "colors", "decoder", …).
    """

    inputs: tuple[LogicalTensor, ...]
    outputs: tuple[LogicalTensor, ...]
    labels: tuple[str, ...] = ()
    preprocessing: dict[str, str] = {}
    postprocessing: dict[str, str] = {}
    extra: dict[str, Any] = {}


class TensorMapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one logical tensor travels to or from one tensor of a variant.

    Attributes:
        name: the logical tensor.
        tensor: the variant's tensor.
        transpose: axes of the logical tensor in the variant's order (NCHW to NHWC: 0, 2, 3, 1); None where equal.
        shape: the variant's own shape where it is a reshape of the (transposed) logical one, such as a dropped axis of
            size 1; -1 for at most one open size; None where equal.
        dtype: the variant's where it is not the logical one; None where equal.
        scale, zero_point: of the variant's tensor where it stores real numbers as integers:
            real = scale * (stored - zero_point).
    """

    name: str
    tensor: str
    transpose: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    scale: float | None = None
    zero_point: int | None = None
    extra: dict[str, Any] = {}


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A variant's whole mapping. A logical tensor that is not named here has the same name and form in the variant."""

    inputs: tuple[TensorMapping, ...] = ()
    outputs: tuple[TensorMapping, ...] = ()
    extra: dict[str, Any] = {}
