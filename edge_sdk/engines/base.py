"""What an engine and a runner are: the seam behind which every way to execute a model file stands.

An `Engine` is a plug-in (entry point group `edge_sdk.engines`) that turns a checked `ModelFile` into a `Runner`. A
`Runner` is a loaded variant: named arrays in, named arrays out, for any number of threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_sdk.engines.guard import AcceleratorState, Guard

if TYPE_CHECKING:
    # For annotations only: listing engines and their versions needs neither numpy nor a model.
    from edge_sdk.device.facts import Accelerator
    from edge_sdk.formats import ModelFile
    from edge_sdk.metrics import Histogram
    from edge_sdk.tensors import TensorSpec

__all__ = ["CustomOps", "Engine", "LoadOptions", "NodePlacement", "PlacementReport", "Runner", "ThreadPlacement"]


@dataclass(frozen=True, slots=True)
class CustomOps:
    """A library of custom ops. It is native code that runs in this process, so it is loaded only if its hash fits.

    Attributes:
        path: the shared library.
        sha256: its expected hash, hexadecimal.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a runner is to be loaded. Every field has the engine's own default as its default.

    Attributes:
        threads: number of threads that compute one request; None for the engine's default.
        cpus: CPUs these threads may run on; None for all the process may use.
        accelerator: "cpu", or the name of an `Accelerator` of this engine.
        accelerator_options: passed to the provider or delegate as they are.
        strict: refuse a model of which any node would run elsewhere than on `accelerator`.
        custom_ops: libraries of custom ops to register.
        initializer_inputs: initialisers listed as graph inputs that stay inputs because the caller feeds them.
        spin: whether idle workers may spin; measuring switches it off so that candidates do not disturb each other.
        cache: whether what the engine prepares (an optimised graph) may be kept for the next start.
        guard: how an accelerator is watched.
        map_weights: whether weights are mapped from what is kept, where the engine can, instead of copied, and what a
            request takes beside them is given back after it.
    """

    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    accelerator: str = "cpu"
    accelerator_options: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    custom_ops: tuple[CustomOps, ...] = ()
    initializer_inputs: tuple[str, ...] = ()
    spin: bool = True
    cache: bool = True
    guard: Guard = field(default_factory=Guard)
    map_weights: bool = False


@dataclass(frozen=True, slots=True)
class ThreadPlacement:
    """One worker thread and the CPUs it may run on, as read back from the kernel."""

    thread_id: int
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodePlacement:
    """How many nodes of the graph ran at one place ("cpu", "xnnpack", "cuda", …), and their names if known."""

    where: str
    count: int
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementReport:
    """Where a runner really computes.

    Attributes:
        threads: the engine's worker threads (the calling thread computes too and is not among them).
        nodes: by place, most nodes first.
        verified: whether the engine or the kernel told, as opposed to what was asked for.
    """

    threads: tuple[ThreadPlacement, ...]
    nodes: tuple[NodePlacement, ...]
    verified: bool


class Runner(ABC):
    """A loaded variant.

    Attributes:
        engine: name of the engine.
        model: name of the model, for messages.
        inputs: what must be fed, in the model's order.
        outputs: what comes back, in the model's order.
        optional_inputs: names among `inputs` that may be left out (they have a default in the file).
        options: what it was loaded with.
        notes: what loading found worth telling ("112 initialisers taken out of the graph inputs").
        queue: time requests waited for a free interpreter, recorded only where they had to wait.
        inner: the runner that this one wraps; None where it wraps none.
        at_once: how many callers at once keep it busy.
        keeps_state: whether a request may depend on those before it.
    """

    engine: str
    model: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    optional_inputs: frozenset[str] = frozenset()
    options: LoadOptions
    notes: tuple[str, ...] = ()
    queue: Histogram
    inner: Runner | None = None
    at_once: int = 1
    keeps_state: bool = False

    @property
    def computing(self) -> Runner:
        """What computes each request: itself, or the one behind it where this one may answer without."""
        return self

    @abstractmethod
    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Runs the model once on feeds that fit `inputs` (see `FeedCheck`). Any number of threads may call at once.

        Args:
            feeds: input name to array.
            out: output name to an array of the output's dtype and shape, C-contiguous, to write into; the returned dict
                then holds these same arrays. Outputs not named get a new array.

        Returns:
            Output name to array, in the model's order. New arrays belong to the caller and never change afterwards.

        Raises:
            InputError: the engine refused the feeds (a shape that only the graph can judge).
            EngineError: it failed.
        """

    @abstractmethod
    def placement(self) -> PlacementReport:
        """Reads back where the runner computes. May run after `run` only: some workers start with the first request."""

    def accelerators(self) -> tuple[AcceleratorState, ...]:
        """How the accelerators fare that it computes on; empty where it computes on the CPU."""
        return () if self.inner is None else self.inner.accelerators()

    def reset_state(self) -> None:  # noqa: B027 - most models carry none
        """Forgets what the model carries from request to request, so that the next one begins afresh."""

    @abstractmethod
    def close(self) -> None:
        """Frees the engine's memory and threads. Idempotent. No request may be in flight."""


class Engine(ABC):
    """A plug-in that executes model files. It imports its library on use, not on import.

    Attributes:
        name: its key.
        formats: model formats it runs ("onnx", "tflite").
        native: whether it runs native code on the file, so that an unknown file is tried in a child process first.
    """

    name: str
    formats: frozenset[str]
    native: bool = True

    @abstractmethod
    def version(self) -> str | None:
        """Version of the library behind it ("1.23.2"); None where it is not installed. Does not import the library."""

    @abstractmethod
    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        """Loads a model whose structure was checked.

        Raises:
            EngineNotInstalled: the library is missing.
            UnsupportedOp: the model holds an op that this engine has not.
            UnsupportedVersion: a newer opset, IR or schema than the engine knows.
            AcceleratorError: `options.accelerator` is missing, refused the model, or (strict) took only a part.
            ModelError: the engine refused the file for another reason.
        """

    def accelerators(self) -> tuple[Accelerator, ...]:
        """What this engine could reach on this machine: `present` found or not, `usable` None. Must be fast (no driver
        initialisation) and must not raise."""
        return ()

    def default_threads(self, cpus: int) -> int:
        """How many threads the engine takes for a request by itself on a machine with `cpus` usable CPUs."""
        return cpus
