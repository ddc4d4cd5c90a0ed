"""Cleaning an ONNX file up: the same results from fewer ops, constants folded, initialisers no inputs.

A step whose results differ by more than 1e-5 of the largest value is not used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.compress.onnx_files import load
from edge_sdk.compress.onnx_graphs import copied, name_nodes
from edge_sdk.compress.onnx_running import differences, run_samples
from edge_sdk.compress.picking import spread
from edge_sdk.compress.tools import needed, quiet
from edge_sdk.engines.samples import OPEN_SIZES, made_up_feeds
from edge_sdk.errors import CompressionError
from edge_sdk.formats import open_model
from edge_sdk.tensors import Array

__all__ = ["TOLERANCE", "Cleaned", "clean", "same_results", "trial_feeds"]

_log = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""Relative to the largest value of an output."""
_TRIALS = 3


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A cleaned model.

    Attributes:
        model: the `ModelProto`.
        recipe: what was done.
        notes: what a person should know.
        difference: how far its results lie from the source's, over the largest value.
    """

    model: Any
    recipe: dict[str, str]
    notes: tuple[str, ...]
    difference: float


def clean(source: Path, feeds: Sequence[Mapping[str, Array]]) -> Cleaned:
    """Cleans a model up and proves on `feeds` that its results stay.

    Args:
        source: the ONNX file.
        feeds: samples; empty where there are none: then made-up inputs serve for the comparison, and the notes say so.

    Raises:
        MissingExtra: `onnx` or `onnxslim` is not installed.
        CompressionError: ONNX Runtime cannot run the source.
    """
    slim = needed("onnxslim")
    notes = []
    listed = open_model(source).describe().initializer_inputs
    if listed:
        notes.append(f"{len(listed)} initialisers taken out of the graph inputs")
    samples = trial_feeds(source, feeds)
    if not feeds:
        notes.append("no data given: the clean-up was compared with the source on made-up inputs")
    model = load(source)
    wanted = list(run_samples(source, samples))
    before = len(model.graph.node)
    try:
        with quiet():
            slimmed = slim.slim(copied(model))
            if len(slimmed.graph.node) > before:
                # Products of more than two dimensions as Gemm need a Reshape before and one after.
                slimmed = slim.slim(copied(model), skip_fusion_patterns=["FusionGemm"])
        name_nodes(slimmed)
        slimmed.ir_version = max(slimmed.ir_version, model.ir_version)
        difference = same_results(wanted, slimmed, samples)
    except CompressionError as error:
        notes.append(f"onnxslim was not used: {error}")
    except Exception as error:  # noqa: BLE001 - a pass that meets what it does not know must not cost the build
        _log.debug("onnxslim failed", exc_info=True)
        notes.append(f"onnxslim was not used: it fails on this model ({type(error).__name__})")
    else:
        if _same_signature(model, slimmed):
            recipe = {"clean-up": f"onnxslim {_version('onnxslim')}: {before} ops to {len(slimmed.graph.node)}"}
            return Cleaned(slimmed, recipe, tuple(notes), difference)
        notes.append("onnxslim was not used: it changed inputs or outputs")
    return Cleaned(model, {"clean-up": "initialisers only"}, tuple(notes), same_results(wanted, model, samples))


def same_results(wanted: Sequence[Mapping[str, Array]], model: Any, feeds: Sequence[Mapping[str, Array]]) -> float:
    """How far a model's answers lie from those wanted, over the largest value.

    Raises:
        CompressionError: further than `TOLERANCE`, or it cannot run.
    """
    worst = max(
        (differences(one, two) for one, two in zip(wanted, run_samples(model, feeds), strict=True)), default=0.0
    )
    if not worst <= TOLERANCE:
        raise CompressionError(f"its results differ by {worst:.1e} of the largest value, more than {TOLERANCE:.0e}")
    return worst


def trial_feeds(source: Path, feeds: Sequence[Mapping[str, Array]]) -> list[Mapping[str, Array]]:
    """A few samples to compare results on: of `feeds`, else made up. Open sizes are tried until the model takes them.

    Raises:
        CompressionError: the model takes none of them.
    """
    if feeds:
        return list(spread(feeds, _TRIALS))
    info = open_model(source).describe()
    last: CompressionError | None = None
    for size in OPEN_SIZES:
        made = made_up_feeds(info.inputs, info.initializer_inputs, size)
        try:
            list(run_samples(source, [made]))
        except CompressionError as error:
            last = error
        else:
            return [made]
    raise CompressionError(f"{source.name}: {last}; give data of your own that the model takes")


def _same_signature(one: Any, other: Any) -> bool:
    def names(model: Any) -> tuple[list[str], list[str]]:
        return [entry.name for entry in model.graph.input], [entry.name for entry in model.graph.output]

    return names(one) == names(other)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
