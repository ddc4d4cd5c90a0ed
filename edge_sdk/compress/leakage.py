"""How much of the input lies open in what travels at a cut: what a linear decoder rebuilds of it.

Two decoders are fitted by ridge regression on one part of the samples and judged on the other, and the better one
counts. The one sees all activations at once, in the dual form, with the penalty that does best when each sample is left
out in turn (Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 2nd edition, section 7.10). The
other is for pictures and slides: one set of weights from the activations around a place to the pixels there, so that
few pictures teach it much. Neither undoes what is not linear: a network trained to invert the head may rebuild more.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edge_sdk.errors import InputValueError
from edge_sdk.tensors import Array

__all__ = ["LEAST_SAMPLES", "Leakage", "leakage_of"]

LEAST_SAMPLES = 8
MOST_SAMPLES = 160
GRID = 16
"""Pictures are judged on this many rows and columns a channel, other inputs on the square of it in equal pieces."""
MOST_FEATURES = 1 << 16
MOST_LOCAL, MOST_PLACES = 768, 8192
_FITTED_SHARE = 0.7
_PENALTIES = (1e-6, 1e-4, 1e-2, 1.0)
_LOCAL_PENALTY = 1e-5
_COLOURS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Leakage:
    """What a linear decoder rebuilds of an input it has not seen.

    Attributes:
        explained: share of the input's variance around the mean of all inputs, 0 to 1.
        psnr_db: peak signal to noise of what it rebuilds, the peak being the span of the inputs; at most 99.
        samples: how many samples it was judged on.
    """

    explained: float
    psnr_db: float
    samples: int


def leakage_of(activations: Sequence[Mapping[str, Array]], inputs: Sequence[Mapping[str, Array]]) -> Leakage:
    """How well inputs can be rebuilt from activations; of several inputs the one that can be rebuilt best counts.

    Args:
        activations: by sample the tensors of the cut, by name; one request each. Quantised ones may stay as they are.
        inputs: by sample the model's inputs, by name. Pictures are [1, H, W, C] or [1, C, H, W] with 1, 3 or 4
            channels.

    Raises:
        InputValueError: fewer than `LEAST_SAMPLES` samples, or not as many of one as of the other.
    """
    if len(activations) != len(inputs) or len(inputs) < LEAST_SAMPLES:
        raise InputValueError(
            f"leakage needs the activations and the inputs of at least {LEAST_SAMPLES} samples; given"
            f" {len(activations)} and {len(inputs)}"
        )
    order = np.random.default_rng(0).permutation(len(inputs))[:MOST_SAMPLES]
    fitted = int(len(order) * _FITTED_SHARE)
    given = [activations[place] for place in order]
    sizes = {name: np.shape(array) for name, array in given[0].items()}
    if any({name: np.shape(array) for name, array in one.items()} != sizes for one in given):
        given = [
            {name: _flat(array)[:1] for name, array in one.items()} for one in given
        ]  # no fixed place for anything
    fewer = _Hashing(sum(np.size(array) for array in given[0].values()), MOST_FEATURES)
    features = np.stack([fewer(_row(one)[None])[0] for one in given])
    found = Leakage(0.0, 0.0, len(order) - fitted)
    for name in inputs[0]:
        arrays = [np.asarray(inputs[place][name]) for place in order]
        if arrays[0].dtype.kind not in "fiub" or len({array.shape for array in arrays}) > 1:
            continue
        targets, picture = _targets(arrays)
        guesses = [_global(features, targets, fitted)]
        if picture is not None:
            guesses += _local(given, targets, picture, fitted)
        for guess in guesses:
            leaks = _judged(guess, targets, fitted)
            found = leaks if leaks.explained > found.explained or not found.psnr_db else found
    return found


class _Picture(NamedTuple):
    """How an input lies in memory."""

    height: int
    width: int
    last: bool


def _targets(arrays: Sequence[Array]) -> tuple[Array, _Picture | None]:
    """(samples, GRID², channels) of pictures, (samples, pieces, 1) of other inputs."""
    shape = arrays[0].shape
    if len(shape) == 4 and shape[0] == 1 and (shape[3] in _COLOURS or shape[1] in _COLOURS):
        last = shape[3] in _COLOURS
        height, width = shape[1:3] if last else shape[2:4]
        picture = _Picture(height, width, last)
        if min(picture.height, picture.width) > 1:
            grids = [_resized(_channels_last(array, picture.last), GRID, GRID) for array in arrays]
            return np.stack(grids).reshape(len(arrays), GRID * GRID, -1), picture
    flat = np.stack([_flat(array) for array in arrays])
    if flat.shape[1] > GRID * GRID:
        flat = flat @ _pieces(flat.shape[1], GRID * GRID).T
    return flat[..., None], None


def _judged(guess: Array, targets: Array, fitted: int) -> Leakage:
    truth = targets[fitted:]
    error = float(np.square(truth - guess).mean())
    # Of few samples the mean of all places may be the better guess than that of each place.
    means = [targets[:fitted].mean(axis=axes) for axes in (0, (0, 1))]
    spread = min(float(np.square(truth - mean).mean()) for mean in means)
    peak = float(targets.max() - targets.min())
    psnr_db = 10 * np.log10(peak**2 / error) if error > 0 and peak > 0 else 99.0
    # A constant input is known without looking at anything; that is no leak.
    explained = 1 - error / spread if spread > 0 else 0.0
    return Leakage(float(np.clip(explained, 0, 1)), float(min(psnr_db, 99.0)), len(truth))


# --- all activations at once ---


def _global(features: Array, targets: Array, fitted: int) -> Array:
    """What the decoder of all activations makes of the samples behind the first `fitted`, shaped as `targets`."""
    centre = features[:fitted].mean(axis=0)
    known, asked = features[:fitted] - centre, features[fitted:] - centre
    wanted = targets[:fitted].reshape(fitted, -1)
    mean = wanted.mean(axis=0)
    values, vectors = np.linalg.eigh((known @ known.T).astype(np.float64))
    values = np.maximum(values, 0)
    turned = vectors.T @ (wanted - mean)
    scale = float(values.mean()) or 1.0

    def left_out(penalty: float) -> float:
        """Mean squared error when each sample is predicted from all others."""
        shrunk = values / (values + penalty * scale)
        residual = (wanted - mean) - vectors @ (shrunk[:, None] * turned)
        own = np.minimum((np.square(vectors) * shrunk).sum(axis=1) + 1 / fitted, 1 - 1e-9)
        return float(np.square(residual / (1 - own)[:, None]).mean())

    penalty = min(_PENALTIES, key=left_out) * scale
    weights = vectors @ (turned / (values + penalty)[:, None])
    return np.asarray(mean + (asked @ known.T) @ weights).reshape(-1, *targets.shape[1:])


def _row(activations: Mapping[str, Array]) -> Array:
    """All tensors one behind the other."""
    return np.concatenate([_flat(activations[name]) for name in sorted(activations)] or [np.zeros(1, np.float32)])


class _Hashing:
    """Fewer features with nearly the same inner products: each is added to one of `most` sums, with a random sign.

    Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009.
    """

    def __init__(self, count: int, most: int) -> None:
        self._most, self._few = most, count <= most
        if not self._few:
            chance = np.random.default_rng(count)
            self._places = chance.integers(most, size=count)
            self._signs = chance.choice(np.array([-1, 1], np.float32), count)

    def __call__(self, rows: Array) -> Array:
        """(n, count) to (n, most); as they are where they are few enough."""
        if self._few:
            return rows
        return np.stack([np.bincount(self._places, row, self._most) for row in rows * self._signs]).astype(np.float32)


# --- around each place of a picture ---


def _local(activations: Sequence[Mapping[str, Array]], targets: Array, picture: _Picture, fitted: int) -> list[Array]:
    """What the sliding decoder makes of the samples behind the first `fitted`; nothing where no tensor is a map."""
    maps = [
        stack for name in activations[0] if (stack := _maps([one[name] for one in activations], picture)) is not None
    ]
    if not maps:
        return []
    rows, columns = (min(max(stack.shape[axis] for stack in maps), GRID) for axis in (1, 2))
    joined = np.concatenate([_around(_resized(stack, rows, columns)) for stack in maps], axis=-1)
    # Where the map is coarser than the grid, each place of it stands for several pixels.
    fine_rows, fine_columns = -(-GRID // rows), -(-GRID // columns)
    grids = targets.reshape(len(targets), GRID, GRID, -1)
    fine = _resized(grids, rows * fine_rows, columns * fine_columns)
    blocks = fine.reshape(len(fine), rows, fine_rows, columns, fine_columns, -1).transpose(0, 1, 3, 2, 4, 5)
    wanted = blocks.reshape(*blocks.shape[:3], -1)
    guess = _slid(joined, wanted, fitted)
    guess = guess.reshape(-1, rows, columns, fine_rows, fine_columns, targets.shape[2]).transpose(0, 1, 3, 2, 4, 5)
    whole = guess.reshape(-1, rows * fine_rows, columns * fine_columns, targets.shape[2])
    return [_resized(whole, GRID, GRID).reshape(-1, *targets.shape[1:])]


def _slid(features: Array, wanted: Array, fitted: int) -> Array:
    """Ridge regression from the last axis of one to that of the other, all places being alike."""
    flat = _Hashing(features.shape[-1], MOST_LOCAL)(features.reshape(-1, features.shape[-1]))
    goal = wanted.reshape(-1, wanted.shape[-1])
    places = features.shape[1] * features.shape[2]
    chosen = np.random.default_rng(0).permutation(fitted * places)[:MOST_PLACES]
    known, goals = flat[chosen], goal[chosen]
    centre, mean = known.mean(axis=0), goals.mean(axis=0)
    known = known - centre
    gram = (known.T @ known).astype(np.float64)
    gram[np.diag_indices_from(gram)] += _LOCAL_PENALTY * (float(np.trace(gram)) / len(gram) or 1.0)
    weights = np.linalg.solve(gram, known.T @ (goals - mean))
    return np.asarray((flat[fitted * places :] - centre) @ weights + mean)


def _maps(arrays: Sequence[Array], picture: _Picture) -> Array | None:
    """(samples, rows, columns, channels) float32 of a tensor that is a map of the picture; None where it is none."""
    shape = np.shape(arrays[0])
    if len(shape) != 4 or shape[0] != 1:
        return None
    for last in (picture.last, not picture.last):
        rows, columns = shape[1:3] if last else shape[2:4]
        if min(rows, columns) > 1 and abs(rows * picture.width / (columns * picture.height) - 1) <= 1 / min(
            rows, columns
        ):
            # A map as fine as the picture is brought to the grid one by one: all together may not fit into memory.
            fit = min(rows, GRID), min(columns, GRID)
            return np.concatenate([_resized(_channels_last(array, last), *fit) for array in arrays])
    return None


def _around(maps: Array) -> Array:
    """Each place with the eight around it; what lies outside repeats the edge."""
    rows, columns = maps.shape[1:3]
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    steps = itertools.product(range(3), range(3))
    return np.concatenate([padded[:, r : r + rows, c : c + columns] for r, c in steps], axis=-1)


# --- sizes ---


def _flat(array: Array) -> Array:
    return np.nan_to_num(np.asarray(array, np.float32).reshape(-1), posinf=0, neginf=0)


def _channels_last(array: Array, last: bool) -> Array:
    found = np.nan_to_num(np.asarray(array, np.float32), posinf=0, neginf=0)
    return found if last else np.asarray(found.transpose(0, 2, 3, 1))


def _resized(maps: Array, rows: int, columns: int) -> Array:
    """(n, rows, columns, channels) of means over the area that each place covers."""
    if maps.shape[1:3] == (rows, columns):
        return maps
    found = np.einsum("rh,nhwc->nrwc", _pieces(maps.shape[1], rows), maps, optimize=True)
    return np.asarray(np.einsum("cw,nrwk->nrck", _pieces(maps.shape[2], columns), found, optimize=True))


def _pieces(size: int, count: int) -> Array:
    """(count, size) float32: row i takes the mean of the i-th of `count` equal parts of a line of `size` numbers."""
    edges = np.linspace(0, size, count + 1)
    places = np.arange(size)
    overlap = np.minimum(edges[1:, None], places + 1) - np.maximum(edges[:-1, None], places)
    return np.asarray(np.clip(overlap, 0, None) * (count / size), np.float32)
