"""What `edge-sdk run` must know before a model or bundle is loaded: tensors, labels, how a picture becomes input."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_sdk.cli.run_options import PICTURE_SETTINGS
from edge_sdk.errors import InvalidManifest
from edge_sdk.tensors import Quantization, TensorSpec

if TYPE_CHECKING:
    from edge_sdk.bundle import Bundle
    from edge_sdk.signature import LogicalTensor

__all__ = ["Described", "describe"]


@dataclass(frozen=True, slots=True)
class Described:
    """A model or bundle as its file tells it.

    Attributes:
        inputs: what must be fed.
        outputs: what comes back.
        labels: names of the classes, where a bundle brings them.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()


def describe(arguments: argparse.Namespace) -> Described:
    """Reads `arguments.model`. What a bundle says of pictures stands in for the flags that were not given.

    Raises:
        ModelError: it is no model and no bundle, or damaged.
    """
    from edge_sdk import bundle
    from edge_sdk.formats import open_model

    if bundle.is_bundle(arguments.model):
        with bundle.open(arguments.model) as opened:
            return _of_bundle(opened, arguments)
    with open_model(arguments.model) as model:
        info = model.describe()
        inputs = tuple(spec for spec in info.inputs if spec.name not in info.initializer_inputs)
        return Described(model.name, inputs, tuple(info.outputs))


def _of_bundle(opened: Bundle, arguments: argparse.Namespace) -> Described:
    signature = opened.signature
    for name, text in signature.preprocessing.items():
        if name in PICTURE_SETTINGS and getattr(arguments, name) is None:
            setattr(arguments, name, _setting(opened.name, name, text))
    return Described(opened.name, _specs(signature.inputs), _specs(signature.outputs), signature.labels)


def _setting(bundle: str, name: str, text: str) -> object:
    try:
        return PICTURE_SETTINGS[name](text)
    except argparse.ArgumentTypeError as error:
        raise InvalidManifest(f"{bundle}: signature.preprocessing.{name}: {error}") from None


def _specs(tensors: Sequence[LogicalTensor]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            tensor.name,
            tensor.dtype,
            tensor.shape,
            quantization=None if tensor.scale is None else Quantization((tensor.scale,), (tensor.zero_point or 0,)),
        )
        for tensor in tensors
    )
