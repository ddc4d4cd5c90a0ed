"""What the inputs and outputs of a TFLite model are called, whichever engine runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from edge_sdk.formats.info import Signature
from edge_sdk.tensors import TensorSpec

__all__ = ["named_specs"]


def named_specs(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], signatures: Sequence[Signature]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs in the file's order, each under a name of its own.

    Where the file has exactly one signature and that runs the main graph, its names count, since these are what its
    author chose; otherwise the names of the tensors. The second of two equal names gets "#2" behind it.
    """
    if len(signatures) == 1 and signatures[0].subgraph == 0:
        inputs = _renamed(inputs, signatures[0].inputs)
        outputs = _renamed(outputs, signatures[0].outputs)
    return _told_apart(inputs), _told_apart(outputs)


def _renamed(specs: Sequence[TensorSpec], names: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    chosen: dict[str, list[str]] = {}
    for name, tensor in names.items():
        chosen.setdefault(tensor, []).append(name)
    renamed = []
    for spec in specs:
        left = chosen.get(spec.name)
        renamed.append(dataclasses.replace(spec, name=left.pop(0)) if left else spec)
    return tuple(renamed)


def _told_apart(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    used: set[str] = set()
    unique = []
    for spec in specs:
        name, number = spec.name, 1
        while name in used:
            number += 1
            name = f"{spec.name}#{number}"
        used.add(name)
        unique.append(spec if name == spec.name else dataclasses.replace(spec, name=name))
    return tuple(unique)
