"""Smaller float networks, the way chosen by result: which channels go, which rank is enough, whether zeros pay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard, Verdict
from edge_sdk.compress.onnx_files import save
from edge_sdk.compress.onnx_low_rank import factor, with_rank
from edge_sdk.compress.onnx_pruning import CRITERIA, prune
from edge_sdk.compress.onnx_reconstruction import reconstruct
from edge_sdk.compress.onnx_running import session
from edge_sdk.compress.onnx_sparsity import with_zeros
from edge_sdk.compress.picking import spread
from edge_sdk.compress.searching import better, quick_guard
from edge_sdk.errors import CompressionError
from edge_sdk.tensors import Array

__all__ = ["best_low_rank", "best_pruned", "faster_with_zeros"]

_CRITERION_SAMPLES = 64
_FACTOR_SAMPLES = 128
_LOSSES = (0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Share of each layer's output power that may be lost, boldest first."""
_SMALLEST_GAIN = 0.05
_BUDGET_S = 3.0
_FASTER = 0.95


def best_pruned(model: Any, share: float, data: Data, guard: Guard, folder: Path) -> tuple[Any, dict[str, str]]:
    """The model without this share of its channels, chosen by the better criterion, its layers solved anew for what
    is left.

    Raises:
        CompressionError: no layer may lose a channel, or so few that nothing is gained.
    """
    quick = quick_guard(guard)
    best: tuple[Any, dict[str, str], Verdict] | None = None
    tried = []
    for criterion in CRITERIA:
        pruned = prune(model, share, criterion, spread(data.feeds, _CRITERION_SAMPLES))
        if _multiplied(pruned.model) > (1 - _SMALLEST_GAIN) * _multiplied(model):
            raise CompressionError(
                "hardly any layer may lose a channel: outputs, or ops that no rule covers, hold nearly all"
            )
        repaired, solved = reconstruct(pruned, model, data.feeds)
        verdict = _judged(repaired, quick, folder)
        tried.append(f"{criterion}: {verdict.mean_error:.3g}")
        recipe = {
            "pruned": f"{pruned.before} channels to {pruned.after}, by {criterion}",
            "reconstructed": f"{solved} layers on {data.name}",
        }
        if best is None or better(verdict, best[2]):
            best = repaired, recipe, verdict
    assert best is not None
    return best[0], {**best[1], "mean errors of pruning": "; ".join(tried)}


def best_low_rank(model: Any, data: Data, guard: Guard, folder: Path) -> tuple[Any, dict[str, str]]:
    """The model with the lowest ranks that the guard passes.

    Raises:
        CompressionError: no layer has a useful rank within the bound.
    """
    layers = factor(model, spread(data.feeds, _FACTOR_SAMPLES))
    if not layers:
        raise CompressionError("it holds no matrix product or 1×1 convolution wide enough to be factored")
    refused: str = ""
    size = _multiplied(model)
    for most_lost in _LOSSES:
        smaller, ranks = with_rank(model, layers, most_lost)
        if not ranks or _multiplied(smaller) > (1 - _SMALLEST_GAIN) * size:
            break
        verdict = _judged(smaller, guard, folder)
        if verdict.passed:
            told = ", ".join(f"{name} {rank}" for name, rank in ranks.items())
            return smaller, {"low rank": f"at most {most_lost:.1%} of each layer's power lost: {told}"}
        refused = verdict.why
    if refused:
        raise CompressionError(f"no rank that saves {_SMALLEST_GAIN:.0%} of the weights is within the bound: {refused}")
    raise CompressionError("its layers need nearly all of their rank: factors would cost more than they save")


def faster_with_zeros(model: Any, share: float, feed: Mapping[str, Array]) -> tuple[Any, dict[str, str]]:
    """The model with zeros in place of its smallest weights, if that measures faster here.

    Raises:
        CompressionError: it does not, or could not be measured.
    """
    from edge_sdk.measuring import compare

    sparse = with_zeros(model, share)
    dense_run, sparse_run = session(model), session(sparse)
    wanted = {entry.name for entry in dense_run.get_inputs()}
    given = {name: value for name, value in feed.items() if name in wanted}
    found = compare(lambda: dense_run.run(None, given), lambda: sparse_run.run(None, given), _BUDGET_S)
    if found is None:
        raise CompressionError("one run takes too long to measure whether zeros pay")
    told = f"{share:.0%} of the weights zero took {found.ratio:.2f} times the time of the dense model"
    if not found.ratio < _FASTER:
        raise CompressionError(
            f"{told} here: ONNX Runtime multiplies zeros like other numbers, so only quality would be lost"
        )
    return sparse, {"sparse": told}


def _judged(model: Any, guard: Guard, folder: Path) -> Verdict:
    file = folder / "trial.onnx"
    save(model, file)
    return guard.judge(file)


def _multiplied(model: Any) -> int:
    """Number of weights in products of matrices."""
    sizes = {weight.name: weight.dims for weight in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in sizes:
            count = 1
            for size in sizes[node.input[1]]:
                count *= size
            total += count
    return total
