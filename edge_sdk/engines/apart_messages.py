"""What a process and the one that runs an accelerator for it say to each other."""

from __future__ import annotations

import msgspec

from edge_sdk.engines.base import LoadOptions, PlacementReport
from edge_sdk.engines.shared_tensors import TensorPlace
from edge_sdk.tensors import TensorSpec

__all__ = ["MOST_BYTES", "Answer", "Compute", "Failure", "FromChild", "Loaded", "Task", "ToChild", "WhereAreYou"]

MOST_BYTES = 1 << 20
"""Of one message: tensors do not travel in it."""


class Task(msgspec.Struct, frozen=True):
    """What the child is for. Numbers of file descriptors are those that it inherits.

    Attributes:
        options: how to load it, without what the parent watches it by.
        control: the socket.
        tensors: the memory for tensors.
        content: the model, where it has no path; -1 otherwise.
        lifeline: a pipe whose other end only the parent has.
        words: where what the driver prints goes.
    """

    engine: str
    name: str
    path: str | None
    options: LoadOptions
    control: int
    tensors: int
    content: int
    lifeline: int
    words: int


class Compute(msgspec.Struct, frozen=True, tag="compute"):
    """A request: where its tensors lie, and where those of the answer go."""

    tensors: tuple[TensorPlace, ...]
    answer_at: int


class WhereAreYou(msgspec.Struct, frozen=True, tag="where"):
    """Asks for the placement."""


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is loaded; or, in answer to `WhereAreYou`, where it computes."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[str, ...]
    notes: tuple[str, ...]
    placement: PlacementReport


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """Where the outputs lie."""

    tensors: tuple[TensorPlace, ...]


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """An error: of the input, of memory, of the accelerator, or of the engine."""

    kind: str
    message: str


ToChild = Compute | WhereAreYou
FromChild = Loaded | Answer | Failure
