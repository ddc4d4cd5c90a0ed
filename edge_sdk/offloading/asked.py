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
    from edge_sdk.wire.link_estimate import LinkEstimate

__all__ = ["CONTENT_CODINGS", "WAYS", "Offload", "offload_of"]

CONTENT_CODINGS = ("deflate", "zstd")
"""Of whole bodies; other codings are of single inputs."""
WAYS = ("local", "split", "offload", "cascade")
"""Kinds of plans that the planner chooses among."""


@dataclass(frozen=True, slots=True)
class Offload:
    """Where the tail may run, and where the model is cut.

    Attributes:
        endpoints: in order of preference while nothing is known of their links.
        owned: those of them that were made here, and are closed with the session.
        cut: id of a cut, name of a tensor, or names of several. Where only a codec is given, the cut with the fewest
            bytes of those that leave at least half of the work to the tail.
        model: name of the whole model at the endpoints; as it is called here where None.
        deadline_ms: of each request; None for none.
        codec: how the cut's tensors travel, one of `CODECS`; "none" where only a cut is given.
        coding: how their bytes are packed: "none", "deflate", "zstd"; of inputs "jpeg@75", "webp@75", "flac".
        data: requests as the session takes them, for the ranges of "int8" and to compare a codec's answers on.
        ways: kinds of plans that may be chosen; with a cut that is named there is nothing to choose.
        keep_input_local: no input of the model may leave the device.
        max_bytes: that a request may send; None for any.
        max_leakage: share of the input's variance that what travels may give away; None for any.
        radio: what the link goes over, for its energy.
        link: a link to plan for instead of what each really is; None to go by the real ones.
        speed: without endpoints: how many times as fast as this device the one is that is planned for.
    """

    endpoints: tuple[Endpoint, ...]
    owned: tuple[Endpoint, ...]
    cut: str | tuple[str, ...] | None
    model: str | None
    deadline_ms: float | None
    codec: str | None = None
    data: tuple[Feeds, ...] = ()
    coding: str = "none"
    ways: frozenset[str] = frozenset(WAYS)
    keep_input_local: bool = False
    max_bytes: int | None = None
    max_leakage: float | None = None
    radio: str = "wifi"
    link: LinkEstimate | None = None
    speed: float = 1.0

    @property
    def pinned(self) -> bool:
        """Whether the caller said where to cut, or how the cut's tensors travel: then there is nothing to plan."""
        return self.cut is not None or self.codec is not None


def offload_of(
    endpoints: Sequence[str | EndpointAddress | Endpoint],
    *,
    cut: str | Sequence[str] | None = None,
    endpoint_model: str | None = None,
    deadline_ms: float | None = None,
    codec: str | None = None,
    data: Sequence[Feeds] = (),
    ways: Sequence[str] | None = None,
    keep_input_local: bool = False,
    max_bytes: int | None = None,
    max_leakage: float | None = None,
    radio: str | None = None,
    coding: str | None = None,
) -> Offload | None:
    """What `load` was asked for; None where there are no endpoints.

    Raises:
        InputError: an address cannot be used, an argument does not fit, or one is given that says nothing without
            endpoints.
    """
    if isinstance(endpoints, str):
        raise InputError(f"endpoints is {endpoints!r}; expected a list of addresses, as [{endpoints!r}]")
    if not endpoints:
        given = {
            "cut": cut,
            "endpoint_model": endpoint_model,
            "deadline_ms": deadline_ms,
            "codec": codec,
            "coding": coding,
            "data": data or None,
            "ways": ways,
            "keep_input_local": keep_input_local or None,
            "max_bytes": max_bytes,
            "max_leakage": max_leakage,
            "radio": radio,
        }
        useless = [name for name, value in given.items() if value is not None]
        if useless:
            raise InputError(f"{useless[0]} is given without endpoints: expected endpoints=['http://HOST:PORT']")
        return None
    if deadline_ms is not None and not deadline_ms > 0:
        raise InputError(f"deadline_ms is {deadline_ms!r}; expected milliseconds, above 0")
    from edge_sdk.graph.codec import CODECS
    from edge_sdk.offload.input_coding import check_coding
    from edge_sdk.planner.radio import radio_named
    from edge_sdk.wire.address import EndpointAddress
    from edge_sdk.wire.endpoint import Endpoint

    if codec is not None and codec not in CODECS:
        raise InputError(f"codec is {codec!r}; expected one of {', '.join(CODECS)}")
    if coding is not None:
        if cut is None and codec is None:
            raise InputError(f"coding {coding!r} is given without a cut or codec; expected both, or neither")
        if coding not in ("none", *CONTENT_CODINGS):
            check_coding(coding)
    kinds = _kinds(ways)
    if max_bytes is not None and not max_bytes >= 0:
        raise InputError(f"max_bytes is {max_bytes!r}; expected a number of bytes, 0 or more")
    if max_leakage is not None and not 0 <= max_leakage <= 1:
        raise InputError(f"max_leakage is {max_leakage!r}; expected a share from 0 to 1")
    if radio is not None:
        radio_named(radio)
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
    return Offload(
        tuple(places),
        tuple(owned.values()),
        wanted,
        endpoint_model,
        deadline_ms,
        codec=codec,
        data=tuple(data),
        coding=coding or "none",
        ways=kinds,
        keep_input_local=keep_input_local,
        max_bytes=max_bytes,
        max_leakage=max_leakage,
        radio=radio or "wifi",
    )


def _kinds(ways: Sequence[str] | None) -> frozenset[str]:
    if ways is None:
        return frozenset(WAYS)
    if isinstance(ways, str) or not ways or not set(ways) <= set(WAYS):
        raise InputError(f"ways is {ways!r}; expected some of {', '.join(WAYS)}, as a list")
    return frozenset(ways)
