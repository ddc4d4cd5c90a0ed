"""Golden requests: samples with each variant's answer, to run on a device before a plan is kept there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_sdk.building.figures import Observed
from edge_sdk.bundle import Answer, Golden
from edge_sdk.compress.data import Data, spread
from edge_sdk.compress.running import Subject, isa_name

__all__ = ["golden_requests", "golden_samples"]

SAMPLES = 2
MAX_BYTES = 4 << 20
"""Of one sample's inputs and outputs: a second one is left out beyond it, to keep the bundle small."""

_TOLERANCES = (("int4", 0.1), ("weights only", 0.02), ("int8", 0.1), ("float16", 0.02), ("bfloat16", 0.1))
_FLOAT_TOLERANCE = 1e-3
"""Other kernels add in another order, which changes float32 by about 1e-5 and moves int8 values by a step or two; a
kernel that saturates, or reads a layout wrongly, is off by far more."""


def golden_samples(data: Data | None, source: Subject) -> tuple[Mapping[str, Any], ...]:
    """Feeds for golden requests: of the data, else made up; none where the model does not run on those."""
    if data is None:
        feeds = source.made_up()
        return () if feeds is None else (feeds,)
    places = spread(len(data.feeds), SAMPLES if _size(data.feeds[0]) <= MAX_BYTES else 1)
    return tuple(data.feeds[place] for place in places)


def golden_requests(
    samples: Sequence[Mapping[str, Any]], variants: Sequence[tuple[str, str, Observed]]
) -> list[Golden]:
    """One golden request a sample, with the answers of variants given by name, precision and what was observed.

    Outputs that are no arrays (sequences, maps) cannot be kept and are left out.
    """
    requests: list[Golden] = []
    for index, feeds in enumerate(samples):
        if requests and any(_size(observed.answers[0]) > MAX_BYTES for _, _, observed in variants):
            break
        answers = {
            name: Answer(
                outputs={key: v for key, v in observed.answers[index].items() if isinstance(v, np.ndarray)},
                tolerance=tolerance(precision),
                engine=observed.engine,
                isa=isa_name(),
            )
            for name, precision, observed in variants
        }
        requests.append(Golden(dict(feeds), {name: answer for name, answer in answers.items() if answer.outputs}))
    return requests


def _size(arrays: Mapping[str, Any]) -> int:
    return sum(array.nbytes for array in arrays.values() if isinstance(array, np.ndarray))


def tolerance(precision: str) -> float:
    """The largest difference allowed on another device, relative to the spread of the expected output."""
    return next((most for word, most in _TOLERANCES if word in precision), _FLOAT_TOLERANCE)
