"""External delegates: a library that takes over parts of a TFLite graph (Edge TPU, vendors' NPUs, anything by path)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from edge_sdk.engines.litert_errors import one_line
from edge_sdk.engines.litert_placement import delegated_nodes, node_label
from edge_sdk.errors import AcceleratorError

__all__ = ["check_taken", "delegate_library", "make_delegate"]

_KNOWN = {"edgetpu": "libedgetpu.so.1"}
_SHOWN = 20
"""How many nodes a message names at most."""


def delegate_library(accelerator: str) -> str:
    """The library behind an accelerator's name: "edgetpu", or a path.

    Raises:
        AcceleratorError: the name is none that this engine knows.
    """
    if accelerator in _KNOWN:
        return _KNOWN[accelerator]
    if "/" in accelerator or ".so" in accelerator:
        return accelerator
    raise AcceleratorError(
        f"accelerator {accelerator!r} is not known to engine litert;"
        " expected cpu, gpu, npu, edgetpu or the path of a delegate"
    )


def make_delegate(module: ModuleType, accelerator: str, options: Mapping[str, str]) -> Any:
    """A delegate object of the engine.

    Raises:
        AcceleratorError: the library is missing, is no delegate, or refused the options or the hardware.
    """
    library = delegate_library(accelerator)
    try:
        # The engine's own loader leaves a half-made object behind, whose finaliser then complains on stderr.
        entry = ctypes.CDLL(library)
        entry.tflite_plugin_create_delegate, entry.tflite_plugin_destroy_delegate  # noqa: B018 - looks the symbols up
    except OSError as error:
        raise AcceleratorError(f"accelerator {accelerator!r}: {library} does not load: {one_line(error)}") from error
    except AttributeError as error:
        raise AcceleratorError(
            f"accelerator {accelerator!r}: {library} is no TFLite delegate: it exports no tflite_plugin_create_delegate"
        ) from error
    try:
        return module.load_delegate(library, dict(options))
    except (ValueError, RuntimeError, OSError) as error:
        reason = one_line(error).removeprefix(f"Failed to load delegate from {library}").strip() or "it gives no reason"
        given = f" with options {dict(options)}" if options else ""
        raise AcceleratorError(f"accelerator {accelerator!r}: {library} refuses to start{given}: {reason}") from error


def check_taken(
    ops: Sequence[dict[str, Any]],
    names: dict[int, str],
    delegates: set[int],
    accelerator: str,
    strict: bool,
    model: str,
) -> None:
    """Checks that a delegate took nodes: some, or with `strict` all.

    Args:
        ops: the engine's list of nodes, after the graph was laid out.
        names: tensor names by index.
        delegates: indexes of the nodes that stand for the delegate's parts.

    Raises:
        AcceleratorError: it took none, or not all; the message names those that stay on the CPU.
    """
    taken = {node for delegate, inside in delegated_nodes(ops).items() if delegate in delegates for node in inside}
    if not taken:
        raise AcceleratorError(f"{model}: accelerator {accelerator!r} took none of the nodes; all would run on the CPU")
    left = [node_label(op, names) for op in ops if op["op_name"] != "DELEGATE" and op["index"] not in taken]
    if strict and left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        raise AcceleratorError(
            f"{model}: {len(left)} node{'s' * (len(left) > 1)} would stay on the CPU beside {accelerator!r}:"
            f" {', '.join(left[:_SHOWN])}{more}; load without strict to allow it"
        )
