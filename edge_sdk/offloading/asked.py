"""What `load` was asked for beside the device: endpoints, and how far the planner may go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_sdk.errors import InputError

if TYPE_CHECKING:
    from edge_sdk.tensors import Feeds
    from edge_sdk.wire.address import EndpointAddress
    from edge_sdk.wire.endpoint import Endpoint

__all__ = ["WAYS", "Offload", "offload_of"]

WAYS = ("local", "split", "offload", "cascade")
"""Kinds of plans that the planner chooses among."""


@dataclass(frozen=True, slots=True)
class Offload:
    """Where the tail may run, and where the model is cut.

    Attributes:
        endpoints: in order of preference while nothing is known of their links.
        owned: those of them that were made here, and are closed with the session.
        cut: id of a cut, name of a tensor, or names of several; where None the cut with the fewest bytes of those that
            leave at least half of the work to the tail.
        model: name of the whole model at the endpoints; as it is called here where None.
        deadline_ms: of each request; None for none.
        codec: how the cut's tensors travel: "none", "fp16" or "int8".
        data: requests as the session takes them, for the ranges of "int8" and to compare a codec's answers on.
    """

    endpoints: tuple[Endpoint, ...]
    owned: tuple[Endpoint, ...]
    cut: str | tuple[str, ...] | None
    model: str | None
    deadline_ms: float | None
    codec: str = "none"
    data: tuple[Feeds, ...] = ()


def offload_of(
    endpoints: Sequence[str | EndpointAddress | Endpoint],
    cut: str | Sequence[str] | None,
    model: str | None,
    deadline_ms: float | None,
    codec: str | None = None,
    data: Sequence[Feeds] = (),
) -> Offload | None:
    """What `load` was asked for; None where there are no endpoints.

    Raises:
        InputError: an address cannot be used, there is no such codec, or a cut, name, deadline, codec or data is given
            without endpoints.
    """
    if isinstance(endpoints, str):
        raise InputError(f"endpoints is {endpoints!r}; expected a list of addresses, as [{endpoints!r}]")
    if not endpoints:
        given = {"cut": cut, "endpoint_model": model, "deadline_ms": deadline_ms, "codec": codec, "data": data or None}
        useless = [name for name, value in given.items() if value is not None]
        if useless:
            raise InputError(f"{useless[0]} is given without endpoints: expected endpoints=['http://HOST:PORT']")
        return None
    if deadline_ms is not None and not deadline_ms > 0:
        raise InputError(f"deadline_ms is {deadline_ms!r}; expected milliseconds, above 0")
    from edge_sdk.graph.codec import CODECS
    from edge_sdk.wire.address import EndpointAddress
    from edge_sdk.wire.endpoint import Endpoint

    if codec is not None and codec not in CODECS:
        raise InputError(f"codec is {codec!r}; expected one of {', '.join(CODECS)}")
    places: list[Endpoint] = []
    owned: dict[EndpointAddress, Endpoint] = {}
    for place in endpoints:
        if isinstance(place, Endpoint):
            places.append(place)
            continue
        address = EndpointAddress(place) if isinstance(place, str) else place
        if not isinstance(address, EndpointAddress):
            raise InputError(
                f"endpoints holds a {type(place).__name__}; expected addresses, EndpointAddress or Endpoint"
            )
        if address not in owned:
            owned[address] = address.open()
        places.append(owned[address])
    wanted = cut if cut is None or isinstance(cut, str) else tuple(cut)
    return Offload(tuple(places), tuple(owned.values()), wanted, model, deadline_ms, codec or "none", tuple(data))
