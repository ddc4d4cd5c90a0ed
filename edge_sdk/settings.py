"""What `edge_sdk.load` was asked for, checked and kept for as long as the session lives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from edge_sdk.engines.base import Engine, LoadOptions
from edge_sdk.errors import InputError

if TYPE_CHECKING:
    from edge_sdk.bundle import Bundle
    from edge_sdk.device.facts import Device
    from edge_sdk.device.utilization import UtilizationClamp
    from edge_sdk.offloading import Offload
    from edge_sdk.planner import Wish
    from edge_sdk.planner.batched import Batching
    from edge_sdk.schedule.capping import LimitedFrequencies

__all__ = ["ModelSource", "Settings", "checked_cpus", "checked_threads"]

ModelSource = Union[str, os.PathLike[str], bytes, "Bundle"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What `load` was asked for, kept for `swap`."""

    engine: str | Engine | None
    options: LoadOptions
    wish: Wish
    device: Device | None
    state: Mapping[str, str]
    float_io: bool
    check_finite: bool
    trusted: bool
    variant: str | None = None
    offload: Offload | None = None
    batching: Batching | None = None
    replan: bool = True
    keep_answers_bytes: int = 0
    clamp: UtilizationClamp | None = None
    frequencies: LimitedFrequencies | None = None


def checked_threads(threads: int | None) -> int | None:
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads is {threads!r}; expected a whole number, 1 or more")
    return threads


def checked_cpus(cpus: Sequence[int] | None) -> tuple[int, ...] | None:
    if cpus is None:
        return None
    from edge_sdk.device.affinity import usable_cpus

    wanted, usable = tuple(sorted(set(cpus))), usable_cpus()
    if not wanted or not set(wanted) <= set(usable):
        raise InputError(f"cpus is {list(cpus)}; expected one or more of those this process may use: {list(usable)}")
    return wanted
