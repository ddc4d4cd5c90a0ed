"""Core designs: their names, how they rank, and how registers, compatible strings and SoC names tell them.

The figures are data (`cores.json`). Names and MIDR parts follow pytorch/cpuinfo where it has them; the ranks are this
project's own ordering, which only breaks ties where a machine tells neither capacities nor clocks that decide. The SoC
layouts serve only where cores are offline or no file names them, and yield to what the machine tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import msgspec

__all__ = [
    "CoreDesign",
    "SocLayout",
    "core_from_compatible",
    "core_from_midr",
    "core_from_x86",
    "design",
    "soc_layouts",
]

SocLayout = tuple[tuple[int, str], ...]


class CoreDesign(msgspec.Struct, frozen=True):
    """One design of a core.

    Attributes:
        rank: its place by speed at one clock among all designs; larger is faster. Only the order means anything.
        isa: features that every such core has and that need nothing of the kernel.
        lacks: features that some kernel wrongly lists for it.
        little: the design it was always paired with where it is the big one of two.
    """

    rank: int
    isa: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    little: str | None = None


class _X86Model(msgspec.Struct, frozen=True):
    """Which x86 models hold which core; no models means all of the family. `atom` is the second kind of a hybrid."""

    vendor: str
    family: int
    models: tuple[int, ...]
    core: str
    atom: str | None = None
    steppings: tuple[int, int] | None = None


class _Table(msgspec.Struct, frozen=True):
    designs: dict[str, CoreDesign]
    midr: dict[str, dict[str, str | dict[str, str]]]
    x86: tuple[_X86Model, ...]
    socs: dict[str, SocLayout]


@lru_cache(maxsize=1)
def _table() -> _Table:
    content = Path(__file__).with_name("cores.json").read_bytes()
    return msgspec.json.decode(content, type=_Table)


def design(core: str | None) -> CoreDesign | None:
    """The design of that name; None where it is unknown."""
    return None if core is None else _table().designs.get(core)


def core_from_midr(midr: int) -> str | None:
    """Name of the core with this MIDR register ("cortex-a76"); None where implementer or part are unknown."""
    parts = _table().midr.get(f"{midr >> 24 & 0xFF:02x}", {})
    entry = parts.get(f"{midr >> 4 & 0xFFF:03x}")
    if isinstance(entry, dict):
        return entry.get(f"{midr >> 20 & 0xF:x}", entry.get("*"))
    return entry


def core_from_x86(vendor: str, family: int, model: int, stepping: int, *, efficient: bool = False) -> str | None:
    """Name of an x86 core.

    Args:
        vendor: as CPUID spells it ("GenuineIntel").
        family: display family, as `/proc/cpuinfo` has it.
        model: display model.
        stepping: as `/proc/cpuinfo` has it.
        efficient: whether the smaller kind of a hybrid is meant.
    """
    for entry in _table().x86:
        if entry.vendor != vendor or entry.family != family or (entry.models and model not in entry.models):
            continue
        if entry.steppings is not None and not entry.steppings[0] <= stepping <= entry.steppings[1]:
            continue
        return entry.atom if efficient else entry.core
    return None


def core_from_compatible(compatible: str) -> str | None:
    """Name of a core from a device tree's `compatible` ("arm,cortex-a55"); None where it names no known design."""
    for name in re.split(r"[\0\s]+", compatible.lower()):
        core = name.partition(",")[2]
        if core in _table().designs:
            return core
    return None


def soc_layouts(names: Iterable[str]) -> Iterator[SocLayout]:
    """The cores of the SoCs that go by these names, as (count, design) in the order in which Linux numbers its CPUs.

    Args:
        names: what is said of the machine ("Qualcomm Technologies, Inc MSM8994", "SAMSUNG Exynos7420", "mt6797"), most
            trusted first; names of no known SoC are passed over.
    """
    socs = _table().socs
    for name in names:
        words = re.findall(r"[a-z0-9][a-z0-9-]*", name[:256].lower())
        # "Kirin 980" and "Exynos 7420" are written as one word in the table.
        for word in words + [first + second for first, second in pairwise(words)]:
            layout = socs.get(re.sub(r"^(?:universal|smdk)(?=\d)", "exynos", word))
            if layout is not None:
                yield layout
