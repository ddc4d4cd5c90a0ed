"""A bare engine's task: the very file that a session runs, with feeds as that file takes them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from edge_sdk import bundle
from edge_sdk.bench.bare import BARE_ENGINES
from edge_sdk.bench.messages import Task
from edge_sdk.bench.result import Way
from edge_sdk.engines.samples import OPEN_SIZES, made_up_feeds
from edge_sdk.errors import InputError
from edge_sdk.formats import ModelFile, open_model

__all__ = ["bare_task", "require_format"]


def bare_task(
    stack: ExitStack, engine: str, model: str, way: Way, threads: int | None, feeds: Mapping[str, Any] | None
) -> Task:
    """Makes the task.

    Args:
        stack: keeps what must stay open meanwhile.
        engine: one of `BARE_ENGINES`.
        model: the model file or bundle that was benched.
        way: how; of a bundle the same variant is taken.
        threads: None for the engine's own default.
        feeds: made up where None, and for a bundle, whose variants have inputs of their own.

    Raises:
        InputError: the engine does not run that format, or an input is missing among the feeds.
        ModelError: the file cannot be read.
    """
    is_bundle = bundle.is_bundle(model)
    if is_bundle:
        file = stack.enter_context(bundle.open(model)).open_variant(way.variant)
    else:
        file = open_model(model)
    with file:
        _require(engine, file)
        assert file.path is not None
        sets = _made_up(file) if feeds is None or is_bundle else [_in_order(file, feeds)]
        options = {"threads": threads, "variant": way.variant}
        return Task("bare", str(file.path.resolve()), model, engine, options, sets)


def require_format(engine: str, model: str) -> None:
    """Refuses a model file that a bare engine does not run, before anything is started for it. Of a bundle only the
    variant decides.

    Raises:
        InputError: `engine` does not run it.
        ModelError: the file cannot be read.
    """
    if not bundle.is_bundle(model):
        with open_model(model) as file:
            _require(engine, file)


def _require(engine: str, file: ModelFile) -> None:
    if file.format != BARE_ENGINES[engine]:
        able = ", ".join(name for name, runs in BARE_ENGINES.items() if runs == file.format)
        raise InputError(f"{file.name}: {engine} does not run {file.format} models; expected {able}")


def _made_up(file: ModelFile) -> list[dict[str, Any]]:
    info = file.describe()
    return [made_up_feeds(info.inputs, info.initializer_inputs, size) for size in OPEN_SIZES]


def _in_order(file: ModelFile, feeds: Mapping[str, Any]) -> dict[str, Any]:
    names = [spec.name for spec in file.describe().inputs if spec.name in feeds]
    return {name: feeds[name] for name in names}
