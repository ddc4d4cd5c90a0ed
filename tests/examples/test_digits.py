"""The digits network of the demo: trained briefly, it reads digits that it has never seen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("onnx")
pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def test_a_short_training_reads_most_digits_through_a_session(tmp_path: Path) -> None:
    train = [sys.executable, str(DIGITS / "train.py"), "--out", str(tmp_path), "--epochs", "3"]
    said = subprocess.run(train, check=True, capture_output=True, text=True).stdout
    assert "trained on 1437 digits" in said
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 10
    score = [sys.executable, str(DIGITS / "score.py"), str(tmp_path)]
    said = subprocess.run(score, check=True, capture_output=True, text=True).stdout
    found = re.match(r"(\d+) of 360 digits right .*; ran on onnxruntime", said)
    assert found is not None, said
    assert int(found[1]) > 320
