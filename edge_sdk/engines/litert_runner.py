"""A loaded TFLite model: a pool of LiteRT interpreters, since one interpreter serves one caller at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from edge_sdk.device.affinity import running_on, usable_cpus
from edge_sdk.engines.base import LoadOptions, PlacementReport, Runner
from edge_sdk.engines.litert_factory import InterpreterFactory
from edge_sdk.engines.litert_interpreter import LoadedInterpreter
from edge_sdk.engines.litert_pool import Pool
from edge_sdk.engines.workers import WorkerMark
from edge_sdk.errors import EngineError
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram

__all__ = ["LiteRtRunner"]

_STATEFUL_OPS = frozenset(
    {
        "ASSIGN_VARIABLE",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "LSTM",
        "RNN",
        "SVDF",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "VAR_HANDLE",
    }
)
"""Builtin ops that keep something from one call to the next, inside the interpreter."""
_RESOURCE_OPS = frozenset({"VAR_HANDLE", "ASSIGN_VARIABLE"})


class LiteRtRunner(Runner):
    """See `Runner`. Callers beyond the pool's bound wait in line, which `queue` records.

    A model with state inside its graph has one interpreter, so that all calls see the same state, one after another.
    """

    engine = "litert"

    def __init__(self, model: ModelFile, options: LoadOptions) -> None:
        self.model = model.name
        self.options = options
        self.queue = Histogram()
        self._ops = model.describe().ops
        self._mark = WorkerMark("litert")
        allowed = usable_cpus()
        if options.threads is not None and options.threads < 1:
            raise EngineError(
                f"{self.model}: threads is {options.threads}; expected at least 1, or None for the default"
            )
        if options.cpus is not None and set(options.cpus).isdisjoint(allowed):
            raise EngineError(
                f"{self.model}: none of the CPUs {list(options.cpus)} may be used by this process;"
                f" it may use {list(allowed)}"
            )
        self._pin = None if options.cpus is None or set(options.cpus) >= set(allowed) else options.cpus
        self._factory = InterpreterFactory(model, options, self._mark)
        # A delegate drives one piece of hardware: several callers at once gain nothing there, and few allow it.
        alone = self._factory.delegated or self.keeps_state
        bound = 1 if alone else _callers_at_once(len(allowed), options)
        self._pool: Pool[LoadedInterpreter] = Pool(self._factory, bound, self.queue, self.model)
        # The first one is made now: what is wrong with the model shows at load, not at the first request.
        first = self._pool.take()
        self.inputs = tuple(port.spec for port in first.inputs)
        self.outputs = tuple(port.spec for port in first.outputs)
        self._pool.give(first)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        # As `Pool.take` and `Pool.give` while nobody waits: after a large model has run, every further line is out of
        # the processor's cache.
        pool = self._pool
        try:
            loaded = pool.take() if pool.attention else pool.free.pop()
        except IndexError:
            loaded = pool.take()
        try:
            if loaded.fresh or self._pin is not None:
                return self._run_placed(loaded, feeds, out)
            return loaded.call(feeds, out)
        finally:
            pool.free.append(loaded)
            if pool.attention:
                pool.attend()

    def _run_placed(
        self, loaded: LoadedInterpreter, feeds: Mapping[str, Any], out: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        # Kernels outside the delegate start their workers with the first call: these are to be found and pinned too.
        with running_on(self._pin), self._mark.marking() if loaded.fresh else nullcontext():
            results = loaded.call(feeds, out)
        loaded.fresh = False
        return results

    def reset_state(self) -> None:
        """Forgets the state that the graph keeps from call to call (variables, LSTM cells): the next call is the first.

        Raises:
            SessionClosed: the runner was closed.
        """
        if not self.keeps_state:
            return
        loaded = self._pool.take()
        if _RESOURCE_OPS.isdisjoint(self._ops):
            loaded.reset()
            self._pool.give(loaded)
        else:
            # The engine's reset leaves resource variables as they are; a new interpreter initialises them.
            self._pool.drop()

    @property
    def keeps_state(self) -> bool:  # type: ignore[override]
        """Whether an op of the model does."""
        return not _STATEFUL_OPS.isdisjoint(self._ops)

    def placement(self) -> PlacementReport:
        """Workers that live now, and the nodes of the main graph as the engine lists them. The engine does not tell
        where the nodes of branches and loop bodies run: these are not counted."""
        threads = self._mark.placements()
        nodes = self._factory.nodes
        return PlacementReport(threads or (), nodes, verified=threads is not None and bool(nodes))

    def close(self) -> None:
        """Frees all interpreters and their threads."""
        self._pool.close()
        self._factory.source.close()


def _callers_at_once(cpus: int, options: LoadOptions) -> int:
    """Two for each CPU: while one hands its answer over, another computes. On two cores four callers then get as much
    done as with an interpreter each; with one for each CPU they got 0.84 of it on a model of 0.14 ms."""
    return 2 * (cpus if options.cpus is None else max(len(options.cpus), 1))
