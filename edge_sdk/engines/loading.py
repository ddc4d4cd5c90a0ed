"""A model on an engine, behind a guard where it is to run on an accelerator."""

from __future__ import annotations

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.formats import ModelFile

__all__ = ["load_guarded", "waiting_for"]


def load_guarded(engine: Engine, model: ModelFile, options: LoadOptions) -> Runner:
    """`Engine.load`, behind a guard where `options` names an accelerator.

    Raises:
        AcceleratorError: the accelerator does not start with this model, or computes it otherwise than the CPU.
        EngineError, ModelError: as `Engine.load`.
    """
    if options.accelerator == "cpu":
        return engine.load(model, options)
    from edge_sdk.engines.guarded import GuardedRunner

    return GuardedRunner(engine, model, options)


def waiting_for(accelerator: LoadOptions, cause: str, engine: Engine, model: ModelFile, options: LoadOptions) -> Runner:
    """A runner on the CPU, until an accelerator that did not start does.

    Args:
        accelerator: how to load the model there.
        cause: why it did not start.
        engine: loads it here and there.
        model: what to load.
        options: how to load it on the CPU.
    """
    from edge_sdk.engines.guarded import GuardedRunner

    return GuardedRunner(engine, model, accelerator, options, cause)
