"""The flags of every verb that asks endpoints: what this device shows them, and whom it trusts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge_sdk.cli.plain import plain

if TYPE_CHECKING:
    from edge_sdk.wire.address import EndpointAddress

__all__ = ["TOKEN_VARIABLE", "add_credentials", "endpoint_addresses"]

TOKEN_VARIABLE = "EDGE_SDK_TOKEN"


def add_credentials(group: argparse._ActionsContainer) -> None:
    """Adds the flags. A token is never one: every user of the machine can read the arguments of a command."""
    group.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help=f"holds the bearer token for the endpoints; ${TOKEN_VARIABLE} without it",
    )
    group.add_argument("--ca", metavar="FILE", type=Path, help="certificates to trust instead of the system's, PEM")
    group.add_argument("--client-cert", metavar="FILE", type=Path, help="this device's certificate, PEM")
    group.add_argument(
        "--client-key", metavar="FILE", type=Path, help="its key, PEM, without a pass phrase; may be in --client-cert"
    )


def endpoint_addresses(urls: Sequence[str], arguments: argparse.Namespace) -> list[EndpointAddress]:
    """The endpoints at `urls`, each with the token and, where it is an https one, the certificates that were given.

    Raises:
        InputError: an address or a file cannot be used, or there is no endpoint that a flag could be for.
    """
    given = {
        "--token-file": arguments.token_file,
        "--ca": arguments.ca,
        "--client-cert": arguments.client_cert,
        "--client-key": arguments.client_key,
    }
    flags = [flag for flag, value in given.items() if value is not None]
    if not urls and not flags:
        return []
    from edge_sdk.errors import InputError
    from edge_sdk.wire.address import EndpointAddress, read_token

    if not urls:
        raise InputError(f"{flags[0]} is given without an endpoint; expected --endpoint URL")
    token = os.environ.get(TOKEN_VARIABLE) or None
    if arguments.token_file is not None:
        token = read_token(arguments.token_file)
    files = {"ca": arguments.ca, "cert": arguments.client_cert, "key": arguments.client_key}
    addresses = []
    for url in urls:
        encrypted = EndpointAddress(url).encrypted
        if token is not None and not encrypted and not _here(url):
            told = f"the token travels to {url} as plain text; use https"
            print(f"edge-sdk: warning: {plain(told)}", file=sys.stderr)
        addresses.append(EndpointAddress(url, token=token, **files if encrypted else {}))
    if any(files.values()) and not any(address.encrypted for address in addresses):
        raise InputError(f"{flags[-1]} is for https, but no endpoint has such an address")
    return addresses


def _here(url: str) -> bool:
    """Whether an address is of this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
