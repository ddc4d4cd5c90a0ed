"""A cascade of the shared ImageNet classifiers on handwritten digits, beside its two halves alone.

    python benchmarks/cascade.py [--quick] [--json] [--max-drop 0.01]

Digits are drawn large in the classifier's input, and a linear readout of its pooled features tells them apart (softmax
regression, fitted on its own part of the data). `edge_sdk.building.cascading` chooses score and threshold on a second
part, for an accuracy at most `--max-drop` below the big one's. All figures are of a third part, which neither
readouts nor gate have seen, run through the public `CascadeRunner`; latencies from the digit to the answer, resizing
included, the three in turn on the same digits.

JSON: `accuracy_small`, `accuracy_big`, `accuracy_cascade`, `latency_ratio` (mean latency by the big one's),
`escalated_share`, of the pair with the largest classifier; `rows` of all pairs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from edge_sdk.building.cascading import Answers, calibrated, is_held_out
from edge_sdk.engines.base import LoadOptions, PlacementReport, Runner
from edge_sdk.engines.registry import engines_for
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import single_cuts
from edge_sdk.graph.splitting import split_model
from edge_sdk.metrics import Histogram
from edge_sdk.offload import CascadeRunner, gate_of
from edge_sdk.tensors import Array, TensorSpec

ASSETS = Path(__file__).resolve().parents[1].parent / "shared" / "assets"
SMALL, BIG = "mobilenet_v1_025_128", ("mobilenet_v1_075_192", "mobilenet_v2_224")
PARTS = (0.35, 0.45, 0.2)
QUICK_DIGITS = 5000
BLOCK = 25
STEPS, PENALTY = 200, 3e-3


@dataclass(frozen=True)
class Row:
    """One pair, on digits that nothing was fitted to.

    Attributes:
        latency_ratio: mean latency of the cascade by the big one's.
        *_ms: mean latencies.
        score, threshold: of the gate; `chosen_on` digits.
        digits: how many were judged.
    """

    small: str
    big: str
    accuracy_small: float
    accuracy_big: float
    accuracy_cascade: float
    escalated_share: float
    latency_ratio: float
    small_ms: float
    big_ms: float
    cascade_ms: float
    score: str
    threshold: float
    chosen_on: int
    digits: int


class DigitReader(Runner):
    """A classifier up to its pooled features, fed digits; a linear readout gives the logits of the ten."""

    engine = "litert"
    inputs = (TensorSpec("digit", "uint8", (1, 28, 28)),)
    outputs = (TensorSpec("logits", "float32", (1, 10)),)

    def __init__(self, name: str) -> None:
        with open_model(ASSETS / "models" / f"{name}_int8.tflite") as model:
            graph = open_graph(model)
            pooled = next(c for c in single_cuts(graph) if graph.tensors[c.tensors[0]].shape[:3] == (1, 1, 1))
            head = split_model(model, pooled, graph=graph).head
        self.options = LoadOptions(threads=1, spin=False)
        self._runner = engines_for("tflite")[0].load(open_model(head, name=name), self.options)
        self.model, self.queue = name, Histogram()
        self._input = self._runner.inputs[0]
        self._size = self._input.shape[1]
        self._mean = self._scale = self._weights = np.zeros(0, np.float32)

    def fit(self, digits: Array, labels: Array) -> None:
        """Fits the readout."""
        features = np.stack([self.features(digit[None]) for digit in digits])
        self._mean, self._scale = features.mean(axis=0), 1 / (features.std(axis=0) + 0.5)
        self._weights = softmax_regression(self._ready(features), labels)

    def features(self, digit: Array) -> Array:
        """Pooled features of one digit, as stored."""
        large = cv2.resize(digit[0], (self._size, self._size), interpolation=cv2.INTER_LINEAR)
        answer = self._runner.run({self._input.name: np.repeat(large[None, :, :, None], 3, axis=3)})
        return next(iter(answer.values())).ravel().astype(np.float32)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"logits": self._ready(self.features(feeds["digit"])[None]) @ self._weights}

    def placement(self) -> PlacementReport:
        return self._runner.placement()

    def close(self) -> None:
        self._runner.close()

    def _ready(self, features: Array) -> Array:
        scaled = (features - self._mean) * self._scale
        return np.concatenate([scaled, np.ones((len(scaled), 1), np.float32)], axis=1)


def softmax_regression(features: Array, labels: Array) -> Array:
    """Weights (features, 10) by Nesterov's gradient descent with a quadratic penalty."""
    count = len(features)
    wanted = np.eye(10, dtype=np.float32)[labels]
    # The largest eigenvalue bounds the curvature, by a few steps of the power method.
    direction = np.ones(features.shape[1], np.float32)
    for _ in range(20):
        direction = features.T @ (features @ direction)
        size = float(np.linalg.norm(direction))
        direction /= size
    rate = 1 / (size / count / 2 + PENALTY)
    weights = ahead = np.zeros((features.shape[1], 10), np.float32)
    for step in range(1, STEPS + 1):
        logits = features @ ahead
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        slope = features.T @ (powers / powers.sum(axis=1, keepdims=True) - wanted) / count + PENALTY * ahead
        after = ahead - rate * slope
        ahead, weights = after + (step - 1) / (step + 2) * (after - weights), after
    return weights


