"""What the benching process and the processes that run the models say to each other.

The parent sends one task, a pickled dict, and then `Command`s, a JSON object a line each; the child says `Ready`, and
answers every command with `Reply`s, the last of which has `done`. JSON from the child, because it has run a file that
nobody vouches for.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edge_sdk.bench.result import Way

__all__ = ["Command", "Ready", "Reply", "Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """What a child shall load.

    Attributes:
        by: "edge-sdk", or "bare".
        model: path of a model file or, by "edge-sdk", of a bundle.
        name: the model as the user named it.
        engine: its name; None to have it chosen.
        options: further arguments of `edge_sdk.load`; of a bare engine "threads" alone.
        feeds: sets of feeds, the first that the model takes is used; None to make some up, by "edge-sdk" only.
    """

    by: str
    model: str
    name: str
    engine: str | None
    options: dict[str, Any] = field(default_factory=dict)
    feeds: list[dict[str, Any]] | None = None

    def pickled(self) -> bytes:
        """As the child reads it: of plain parts, so that reading it costs a bare engine's start next to nothing."""
        return pickle.dumps({name: getattr(self, name) for name in self.__slots__}, protocol=5)


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a child shall do: "warm_up", "steady", "block", "paced", "concurrent", "soak", "memory" or "notes"."""

    do: str
    seconds: float = 0.0
    rate_hz: float | None = None
    concurrency: int = 1


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What a child says first.

    Attributes:
        way: what it has loaded.
        loaded_at_s: when, by the clock that all processes share (`time.monotonic`).
        load_ms, first_run_ms: durations.
        feeds_used: which set of feeds the model took.
    """

    way: Way
    loaded_at_s: float
    load_ms: float
    first_run_ms: float
    feeds_used: int


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answer of a child: `result` of a command, or of a part of it, or the `error` (name of its class) with its
    `message`."""

    done: bool = True
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    message: str = ""
