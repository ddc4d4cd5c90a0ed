"""How much memory a variant takes once it is loaded and runs: an estimate from its weights and activations.

A line fitted to the growth of the process (proportional set size) for ten networks from 1 to 45 MB of weights; within a
quarter of what was seen for nine of them. `edge-sdk bench` measures it.
"""

from __future__ import annotations

__all__ = ["memory_mb"]

BASE_MB = 12.0
"""Arenas, thread stacks and code pages that any model touches."""
_SHARES = {"onnxruntime": (2.8, 2.0), "litert": (1.2, 1.4)}
"""By engine: how often weights (as read, as kept, as packed for the kernels) and peak activations count."""
_UNKNOWN = (2.8, 2.0)


def memory_mb(engine: str, parameter_bytes: int, peak_activation_bytes: int) -> float:
    """Growth of the process in MiB.

    Args:
        engine: its name.
        parameter_bytes: all weights as the file stores them.
        peak_activation_bytes: the most that activations take at one moment.
    """
    weights, activations = _SHARES.get(engine, _UNKNOWN)
    return round(BASE_MB + (weights * parameter_bytes + activations * peak_activation_bytes) / 2**20, 1)
