"""Trains the digits network on scikit-learn's handwritten digits and lays out what the demo runs on.

    python examples/digits/train.py --out FOLDER [--epochs 25]

Writes FOLDER/digits.onnx, labels.txt, held_out.npz (360 digits the network has never seen) and pictures/ (10 of them).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from network import DigitsNetwork
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT = 360
PICTURES = 10


def main() -> None:
    """Trains, then writes the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=25)
    arguments = parser.parse_args()

    data = load_digits()
    pictures = (data.images / 16).astype(np.float32)[:, None]
    order = np.random.default_rng(7).permutation(len(pictures))
    pictures, digits = pictures[order], data.target[order]
    network, random = DigitsNetwork(), np.random.default_rng(1)
    loss = 0.0
    for epoch in range(arguments.epochs):
        rate = 0.004 * (1 - epoch / arguments.epochs)
        shuffled = random.permutation(len(pictures) - HELD_OUT) + HELD_OUT
        for first in range(0, len(shuffled), 32):
            batch = shuffled[first : first + 32]
            loss = network.step(pictures[batch], digits[batch], rate)
    write(arguments.out, network, pictures[:HELD_OUT], digits[:HELD_OUT])
    print(f"trained on {len(pictures) - HELD_OUT} digits, last loss {loss:.4f}; wrote {arguments.out}/digits.onnx")


def write(folder: Path, network: DigitsNetwork, pictures: np.ndarray, digits: np.ndarray) -> None:
    """Writes model, labels, the held-out digits and some of them as PNG files."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    network.save(folder / "digits.onnx")
    (folder / "labels.txt").write_text("\n".join(NAMES) + "\n")
    np.savez(folder / "held_out.npz", picture=pictures, digit=digits)
    for index in range(PICTURES):
        picture = np.rint(pictures[index, 0] * 255).astype(np.uint8)
        cv2.imwrite(str(folder / "pictures" / f"{index:02d}_{NAMES[digits[index]]}.png"), picture)


if __name__ == "__main__":
    main()
