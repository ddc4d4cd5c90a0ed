"""The guard: a variant is run on data and compared with its source before anyone relies on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk import signature as signatures
from edge_sdk.compress.answers import Comparing
from edge_sdk.compress.data import Data
from edge_sdk.compress.layers import LayerError, layer_errors
from edge_sdk.compress.running import Subject, isa_name, logical_signature
from edge_sdk.compress.scores import Metric, metric_for
from edge_sdk.errors import InputValueError
from edge_sdk.tensors import Array

__all__ = ["Guard", "LayerError", "Verdict"]

KEPT_BYTES = 512 << 20
"""Answers of the source up to this size are kept; beyond it the source runs again beside each variant."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a variant fared against its source.

    Attributes:
        passed: whether `drop` is within the bound.
        agreement: of classifiers the share of samples with the same best class as the source; of known detectors the
            share of boxes that both found (F1 at an overlap of one half); None of others.
        mean_error: mean over samples of |variant - source| / |source| (Euclidean; the output that differs most counts).
        accuracy: the metric of the variant where there are labels; None otherwise.
        drop: with labels the source's metric minus the variant's; without them 1 - agreement, and `mean_error` where
            there is no agreement.
        why: one line.
        samples: how many were run.
        engine, isa: what it was run on.
        metric: name of the figure that decided: "top-1", "mAP", "agreement", "mean error", …
        source_accuracy: the metric of the source where there are labels.
        data: name of the data.
    """

    passed: bool
    agreement: float | None
    mean_error: float
    accuracy: float | None
    drop: float | None
    why: str
    samples: int = 0
    engine: str = ""
    isa: str = ""
    metric: str = ""
    source_accuracy: float | None = None
    data: str = ""


class Guard:
    """Compares variants with one source on data. The source runs once, when the first variant is judged.

    Args:
        source: the model file.
        data: what to run on.
        max_drop: the largest drop that passes.
        metric: how to score; None for what fits the labels.

    Raises:
        InputValueError: `max_drop` is no number from 0 to 1.
        InputError: the metric does not fit the labels.
    """

    def __init__(self, source: Path, data: Data, max_drop: float = 0.01, metric: Metric | None = None) -> None:
        if not 0 <= max_drop <= 1:
            raise InputValueError(f"max_drop is {max_drop!r}; expected a share from 0 to 1, such as 0.01")
        self.source, self.data, self.max_drop = Path(source), data, max_drop
        self.metric = metric if metric is not None else metric_for(data)
        self._answers: list[Mapping[str, Array]] = []
        self._accuracy: float | None = None
        self._signature: signatures.Signature | None = None

    @property
    def signature(self) -> signatures.Signature:
        """What the source takes and gives."""
        self._run_source()
        assert self._signature is not None
        return self._signature

    @property
    def source_accuracy(self) -> float | None:
        """The metric of the source; None without labels."""
        self._run_source()
        return self._accuracy

    def judge(self, file: Path, mapping: signatures.Mapping | None = None) -> Verdict:
        """Runs a variant on the data and compares it with the source.

        Args:
            file: the variant.
            mapping: how its tensors map to those of the source; None where they bear the same names.

        Raises:
            ModelError: no engine loads it.
            EngineError: it fails while running.
            InputError: it takes other inputs than the source.
        """
        self._run_source()
        comparing = Comparing(self.data.detector)
        tally = self.metric.start() if self.metric is not None else None
        with Subject(Path(file), mapping, self._signature) as variant:
            for index, (feeds, expected) in enumerate(self._expected()):
                answer = variant.answer(feeds)
                comparing.add(expected, answer)
                if tally is not None and self.data.labels is not None:
                    tally.add(answer, self.data.labels[index])
            engine = variant.engine
        accuracy = None if tally is None else tally.result()
        return self._verdict(comparing, accuracy, engine)

    def layers(self, file: Path) -> tuple[LayerError, ...]:
        """Which layers of a variant lie furthest from the source, the one that adds most error first.

        Tensors are compared that bear the same name in both files. Empty where there is none.

        Raises:
            ModelError: no engine loads it.
            MissingExtra: ONNX without the extra `graph`, TFLite without the extra `tflite`.
        """
        return layer_errors(self.source, Path(file), self.data)

    def _verdict(self, comparing: Comparing, accuracy: float | None, engine: str) -> Verdict:
        agreement, mean_error = comparing.agreement, comparing.mean_error
        if accuracy is not None and self._accuracy is not None and self.metric is not None:
            drop, metric = self._accuracy - accuracy, self.metric.name
            told = f"{metric} {_share(accuracy)} against {_share(self._accuracy)} of the source"
        elif agreement is not None:
            drop, metric = 1 - agreement, "agreement"
            told = f"agrees with the source on {_share(agreement)} of {comparing.counted}"
        else:
            drop, metric = mean_error, "mean error"
            told = f"differs from the source by {mean_error:.2g} of its size"
        # A figure for a model that gives NaN where the source does not is worth nothing, whatever the labels say.
        passed = bool(drop <= self.max_drop + 1e-12 and np.isfinite(mean_error))
        bound = f"within the bound of {self.max_drop:g}" if passed else f"beyond the bound of {self.max_drop:g}"
        if comparing.not_finite:
            bound = f"{comparing.not_finite} samples give NaN or infinity where the source does not"
        samples, isa = len(self.data.feeds), isa_name()
        why = f"{told}: {bound} ({samples} samples of {self.data.name}, {engine}, {isa})"
        return Verdict(
            passed=passed,
            agreement=agreement,
            mean_error=mean_error,
            accuracy=accuracy,
            drop=drop,
            why=why,
            samples=samples,
            engine=engine,
            isa=isa,
            metric=metric,
            source_accuracy=self._accuracy,
            data=self.data.name,
        )

    def _run_source(self) -> None:
        if self._signature is not None:
            return
        tally = self.metric.start() if self.metric is not None else None
        kept, kept_bytes = [], 0
        with Subject(self.source, foreign=True) as source:
            for index, feeds in enumerate(self.data.feeds):
                answer = source.answer(feeds)
                if tally is not None and self.data.labels is not None:
                    tally.add(answer, self.data.labels[index])
                kept_bytes += sum(array.nbytes for array in answer.values())
                if kept_bytes <= KEPT_BYTES:
                    kept.append(answer)
            made = logical_signature(source.inputs, source.outputs)
        self._answers = list(kept)
        self._accuracy = None if tally is None else tally.result()
        self._signature = made

    def _expected(self) -> Iterator[tuple[Mapping[str, Array], Mapping[str, Array]]]:
        """Each sample with the source's answer to it."""
        kept = len(self._answers)
        for index in range(kept):
            yield self.data.feeds[index], self._answers[index]
        if kept < len(self.data.feeds):
            with Subject(self.source) as source:
                for index in range(kept, len(self.data.feeds)):
                    feeds = self.data.feeds[index]
                    yield feeds, source.answer(feeds)


def _share(figure: float) -> str:
    return f"{figure * 100:.1f} %" if figure < 0.9995 else f"{figure * 100:.2f} %".replace("100.00", "100")
