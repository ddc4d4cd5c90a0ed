"""A gate tells from class scores whether an answer may stand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import EngineError, InputValueError
from edge_sdk.offload import Gate
from edge_sdk.offload.gate import SCORES, confidences, form_of
from edge_sdk.tensors import Quantization, TensorSpec

LOGITS = np.log([[0.7, 0.2, 0.1]])
SHARES = np.array([[0.7, 0.2, 0.1]])
ENTROPY = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))


class TestScores:
    @pytest.mark.parametrize(("score", "expected"), [("probability", 0.7), ("margin", 0.5), ("entropy", -ENTROPY)])
    def test_logits_and_probabilities_tell_the_same(self, score: str, expected: float) -> None:
        assert confidences(LOGITS + 5, score, "logits") == pytest.approx([expected])
        assert confidences(SHARES, score, "probabilities") == pytest.approx([expected])

    def test_energy_is_the_log_of_the_sum_of_exponentials_and_bears_large_logits(self) -> None:
        assert confidences(LOGITS + 1000, "energy", "logits") == pytest.approx([1000.0])

    def test_energy_of_probabilities_says_nothing_and_is_refused(self) -> None:
        with pytest.raises(InputValueError, match="score of logits"):
            Gate("energy", 0.0, "y", "probabilities")

    @pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 3, 1, 1), (1, 1, 1, 3)])
    def test_one_row_may_have_any_of_these_shapes(self, shape: tuple[int, ...]) -> None:
        assert confidences(SHARES.reshape(shape), "margin", "probabilities") == pytest.approx([0.5])

    def test_each_entry_of_a_batch_is_a_row(self) -> None:
        rows = np.array([[0.9, 0.1], [0.4, 0.6]])
        for array in (rows, rows.reshape(2, 2, 1, 1), rows.reshape(1, 2, 1, 2)):
            assert confidences(array, "probability", "probabilities") == pytest.approx([0.9, 0.6])

    def test_a_single_class_stands_against_its_absence(self) -> None:
        assert confidences(np.array([[0.2]]), "probability", "probabilities") == pytest.approx([0.8])
        assert confidences(np.array([[0.0]]), "margin", "logits") == pytest.approx([0.0])

    def test_probabilities_that_rounding_made_zero_are_not_sure(self) -> None:
        nothing = np.zeros((1, 1001))
        assert confidences(nothing, "entropy", "probabilities") == pytest.approx([-math.log(1001)])
        assert confidences(nothing, "margin", "probabilities") == [0.0]

    @settings(max_examples=40)
    @given(st.lists(st.floats(width=32), min_size=1, max_size=6), st.sampled_from(SCORES))
    def test_any_numbers_give_a_score_and_nan_is_never_sure(self, row: list[float], score: str) -> None:
        found = confidences(np.array([row]), score, "logits")
        assert found.shape == (1,)
        assert not np.isnan(found).any()
        if any(math.isnan(number) for number in row):
            assert found[0] == -math.inf


class TestOneRow:
    """The gate has a shorter way for a single row."""

    @settings(max_examples=60)
    @given(
        st.lists(st.floats(-60, 60) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1, max_size=6),
        st.sampled_from(SCORES),
    )
    def test_it_says_the_same_as_the_long_one(self, row: list[float], score: str) -> None:
        array = np.array([row])
        expected = confidences(array, score, "logits")[0]
        for threshold, sure in ((expected - 1e-6, True), (expected + 1e-6, False)):
            if np.isfinite(expected):
                assert Gate(score, threshold, "y").sure({"y": array}) is sure
            else:
                assert Gate(score, 0.5, "y").sure({"y": array}) is bool(expected >= 0.5)

    @pytest.mark.parametrize("score", ["probability", "margin", "entropy"])
    def test_so_it_does_of_probabilities(self, score: str) -> None:
        expected = confidences(SHARES, score, "probabilities")[0]
        for place in (SHARES, SHARES[0], SHARES.reshape(1, 3, 1, 1)):
            assert Gate(score, expected - 1e-9, "y", "probabilities").sure({"y": place})
            assert not Gate(score, expected + 1e-9, "y", "probabilities").sure({"y": place})
        assert not Gate(score, -9.0, "y", "probabilities").sure({"y": np.array([[0.5, math.nan]])})

    def test_rows_of_a_single_class_are_several(self) -> None:
        gate = Gate("probability", 0.7, "y", "probabilities")
        assert gate.sure({"y": np.array([[0.9], [0.1]])})
        assert not gate.sure({"y": np.array([[0.9], [0.4]])})


class TestForm:
    def test_it_is_told_from_the_numbers(self) -> None:
        assert form_of(SHARES) == "probabilities"
        assert form_of(LOGITS) == "logits"
        assert form_of(np.array([[0.5, 0.1, 0.1]])) == "logits"
        assert form_of(np.array([[0.2], [1.0]])) == "probabilities"
        assert form_of(np.array([[math.nan, 1.0]])) == "logits"

    def test_probabilities_in_steps_of_a_256th_need_not_add_up(self) -> None:
        shares = np.full((1, 1001), 0.4 / 1000)
        shares[0, 7] = 0.6
        assert form_of(np.round(shares * 256) / 256) == "probabilities"


class TestGate:
    def test_all_rows_must_be_sure(self) -> None:
        gate = Gate("probability", 0.8, "y", "probabilities")
        assert gate.sure({"y": np.array([[0.9, 0.1], [0.1, 0.9]])})
        assert not gate.sure({"y": np.array([[0.9, 0.1], [0.5, 0.5]])})

    def test_quantised_outputs_are_read_as_what_they_stand_for(self) -> None:
        spec = TensorSpec("y", "uint8", (1, 2), quantization=Quantization((1 / 256,), (0,)))
        gate = Gate("probability", 0.8, "y", "probabilities")
        assert gate.sure({"y": np.array([[230, 26]], np.uint8)}, {"y": spec})
        assert not gate.sure({"y": np.array([[130, 126]], np.uint8)}, {"y": spec})

    def test_an_output_that_is_not_there_or_holds_words_is_told(self) -> None:
        gate = Gate("margin", 0.5, "scores")
        with pytest.raises(EngineError, match="looks at output 'scores'; the model gives y"):
            gate.sure({"y": SHARES})
        with pytest.raises(EngineError, match="expected numbers"):
            gate.sure({"scores": np.array(["cat"], object)})

    @pytest.mark.parametrize(
        "wrong", [{"score": "luck"}, {"form": "percent"}, {"threshold": math.nan}], ids=lambda given: next(iter(given))
    )
    def test_what_cannot_be_is_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(InputValueError, match="expected"):
            Gate(**{"score": "margin", "threshold": 0.5, "output": "y", **wrong})  # type: ignore[arg-type]
