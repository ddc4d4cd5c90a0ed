"""The `edge-sdk` command, one module per verb; no logic of its own.

Exit codes: 0; 1 with one line on stderr when something is wrong with model, input or device; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from edge_sdk import __version__
from edge_sdk.errors import EdgeError

__all__ = ["main"]

VERBS = {
    "bench": "measure latency, start, memory and energy of a model or bundle, also paced or against another",
    "build": "turn a model into a bundle of variants with honest figures",
    "device": "show what this machine is: cores, memory, features, accelerators",
    "inspect": "show what a model file holds: inputs, outputs, precision, size, opset, ops",
    "plan": "choose the best way to run a model or bundle here, or on a device that is not here",
    "run": "run a model on pictures, sound or arrays",
    "serve": "serve models to devices over HTTP",
    "split": "list where a model may be cut, and make head and tail of it",
    "upload": "send a bundle to an endpoint, once",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments)
    parsed = parser.parse_args(arguments)
    try:
        code = import_module(f"edge_sdk.cli.{parsed.verb}").run(parsed)
        sys.stdout.flush()
        return int(code)
    except EdgeError as error:
        from edge_sdk.cli.plain import plain

        print(f"edge-sdk: {plain(str(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has gone (`edge-sdk device | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("edge-sdk: interrupted", file=sys.stderr)
        return 130


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-sdk", description="Run models on edge devices the best way they allow.")
    parser.add_argument("--version", action="version", version=f"edge-sdk {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    asked = next((word for word in arguments if word in VERBS), None)
    for verb, summary in VERBS.items():
        if verb == asked:
            # Only the verb that was asked for is imported: the others' imports would cost its start.
            import_module(f"edge_sdk.cli.{verb}").add_parser(verbs)
        else:
            verbs.add_parser(verb, help=summary)
    return parser
