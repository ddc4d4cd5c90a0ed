"""What an endpoint is to a device: the seam behind which HTTP, its simulated twin and later transports stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_sdk.breaker import Breaker
from edge_sdk.errors import EndpointMismatch, InvalidAnswer
from edge_sdk.tensors import Array, TensorSpec
from edge_sdk.wire.deadline import NO_DEADLINE, Deadline
from edge_sdk.wire.encoded import Feed
from edge_sdk.wire.link import Link
from edge_sdk.wire.load import Load
from edge_sdk.wire.overdue import Transfer

__all__ = ["BUNDLE", "Answer", "Endpoint", "ModelMetadata", "TailIdentity", "check_answer"]

BUNDLE, CUT, CODEC = "edge_bundle", "edge_cut", "edge_codec"


@dataclass(frozen=True, slots=True)
class TailIdentity:
    """Which tail is meant. It travels as parameters of the model's metadata, and of answers where the endpoint is ours.

    Attributes:
        bundle: digest of the bundle, or of the model file, that the tail was made from.
        cut: id of the cut.
        codec: how the cut's tensors travel, `edge_sdk.graph.codec.coding_mark`.
    """

    bundle: str
    cut: str
    codec: str = "none"

    def parameters(self) -> dict[str, str]:
        """As parameters of the protocol."""
        return {BUNDLE: self.bundle, CUT: self.cut, CODEC: self.codec}

    def check(self, parameters: Mapping[str, Any], where: str, required: bool = True) -> None:
        """Refuses another tail.

        Args:
            parameters: those of the model's metadata or of an answer.
            where: what the message calls the model.
            required: whether parameters that do not tell are refused too.

        Raises:
            EndpointMismatch: names what differs.
        """
        for key, meant in self.parameters().items():
            found = parameters.get(key)
            if found is None and not required:
                continue
            if found != meant:
                told = "is not told" if found is None else f"is {str(found)[:80]!r}"
                raise EndpointMismatch(f"{where}: {key} {told}, expected {meant!r}; deploy this tail there")


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What an endpoint tells of a model (Open Inference Protocol v2, `GET /v2/models/NAME`).

    Attributes:
        datatypes: of inputs and outputs by name, as the protocol spells them ("FP32").
        shapes: of inputs and outputs by name; -1 for an open size.
        parameters: an extension; empty where the endpoint has none.
    """

    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    datatypes: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        outputs: arrays by name; read-only, and nobody writes to them later.
        model_version: as the endpoint tells.
        parameters: of the answer.
        size_bytes: bodies of request and answer together, as they travelled.
        duration_ms: from the first byte sent to the last one received, the last try only.
    """

    outputs: dict[str, Array]
    model_version: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    duration_ms: float = 0.0


class Endpoint(ABC):
    """A place that runs models. Any number of threads may call at once.

    Attributes:
        name: for messages: its address.
        link: what the way there is like.
        load: what the endpoint itself takes, by model.
        breaker: whether it may be asked.
    """

    name: str
    link: Link
    load: Load
    breaker: Breaker

    @abstractmethod
    def infer(
        self,
        model: str,
        feeds: Mapping[str, Feed],
        *,
        outputs: Sequence[str] | None = None,
        version: str = "",
        deadline: Deadline = NO_DEADLINE,
        identity: TailIdentity | None = None,
        expected: Sequence[TensorSpec] | None = None,
        refuse_nan: bool = False,
        transfer: Transfer | None = None,
        content_coding: str = "",
    ) -> Answer:
        """Runs `model` there once.

        Args:
            model: its name there.
            feeds: arrays by input name, or what stands in their place where the endpoint decodes it.
            outputs: which ones are wanted; None for all.
            version: of the model; "" for the one that the endpoint's policy chooses.
            deadline: it travels with the request, which is ended here when it passes.
            identity: refuse the model if it is another tail than this.
            expected: refuse an answer that does not fit these outputs.
            refuse_nan: refuse an answer that holds NaN.
            content_coding: of the request's body: "deflate" or "zstd"; "" for the endpoint's own.
            transfer: through which another thread may give the request up. Then the endpoint goes on to connect, beyond
                the deadline too: nobody waits for that, and the next request finds the way ready.

        Raises:
            DeadlineExceeded: no answer in time.
            EndpointResting: its breaker is open, nothing was sent.
            EndpointUnreachable: no connection, or it broke, on every try.
            EndpointRefused: it answered with an error.
            EndpointMismatch: the model there is another tail.
            InvalidAnswer: the answer is broken, or does not fit `expected`.
        """

    @abstractmethod
    def metadata(self, model: str, *, version: str = "", deadline: Deadline = NO_DEADLINE) -> ModelMetadata:
        """What the endpoint tells of a model.

        Raises:
            DeadlineExceeded, EndpointError: as for `infer`.
        """

    @abstractmethod
    def probe(self, up_bytes: int = 0, down_bytes: int = 0, *, deadline: Deadline = NO_DEADLINE) -> bool:
        """One exchange that only teaches `link`: meaningless bytes there and back, or none for the round trip alone.

        Args:
            up_bytes: to send.
            down_bytes: to fetch.
            deadline: of the exchange.

        Returns:
            Whether the bytes travelled: only endpoints of ours take them, of any other the round trip is measured.

        Raises:
            DeadlineExceeded, EndpointError: as for `infer`.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes its connections. Idempotent; requests on their way end by themselves."""


def check_answer(
    outputs: Mapping[str, Array], expected: Sequence[TensorSpec], where: str, refuse_nan: bool = False
) -> None:
    """Refuses an answer that the model cannot have given.

    Args:
        outputs: arrays by name.
        expected: outputs that must be there; fixed sizes must agree, open ones may be any.
        where: what the message calls the model.
        refuse_nan: whether NaN in `expected` outputs is refused; infinity never is, since models mask with it.

    Raises:
        InvalidAnswer: names the output, what it is and what was expected.
    """
    for spec in expected:
        array = outputs.get(spec.name)
        if array is None:
            given = ", ".join(repr(name) for name in outputs) or "none"
            raise InvalidAnswer(f"{where}: the answer lacks output {spec.name!r}; it has: {given}")
        dtype = spec.numpy_dtype
        fits = dtype is None or array.dtype == dtype
        if spec.shape is not None:
            fits = fits and len(spec.shape) == array.ndim
            fits = fits and all(not isinstance(d, int) or d == n for d, n in zip(spec.shape, array.shape, strict=False))
        if not fits:
            found = f"{array.dtype.name}{list(array.shape)}"
            raise InvalidAnswer(f"{where}: output {spec.name!r} came as {found}, expected {spec.describe()}")
        # The minimum of an array with NaN is NaN: no mask as large as the array is needed.
        if refuse_nan and array.dtype.kind == "f" and array.size and np.isnan(np.min(array)):
            raise InvalidAnswer(f"{where}: output {spec.name!r} holds NaN")
