"""A tensor that travels as a picture or sound file in place of its raw bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from edge_sdk.tensors import Array

__all__ = ["CODING", "Encoded", "Feed"]

CODING = "edge_coding"
"""The parameter of a tensor's head that names the coding: an extension of ours."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What stands in the place of an array.

    Attributes:
        content: the file.
        datatype: of the tensor once decoded, as the protocol spells it ("UINT8").
        shape: of the tensor once decoded.
        coding: "jpeg@Q", "webp@Q" or "flac", see `edge_sdk.offload.input_coding`.
    """

    content: bytes
    datatype: str
    shape: tuple[int, ...]
    coding: str

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return len(self.content)


Feed: TypeAlias = Array | Encoded
"""What an endpoint is given for an input."""
