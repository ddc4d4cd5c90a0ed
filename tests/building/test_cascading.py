"""The gate of a cascade: chosen on some samples with a bound on the drop, judged on others, refused if it fails."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.building.cascading import Answers, calibrated, is_held_out
from edge_sdk.errors import CompressionError, InputValueError
from edge_sdk.offload.gate import confidences, gate_of
from edge_sdk.tensors import Array


def answers(count: int = 4000, *, seed: int = 0, hard_share: float = 0.2, overconfident: float = 0.0) -> Answers:
    """A small model that is right where it is sure and guesses on hard samples; a big one that is right on 98 %.

    Args:
        overconfident: share of the samples on which it is sure and wrong.
    """
    chance = np.random.default_rng(seed)
    labels = chance.integers(3, size=count)
    hard, wrong = chance.random(count) < hard_share, chance.random(count) < overconfident
    said = np.where(wrong, (labels + 1) % 3, np.where(hard, chance.integers(3, size=count), labels))
    logits = chance.normal(0, 0.3, (count, 3))
    logits[np.arange(count), said] += np.where(hard & ~wrong, 0.8, 6) + chance.normal(0, 0.3, count)
    small = (logits.argmax(axis=1) == labels).astype(float)
    big = (chance.random(count) < 0.98).astype(float)
    return Answers([row[None] for row in logits], small, big, chance.random(count) < 0.5)


class TestChoosing:
    @pytest.mark.parametrize("score", ["probability", "margin", "entropy", "energy"])
    def test_every_score_finds_the_easy_samples(self, score: str) -> None:
        found = calibrated(answers(), output="y", scores=(score,))
        assert found.score == score
        assert 0.1 < found.escalated_share < 0.3
        assert found.accuracy >= found.big_accuracy - 0.01
        assert found.small_accuracy < 0.9

    def test_the_record_tells_what_it_was_made_of(self) -> None:
        given = answers()
        found = calibrated(given, output="y", small="int8", big="fp32", data="digits", latencies_ms=(1.0, 10.0))
        assert (found.small, found.big, found.output, found.form, found.data) == (
            "int8",
            "fp32",
            "y",
            "logits",
            "digits",
        )
        assert found.samples + found.held_out == 4000
        assert found.latency_ratio == pytest.approx(0.1 + found.escalated_share)
        gate = gate_of(found)
        stands = [gate.sure({"y": row}) for row, out in zip(given.scores, given.held_out, strict=True) if out]
        assert 1 - np.mean(stands) == pytest.approx(found.escalated_share)

    def test_the_true_drop_is_within_the_bound_as_often_as_promised(self) -> None:
        """Chosen on few samples each time, and judged on very many of the same kind."""
        many = answers(60_000, seed=99, overconfident=0.004)
        rows, beyond = np.concatenate(many.scores), 0
        for seed in range(12):
            few = answers(2400, seed=seed, overconfident=0.004)
            try:
                found = calibrated(few, output="y", max_drop=0.01, risk=0.1, scores=("margin",))
            except CompressionError:
                continue
            gate = gate_of(found)
            stands = confidences(rows, gate.score, gate.form) >= gate.threshold
            beyond += np.where(stands, many.big - many.small, 0).mean() > 0.0108  # 60,000 samples tell that from 0.01
        assert beyond <= 2

    def test_a_looser_bound_sends_fewer_requests_up(self) -> None:
        shares = [
            calibrated(answers(), output="y", max_drop=drop, scores=("margin",)).escalated_share
            for drop in (0.005, 0.02, 0.08)
        ]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] > shares[-1]

    def test_probabilities_are_known_as_such_and_have_no_energy(self) -> None:
        given = answers()
        powers = [np.exp(row) / np.exp(row).sum() for row in given.scores]
        found = calibrated(Answers(powers, given.small, given.big, given.held_out), output="y")
        assert found.form == "probabilities"
        assert found.score != "energy"

    def test_figures_between_right_and_wrong_are_bounded_too(self) -> None:
        given = answers(20_000)
        halves = Answers(given.scores, given.small * 0.9 + 0.05, given.big * 0.9 + 0.05, given.held_out)
        found = calibrated(halves, output="y", max_drop=0.02, metric="IoU")
        assert found.accuracy >= found.big_accuracy - 0.02
        assert found.escalated_share < 0.5

    def test_the_least_sure_row_of_a_sample_counts(self) -> None:
        given = answers()
        unsure: Array = np.zeros((1, 3))
        rows = [np.concatenate([row, unsure]) for row in given.scores]
        found = calibrated(given, output="y", scores=("margin",))
        with pytest.raises(CompressionError):
            calibrated(Answers(rows, given.small, given.big, given.held_out), output="y", scores=("margin",))
        assert found.escalated_share < 0.3

    def test_equal_scores_stay_on_one_side(self) -> None:
        """A quantised model has few different scores; between equal ones there is no threshold."""
        chance = np.random.default_rng(0)
        sure = chance.random(4000) < 0.5
        rows = [np.array([[4.0, 0.0]]) if one else np.array([[1.0, 0.0]]) for one in sure]
        small = np.where(sure, 1.0, chance.random(4000) < 0.6)
        found = calibrated(Answers(rows, small, np.ones(4000), chance.random(4000) < 0.5), output="y")
        assert found.escalated_share == pytest.approx(0.5, abs=0.05)
        assert found.accuracy == 1


class TestRefusals:
    def test_too_few_samples_say_how_many_it_takes(self) -> None:
        with pytest.raises(
            CompressionError, match=r"cannot show that a drop is within 0\.01; give 6\d\d samples or more"
        ):
            calibrated(answers(200), output="y")

    def test_a_small_model_that_is_sure_and_wrong(self) -> None:
        given = answers()
        with pytest.raises(CompressionError, match="even where the small one is surest it is wrong too often"):
            calibrated(Answers(given.scores, np.zeros(4000), given.big, given.held_out), output="y", max_drop=0.003)

    def test_what_does_not_hold_on_held_out_samples(self) -> None:
        given, worse = answers(), answers(overconfident=0.1)
        rows = [b if out else a for a, b, out in zip(given.scores, worse.scores, given.held_out, strict=True)]
        small = np.where(given.held_out, worse.small, given.small)
        with pytest.raises(
            CompressionError, match=r"on \d+ held-out samples it is 0\.\d+ below the big one, more than"
        ):
            calibrated(Answers(rows, small, given.big, given.held_out), output="y")

    def test_what_does_not_pay(self) -> None:
        with pytest.raises(
            CompressionError, match=r"does not pay: 9 ms for each request and 10 ms more for \d+% of them"
        ):
            calibrated(answers(), output="y", latencies_ms=(9.0, 10.0))

    def test_arguments_that_cannot_be(self) -> None:
        given = answers(100)
        with pytest.raises(InputValueError, match="expected shares"):
            calibrated(given, output="y", max_drop=0)
        with pytest.raises(InputValueError, match="one of each a sample"):
            Answers(given.scores[:-1], given.small, given.big, given.held_out)
        with pytest.raises(InputValueError, match="less than 0 or more than 1"):
            Answers(given.scores, given.small * 2, given.big, given.held_out)
        with pytest.raises(CompressionError, match="cannot be divided"):
            calibrated(Answers(given.scores, given.small, given.big, np.zeros(100, bool)), output="y")


class TestHeldOut:
    def test_about_a_third_is_and_always_the_same(self) -> None:
        feeds = [{"x": np.full((2, 2), n, np.float32), "word": np.array(["a"], object)} for n in range(400)]
        first = [is_held_out(one) for one in feeds]
        assert first == [is_held_out(dict(reversed(one.items()))) for one in feeds]
        assert 100 < sum(first) < 170
