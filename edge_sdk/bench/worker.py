"""The process that runs one model and nothing else, and times it as its parent says.

It reads the task and the commands from stdin and answers on stdout (see `messages`); what libraries print goes nowhere.
A bare engine is loaded before anything of the package that it does not need.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.bench.messages import Command
    from edge_sdk.session import Session

__all__ = ["main"]


@dataclass(slots=True)
class Loaded:
    """A model that has answered once.

    Attributes:
        make_request: makes the request of one more caller.
        request: that of the first caller.
        feeds_used: which of the task's sets of feeds it was.
        loaded_at_s, load_ms, first_run_ms: see `messages.Ready`.
        way: the fields of a `Way`.
        notes: gives what is worth telling so far.
    """

    make_request: Callable[[], Callable[[], object]]
    request: Callable[[], object]
    feeds_used: int
    loaded_at_s: float
    load_ms: float
    first_run_ms: float
    way: dict[str, Any]
    notes: Callable[[], list[str]]


def main() -> None:
    """Loads, answers once, says so, and does as it is told until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    task = pickle.load(sys.stdin.buffer)
    try:
        loaded = _load_bare(task) if task["by"] == "bare" else _load_session(task)
    except Exception as error:  # noqa: BLE001 - an engine may raise anything; the parent tells it
        _answer(answers, _failure(error))
        return
    import msgspec

    from edge_sdk.bench.messages import Command, Ready
    from edge_sdk.bench.result import Way

    ready = Ready(
        way=Way(**loaded.way),
        loaded_at_s=loaded.loaded_at_s,
        load_ms=loaded.load_ms,
        first_run_ms=loaded.first_run_ms,
        feeds_used=loaded.feeds_used,
    )
    _answer(answers, {"result": ready})
    for line in sys.stdin.buffer:
        try:
            command = msgspec.json.decode(line, type=Command)
            result = _obey(command, loaded, lambda part: _answer(answers, {"done": False, "result": part}))
            _answer(answers, {"result": result})
        except BrokenPipeError:
            break  # the parent is gone
        except Exception as error:  # noqa: BLE001
            _answer(answers, _failure(error))
    os._exit(0)  # engines hang in their own end, and nothing here needs one


def _answer(answers: Any, reply: dict[str, Any]) -> None:
    import msgspec

    answers.write(msgspec.json.encode({"done": True, **reply}) + b"\n")


def _failure(error: Exception) -> dict[str, Any]:
    message = " ".join(str(error).split())[:2000] or type(error).__name__
    return {"error": type(error).__name__, "message": message}


def _load_session(task: dict[str, Any]) -> Loaded:
    began = time.perf_counter()
    import edge_sdk

    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        session = edge_sdk.load(task["model"], engine=task["engine"], **task["options"])
    notes += [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    loaded_at_s, load_ms = time.monotonic(), (time.perf_counter() - began) * 1e3
    feeds = task["feeds"] if task["feeds"] is not None else _made_up(session)
    used, first_run_ms = _first_run(feeds, session.run)
    fed = feeds[used]
    request: Callable[[], object] = lambda: session.run(fed)  # noqa: E731 - as a caller would write it
    return Loaded(
        lambda: request,
        request,
        used,
        loaded_at_s,
        load_ms,
        first_run_ms,
        _session_way(session, task["name"]),
        lambda: list(dict.fromkeys([*notes, *session.report().notes, *session.report().events])),
    )


def _made_up(session: Session) -> list[dict[str, Any]]:
    from edge_sdk.engines.samples import OPEN_SIZES, made_up_feeds

    is_open = any(not isinstance(d, int) for spec in session.inputs for d in spec.shape or (None,))
    return [made_up_feeds(session.inputs, (), size) for size in (OPEN_SIZES if is_open else OPEN_SIZES[:1])]


def _first_run(feeds: list[dict[str, Any]], run: Callable[[dict[str, Any]], object]) -> tuple[int, float]:
    """Runs the first of `feeds` that the model takes; which it was, and how long it took in milliseconds."""
    for number, candidate in enumerate(feeds):
        began = time.perf_counter()
        try:
            run(candidate)
        except Exception:
            if number == len(feeds) - 1:
                raise
        else:
            return number, (time.perf_counter() - began) * 1e3
    raise ValueError("there are no feeds")


def _session_way(session: Session, name: str) -> dict[str, Any]:
    from edge_sdk.engines.registry import engine_versions

    plan = session.plan
    return {
        "model": name,
        "variant": plan.variant,
        "by": "edge-sdk",
        "engine": plan.engine,
        "engine_version": engine_versions().get(plan.engine),
        "accelerator": plan.accelerator,
        "placement": plan.placement.describe(),
        "why": plan.reason,
    }


def _load_bare(task: dict[str, Any]) -> Loaded:
    from edge_sdk.bench.bare import load_bare

    began = time.perf_counter()
    version, placement, make_request = load_bare(task["engine"], task["model"], task["options"].get("threads"))
    loaded_at_s, load_ms = time.monotonic(), (time.perf_counter() - began) * 1e3
    requests: list[Callable[[], object]] = []

    def run(feeds: dict[str, Any]) -> object:
        requests.append(make_request(feeds))
        return requests[-1]()

    used, first_run_ms = _first_run(task["feeds"], run)
    fed = task["feeds"][used]
    way = {
        "model": task["name"],
        "variant": task["options"].get("variant") or task["name"].rpartition("/")[2],
        "by": "bare",
        "engine": task["engine"],
        "engine_version": version,
        "placement": placement,
    }
    return Loaded(lambda: make_request(fed), requests[-1], used, loaded_at_s, load_ms, first_run_ms, way, list)


def _obey(command: Command, loaded: Loaded, on_part: Callable[[object], None]) -> object:
    from edge_sdk import measuring

    request = loaded.request
    match command.do:
        case "warm_up":
            return measuring.warm_up(request, command.seconds)
        case "steady":
            return measuring.summarise(measuring.steady(request, command.seconds))
        case "block":
            if command.rate_hz is not None:
                return measuring.paced_block(request, command.rate_hz)()
            return measuring.back_to_back(request)()
        case "paced":
            return measuring.paced(request, command.rate_hz or 1.0, command.seconds)
        case "concurrent":
            return measuring.concurrent(loaded.make_request, command.concurrency, command.seconds)
        case "soak":
            return measuring.soak(request, command.seconds / 60, command.rate_hz, on_window=on_part)
        case "memory":
            return measuring.memory_of()
        case "notes":
            return loaded.notes()
    raise ValueError(f"unknown command {command.do!r}")
