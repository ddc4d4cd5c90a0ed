"""What tracing a model's channels finds: units, the weights that shrink with them, who makes and who mixes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_sdk.tensors import Array

__all__ = ["Channels", "Cut", "Producer", "Reader"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A weight that shrinks with its channels.

    Attributes:
        weight: name of the initialiser.
        axis: along which.
        units: unit of each index: int64[size].
    """

    weight: str
    axis: int
    units: Array


@dataclass(frozen=True, slots=True)
class Producer:
    """A layer that makes units: a convolution, or a matrix product.

    Attributes:
        node: the layer.
        weight, axis: where its outputs lie in its weights.
        units: int64[outputs].
    """

    node: Any
    weight: str
    axis: int
    units: Array


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer that mixes units.

    Attributes:
        node: the layer.
        weight, axis: where its inputs lie in its weights.
        units: int64[inputs].
        made: the units it makes: int64[outputs].
    """

    node: Any
    weight: str
    axis: int
    units: Array
    made: Array


@dataclass(slots=True)
class Channels:
    """What was traced.

    Attributes:
        producers, readers: in the order they run.
        cuts: all weights that shrink, those of producers and readers among them.
        grouped: depthwise convolutions and the units of their outputs: their `group` shrinks.
        flattened: Reshape nodes that only flatten; their fixed sizes must go.
        splits: Split nodes along the channels, and the units of each output.
        held: units that must stay.
    """

    producers: list[Producer] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    grouped: list[tuple[Any, Array]] = field(default_factory=list)
    flattened: list[Any] = field(default_factory=list)
    splits: list[tuple[Any, list[Array]]] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    parents: list[int] = field(default_factory=list)

    def root(self, unit: int) -> int:
        """The unit that stands for all it is tied to."""
        while self.parents[unit] != unit:
            self.parents[unit] = self.parents[self.parents[unit]]
            unit = self.parents[unit]
        return unit

    def roots(self, units: Array) -> Array:
        """`root` of each."""
        return np.array([self.root(int(unit)) for unit in units], dtype=np.int64)

    def free(self) -> set[int]:
        """Roots that may go."""
        held = {self.root(unit) for unit in self.held}
        made = {self.root(int(unit)) for producer in self.producers for unit in producer.units}
        return made - held
