"""The child process of a proof: runs a small model on one accelerator and says on stdout how that went.

Each line it writes is a JSON object: {"stage": what it is about to do}, and last {"usable": …, "why": …}. What
libraries print goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["main"]


class Stages:
    """Tells the parent what the child is about to do, so that it can say where a child hung or crashed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __call__(self, stage: str) -> None:
        self.send({"stage": stage})

    def send(self, message: dict[str, Any]) -> None:
        """Writes one message at once, past all buffers."""
        os.write(self._fd, json.dumps(message).encode() + b"\n")


def main() -> None:
    """Proves the accelerator described in `argv[1]` and leaves without clean-up, which drivers hang in as well."""
    stages = Stages(os.dup(1))
    os.dup2(2, 1)
    _no_core_file()
    task = json.loads(sys.argv[1])
    try:
        usable, why = _prove(task, stages)
    except Exception as error:  # noqa: BLE001 - whatever an engine or driver raises is the verdict
        usable, why = False, reason(error)
    stages.send({"usable": usable, "why": why})
    os._exit(0)


def _prove(task: dict[str, str], stages: Stages) -> tuple[bool | None, str]:
    if task["engine"] == "onnxruntime":
        from edge_sdk.engines import proof_onnxruntime

        return proof_onnxruntime.prove(task["name"], task["kind"], stages)
    if task["engine"] == "litert":
        from edge_sdk.engines import proof_litert

        return proof_litert.prove(task["name"], task["kind"], stages)
    from edge_sdk.engines import proof_plugin

    return proof_plugin.prove(task["engine"], task["name"], task["kind"], stages)


def reason(error: BaseException) -> str:
    """An exception as one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _no_core_file() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
