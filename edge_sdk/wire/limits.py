"""What reading one body may cost."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that a body is checked against before anything is made of it.

    Attributes:
        max_body_bytes: of a body, expanded where it travelled compressed.
        max_json_bytes: of its JSON head. Tensors sent as JSON are in it, and take up to 16 times that in memory.
        max_json_depth: of objects and arrays inside each other.
        max_tensors: in one body.
        max_rank: dimensions of one tensor.
        max_elements: of all BYTES tensors in one body, since each element becomes an object of its own.
    """

    max_body_bytes: int = 256 * 2**20
    max_json_bytes: int = 16 * 2**20
    max_json_depth: int = 40
    max_tensors: int = 1024
    max_rank: int = 32
    max_elements: int = 2**20