def read_digits(count: int | None) -> tuple[Array, Array]:
    """Pictures uint8 (n, 28, 28) and labels of the shared MNIST test set."""
    folder = ASSETS / "datasets" / "mnist_t10k" / "data"
    pictures = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    # The first half of the set is easier than the second.
    order = np.random.default_rng(0).permutation(len(labels))[:count]
    digits = np.frombuffer(pictures, np.uint8).reshape(-1, 28, 28)
    return digits[order], np.frombuffer(labels, np.uint8)[order].astype(int)


def logits_of(runner: Runner, digits: Array) -> list[Array]:
    return [runner.run({"digit": digit[None]})["logits"] for digit in digits]


def mean_ms(runners: Sequence[Runner], digits: Array) -> tuple[list[float], list[list[Array]]]:
    """Mean latency of each on all digits, block by block in turn, and their logits."""
    spent, answers = [0.0] * len(runners), [[] for _ in runners]
    for start in range(0, len(digits), BLOCK):
        for place, runner in enumerate(runners):
            runner.run({"digit": digits[start][None]})  # what the one before left in the caches is not its doing
            for digit in digits[start : start + BLOCK]:
                began = time.perf_counter()
                answer = runner.run({"digit": digit[None]})
                spent[place] += time.perf_counter() - began
                answers[place].append(answer["logits"])
    return [seconds / len(digits) * 1e3 for seconds in spent], answers


def right(logits: Sequence[Array], labels: Array) -> Array:
    return (np.concatenate(logits).argmax(axis=1) == labels).astype(float)


def measured(small: DigitReader, big: DigitReader, digits: Array, labels: Array, max_drop: float) -> Row:
    """One pair: the gate on the second part, the figures on the third."""
    first, second = (int(edge * len(digits)) for edge in np.cumsum(PARTS)[:2])
    choosing, told = digits[first:second], labels[first:second]
    said = logits_of(small, choosing)
    (small_ms, big_ms), _ = mean_ms([small, big], choosing[: 4 * BLOCK])
    answers = Answers(
        said,
        right(said, told),
        right(logits_of(big, choosing), told),
        np.array([is_held_out({"digit": digit}) for digit in choosing]),
    )
    made = calibrated(
        answers, output="logits", small=small.model, big=big.model, max_drop=max_drop, scores=("margin", "entropy"),
        latencies_ms=(small_ms, big_ms), data="digits",
    )  # fmt: skip
    cascade = CascadeRunner(small, big, gate_of(made))
    held, truth = digits[second:], labels[second:]
    (small_ms, big_ms, cascade_ms), (of_small, of_big, of_cascade) = mean_ms([small, big, cascade], held)
    # Not the runner's own figures, which count the warm-up of each block too.
    unsure = [not cascade.gate.sure({"logits": row}) for row in of_small]
    return Row(
        small=small.model,
        big=big.model,
        accuracy_small=float(right(of_small, truth).mean()),
        accuracy_big=float(right(of_big, truth).mean()),
        accuracy_cascade=float(right(of_cascade, truth).mean()),
        escalated_share=float(np.mean(unsure)),
        latency_ratio=cascade_ms / big_ms,
        small_ms=small_ms,
        big_ms=big_ms,
        cascade_ms=cascade_ms,
        score=made.score,
        threshold=made.threshold,
        chosen_on=made.samples,
        digits=len(truth),
    )


def printed(row: Row) -> str:
    return (
        f"{row.small:22} {row.big:22} {row.accuracy_small:8.1%} {row.accuracy_big:8.1%} {row.accuracy_cascade:8.1%}"
        f" {row.escalated_share:9.1%} {row.small_ms:8.2f} {row.big_ms:8.2f} {row.cascade_ms:8.2f}"
        f" {row.latency_ratio:7.2f}"
        f"  {row.score} from {row.threshold:.3f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half of the digits, and the largest pair only")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--max-drop", type=float, default=0.01, help="of the accuracy, below the big one's")
    arguments = parser.parse_args()
    if not ASSETS.is_dir():
        print("the shared models and digits are not here", file=sys.stderr)
        return 1
    digits, labels = read_digits(QUICK_DIGITS if arguments.quick else None)
    fitted = int(PARTS[0] * len(digits))
    rows = []
    with ExitStack() as stack:
        readers = [DigitReader(name) for name in (SMALL, *(BIG[-1:] if arguments.quick else BIG))]
        for reader in readers:
            stack.callback(reader.close)
            reader.fit(digits[:fitted], labels[:fitted])
        print(f"{'small':22} {'big':22}    small      big  cascade escalated small ms   big ms  both ms   ratio  gate")
        for big in readers[1:]:
            rows.append(measured(readers[0], big, digits, labels, arguments.max_drop))
            print(printed(rows[-1]), flush=True)
    last = rows[-1]
    below = last.accuracy_big - last.accuracy_cascade
    print(f"held out: {last.digits} digits; {below:+.2%} below the big one at {last.latency_ratio:.2f} of its latency")
    if arguments.json:
        told = ("accuracy_small", "accuracy_big", "accuracy_cascade", "latency_ratio", "escalated_share")
        print(json.dumps({name: getattr(last, name) for name in told} | {"rows": [asdict(row) for row in rows]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
