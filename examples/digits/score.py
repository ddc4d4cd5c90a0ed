"""Scores the digits network on the pictures it has never seen.

python examples/digits/score.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np

import edge_sdk

folder = Path(sys.argv[1])
held_out = np.load(folder / "held_out.npz")
with edge_sdk.load(folder / "digits.onnx", sample=held_out["picture"][:1]) as session:
    answers = [session.run(picture[None])["shares"].argmax() for picture in held_out["picture"]]
    right = int((np.array(answers) == held_out["digit"]).sum())
    print(f"{right} of {len(answers)} digits right ({right / len(answers):.1%}); ran on {session.plan.reason}")
