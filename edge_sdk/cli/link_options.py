"""The flags of `edge-sdk plan` that let endpoints and a link into the choice."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.cli.endpoint_options import add_credentials, endpoint_addresses
from edge_sdk.cli.numbers import number, whole
from edge_sdk.cli.request_files import requests_of

if TYPE_CHECKING:
    from edge_sdk.offloading import Offload

__all__ = ["add_link_options", "asked_offload", "asks_for_link"]

_WAYS = ("local", "split", "offload", "cascade")
_SPEED = 4.0


def add_link_options(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    group = parser.add_argument_group("over a link", "where a part of the model, or all of it, may run elsewhere")
    group.add_argument(
        "--link", metavar="LINK", help="plan for this link: 10mbit,40ms,1%% or 20mbit/5mbit,40ms (down/up, round trip)"
    )
    group.add_argument(
        "--endpoint", metavar="URL", action="append", default=[], help="ask this endpoint how fast it is; repeatable"
    )
    group.add_argument("--endpoint-model", metavar="NAME", help="what the endpoint calls the model")
    group.add_argument(
        "--endpoint-speed", metavar="TIMES", type=number(1e6, "how many times as fast", zero=False),
        help=f"without --endpoint: how many times as fast as this device it is ({_SPEED:g})",
    )  # fmt: skip
    group.add_argument(
        "--ways", metavar="KIND", nargs="+", choices=_WAYS, help=f"kinds of plans to choose among: {', '.join(_WAYS)}"
    )
    group.add_argument("--keep-input-local", action="store_true", help="the model's input must not leave the device")
    group.add_argument("--max-bytes", metavar="BYTES", type=whole(0), help="what one request may send")
    group.add_argument(
        "--max-leakage", metavar="SHARE", type=number(1.0, "a share"),
        help="how much of the input a linear decoder may rebuild from what travels, from 0 to 1",
    )  # fmt: skip
    group.add_argument("--radio", choices=("wifi", "lte", "3g", "wired"), help="what the link goes over (wifi)")
    group.add_argument(
        "--data", nargs="+", type=Path, default=[], metavar="NPZ", help="requests to measure heads and codecs with"
    )
    group.add_argument("--report", metavar="HTML", type=Path, help="write a page: latency against bandwidth, and why")
    add_credentials(group)


def asks_for_link(arguments: argparse.Namespace) -> bool:
    """Whether anything but this device is to be planned for.

    Raises:
        InputError: a flag is given that says nothing without a link or an endpoint.
    """
    if arguments.link is not None or arguments.endpoint:
        return True
    from edge_sdk.errors import InputError

    given = {
        "--endpoint-model": arguments.endpoint_model,
        "--endpoint-speed": arguments.endpoint_speed,
        "--ways": arguments.ways,
        "--keep-input-local": arguments.keep_input_local or None,
        "--max-bytes": arguments.max_bytes,
        "--max-leakage": arguments.max_leakage,
        "--radio": arguments.radio,
        "--data": arguments.data or None,
        "--report": arguments.report,
    }
    useless = [flag for flag, value in given.items() if value is not None]
    if useless:
        raise InputError(f"{useless[0]} is given without a link: expected --link 10mbit,40ms or --endpoint URL")
    return False


def asked_offload(arguments: argparse.Namespace) -> Offload:
    """What the flags ask for. Endpoints in it are open, and closed by whoever plans.

    Raises:
        InputError: a flag does not fit.
    """
    from edge_sdk.errors import InputError
    from edge_sdk.offloading import WAYS, Offload, offload_of
    from edge_sdk.wire.link_spec import parse_link

    if arguments.endpoint and arguments.endpoint_speed is not None:
        raise InputError("--endpoint-speed is given with --endpoint, which tells how fast it is itself; leave one out")
    link = None if arguments.link is None else parse_link(arguments.link)
    data = requests_of(arguments.data)
    addresses = endpoint_addresses(arguments.endpoint, arguments)
    if addresses:
        made = offload_of(addresses, endpoint_model=arguments.endpoint_model, data=data)
    else:
        made = None
    made = made or Offload((), (), None, arguments.endpoint_model, None, data=tuple(data))
    return replace(
        made,
        ways=frozenset(arguments.ways or WAYS),
        keep_input_local=arguments.keep_input_local,
        max_bytes=arguments.max_bytes,
        max_leakage=arguments.max_leakage,
        radio=arguments.radio or "wifi",
        link=link,
        speed=arguments.endpoint_speed or _SPEED,
    )
