"""A model loaded where a placement says: once, once for each of its lanes, or cut in its stages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from edge_sdk.engines.base import LoadOptions, Runner
from edge_sdk.errors import InputError
from edge_sdk.formats import ModelFile
from edge_sdk.graph.view import Graph
from edge_sdk.planner.lanes import LanesRunner
from edge_sdk.schedule.placing import Placement

__all__ = ["placed"]

Load = Callable[[ModelFile, LoadOptions], Runner]


def placed(
    file: ModelFile,
    load: Load,
    options: LoadOptions,
    placement: Placement,
    wrap: Callable[[Runner], Runner] = lambda runner: runner,
    graph: Graph | None = None,
) -> Runner:
    """Loads a model where a placement says.

    Args:
        file: of the whole model.
        load: loads it, or a part of it.
        options: all but CPUs and threads.
        placement: these.
        wrap: puts around each runner of the whole model what its callers see.
        graph: of the file, where it is open and the placement has stages.

    Raises:
        EdgeError: as `load`, or the model cannot be cut in these stages; what was loaded until then is closed.
    """
    if placement.stages:
        return _in_stages(file, load, options, placement, wrap, graph)
    if not placement.lanes:
        return wrap(load(file, replace(options, threads=placement.threads, cpus=placement.cpus)))
    with ExitStack() as loaded:
        runners = []
        for cpus in placement.lanes:
            runners.append(wrap(load(file, replace(options, threads=len(cpus), cpus=cpus))))
            loaded.callback(runners[-1].close)
        loaded.pop_all()
    return LanesRunner(runners)


def _in_stages(
    file: ModelFile,
    load: Load,
    options: LoadOptions,
    placement: Placement,
    wrap: Callable[[Runner], Runner],
    graph: Graph | None,
) -> Runner:
    from edge_sdk.planner.stage_parts import stage_parts
    from edge_sdk.planner.stages import StagesRunner

    if options.initializer_inputs:
        raise InputError(f"{file.name}: initializer_inputs={list(options.initializer_inputs)} needs the model whole")
    parts = stage_parts(file, [stage.tensors for stage in placement.stages[:-1]], graph)
    try:
        runner = StagesRunner(file.describe(), file.name, parts, placement.stages, load, options)
    finally:
        for part in parts:
            part.close()
    try:
        return wrap(runner)
    except BaseException:
        runner.close()
        raise
