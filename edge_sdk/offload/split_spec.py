"""What a split is, and how its requests went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from edge_sdk.tensors import TensorSpec
from edge_sdk.wire.endpoint import TailIdentity

__all__ = ["SplitFigures", "SplitSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSpec:
    """What is divided, and how.

    Attributes:
        name: of the whole model, for messages.
        inputs: of the whole model.
        outputs: of the whole model.
        tail: name of the tail at the endpoints.
        travels: what the tail is fed: outputs of the head, or inputs of the model that the tail reads too.
        gives: outputs of the tail. What `outputs` has beside them comes from the head.
        identity: which tail is meant; None to trust the name.
        version: of the tail at the endpoints; "" for what their policy chooses.
        codings: what travels as a picture or sound file, and as which: see `edge_sdk.offload.input_coding`. The local
            tail takes it as it is.
        content_coding: of requests: "", "deflate" or "zstd".
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tail: str
    travels: tuple[str, ...]
    gives: tuple[TensorSpec, ...]
    identity: TailIdentity | None = None
    version: str = ""
    codings: Mapping[str, str] = field(default_factory=dict)
    content_coding: str = ""


class SplitFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How requests went so far.

    Attributes:
        requests: all of them.
        remote: answered by an endpoint.
        local: answered by the local tail.
        hedged: another way was begun beside an endpoint that was late.
        resting: of `local`: no endpoint was asked, since all had failed too often or owed too many answers.
        late: answered after their deadline.
        early: answered by an early exit of the head; no tail was asked.
        beside: copies of requests that went to another endpoint too, to learn what that is like now.
        moved: how often another endpoint became the preferred one.
        failure: why an endpoint last gave no answer; "" where it always did.
    """

    requests: int = 0
    remote: int = 0
    local: int = 0
    hedged: int = 0
    resting: int = 0
    late: int = 0
    early: int = 0
    beside: int = 0
    moved: int = 0
    failure: str = ""
