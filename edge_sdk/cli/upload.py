"""`edge-sdk upload`: a bundle sent to an endpoint, once."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from edge_sdk.cli.endpoint_options import add_credentials, endpoint_addresses
from edge_sdk.cli.numbers import number
from edge_sdk.cli.plain import plain
from edge_sdk.cli.progress import Steps

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Sends a bundle to an endpoint that takes uploads (edge-sdk serve --upload-mb), which checks it, keeps it and serves it.
What the endpoint has already is not sent again; an interrupted upload goes on where it stopped."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `upload`."""
    parser = subparsers.add_parser("upload", help="send a bundle to an endpoint, once", description=_DESCRIPTION)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="NAME.edge, a folder or one file")
    parser.add_argument("--endpoint", metavar="URL", required=True, help="where to: http://HOST:PORT")
    parser.add_argument("--name", metavar="NAME", help="of the model there; the bundle's file name without suffix")
    parser.add_argument("--replace", action="store_true", help="take the place of a bundle with other content")
    parser.add_argument(
        "--patience",
        type=number(1e6, "seconds"),
        default=30.0,
        metavar="S",
        help="go on trying while nothing arrives there (30)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_credentials(parser.add_argument_group("who this device is, and whom it trusts"))


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from edge_sdk.offload.uploading import Uploaded, upload

    endpoint = endpoint_addresses([arguments.endpoint], arguments)[0].open()
    with Steps() as steps:
        try:
            done = upload(
                arguments.bundle,
                endpoint,
                name=arguments.name,
                replace=arguments.replace,
                patience_s=arguments.patience,
                progress=lambda there, total: steps(f"sending {arguments.bundle.name}, KB", there >> 10, total >> 10),
            )
        finally:
            endpoint.close()

    def told(done: Uploaded) -> str:
        if done.already_there:
            return "it was there already"
        if done.resumed_bytes:
            return f"{done.sent_bytes:,} of {done.size_bytes:,} bytes sent, the others had arrived before"
        return f"{done.size_bytes:,} bytes sent"

    if arguments.json:
        print(json.dumps({"bundle": str(arguments.bundle), "endpoint": endpoint.name, **dataclasses.asdict(done)}))
    else:
        print(plain(f"{arguments.bundle}: served as {done.name!r} at {endpoint.name}; {told(done)}"))
    return 0
