"""Which shipped profile a probed device fits, and how sure that is.

Five kinds of facts are compared: the board's name, the chip, the cores, their clocks, the memory. Each agrees,
contradicts, or is unknown because no source on the device tells. The confidence is the weight of what agrees less the
weight of what contradicts, as a share of the whole, where what is unknown counts half: silence makes a match less
sure, contradiction makes it wrong.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from edge_sdk.device.facts import Cluster, Device, ProfileMatch
from edge_sdk.device.profile_form import Profile, ProfileCluster, ProfileMemory
from edge_sdk.device.profiles import read_profile, shipped_profiles
from edge_sdk.errors import EdgeError, StorageError
from edge_sdk.storage import cache_folder, write_whole

__all__ = ["THRESHOLD", "Agreement", "compare", "match_among", "match_profile", "shipped"]

THRESHOLD = 0.35
"""Below this no profile is named."""

_UNNAMED = 0.5
"""How sure a match can be at most where neither name nor chip is known: many devices share cores and clocks (a phone
with a Snapdragon 650 has those of an RK3399)."""

_AMBIGUOUS = 0.05
"""Two profiles nearer than this to each other are told apart by nothing that counts."""

_WEIGHTS = {
    "board": {"name": 0.40, "soc": 0.25, "cores": 0.20, "clocks": 0.10, "memory": 0.05},
    # Any board may carry the chip, so its name says nothing against it.
    "chip": {"name": 0.0, "soc": 0.50, "cores": 0.30, "clocks": 0.15, "memory": 0.05},
}
_CLOCK_TOLERANCE = 0.03
_RESERVED_SHARE = 0.25
"""Firmware and graphics keep up to this share of the memory from Linux."""

_NO_NAME = frozenset(
    {"", "unknown", "generic", "default string", "to be filled by o e m", "system product name", "linux"}
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What one kind of fact says: `score` from -1 (contradicts) over 0 (unknown) to 1 (agrees), `text` in words."""

    kind: str
    score: float
    text: str


def match_profile(device: Device) -> ProfileMatch | None:
    """The shipped profile that fits a probed device.

    Returns:
        Its name, a confidence from 0 to 1, and what agreed ("+ …"), contradicted ("- …") and was unknown ("? …"). None
        where no profile fits well enough, or two that only cores and clocks speak for fit alike.
    """
    return match_among(device, shipped())


def match_among(device: Device, profiles: Iterable[Profile]) -> ProfileMatch | None:
    """As `match_profile`, among given profiles."""
    ranked = sorted(
        ((_confidence(profile, facts), profile.name, facts) for profile, facts in _compared(device, profiles)),
        key=lambda item: (-item[0], item[1]),
    )
    if not ranked or ranked[0][0] < THRESHOLD:
        return None
    confidence, name, facts = ranked[0]
    identified = any(fact.score > 0 for fact in facts if fact.kind in ("name", "soc"))
    if not identified and not _unnamed_but_alike(facts):
        return None
    lines = [f"{'+' if f.score > 0 else '-' if f.score < 0 else '?'} {f.text}" for f in facts if f.text]
    if len(ranked) > 1 and confidence - ranked[1][0] < _AMBIGUOUS:
        if not identified:
            return None
        lines.append(f"? {ranked[1][1]} fits nearly as well")
        confidence *= 0.75
    confidence = confidence if identified else min(confidence, _UNNAMED)
    return ProfileMatch(name=name, confidence=round(confidence, 2), facts=tuple(lines))


def _unnamed_but_alike(facts: tuple[Agreement, ...]) -> bool:
    """Whether name and chip are unknown, and all the rest agrees. A name that no profile knows is not unknown."""
    scores = {fact.kind: fact.score for fact in facts}
    silent = all(not fact.score and "unknown" in fact.text for fact in facts if fact.kind in ("name", "soc"))
    return silent and scores["cores"] == 1.0 and scores["clocks"] == 1.0 and scores["memory"] >= 0


def _compared(device: Device, profiles: Iterable[Profile]) -> Iterator[tuple[Profile, tuple[Agreement, ...]]]:
    for profile in profiles:
        if _family(profile.arch) == _family(device.arch):
            yield profile, compare(device, profile)


def compare(device: Device, profile: Profile) -> tuple[Agreement, ...]:
    """Each kind of fact of a device beside that of a profile, in order of weight."""
    return (
        _compare_name(device, profile),
        _compare_soc(device, profile),
        _compare_cores(device.clusters, profile.clusters),
        _compare_clocks(device.clusters, profile.clusters),
        _compare_memory(device.memory_mb, profile.memory),
    )


def _confidence(profile: Profile, facts: tuple[Agreement, ...]) -> float:
    weights = _WEIGHTS[profile.of]
    agreed = sum(weights[fact.kind] * fact.score for fact in facts)
    told = sum(weights[fact.kind] * (1.0 if fact.score else 0.5) for fact in facts)
    return max(0.0, agreed / told)


def _family(arch: str) -> str:
    """A 32-bit system on a 64-bit chip is the same device."""
    arch = arch.lower()
    if arch.startswith(("arm", "aarch")):
        return "arm"
    return "x86" if arch in ("x86_64", "amd64", "i386", "i486", "i586", "i686") else arch


def _words(text: str) -> list[str]:
    text = text.lower().replace("(r)", " ").replace("(tm)", " ").replace("+", " plus ")
    return re.findall(r"[a-z0-9]+", text)


def _compare_name(device: Device, profile: Profile) -> Agreement:
    given = _words(device.name)
    if not given or " ".join(given) in _NO_NAME or device.name in (device.arch, device.soc):
        return Agreement("name", 0.0, "the board's name is unknown")
    if _is_named(device, profile):
        return Agreement("name", 1.0, f"name {device.name!r}")
    if profile.of == "chip":
        return Agreement("name", 0.0, f"name {device.name!r}")
    return Agreement("name", -1.0, f"name {device.name!r}, not {profile.title!r}")


def _is_named(device: Device, profile: Profile) -> bool:
    given = _words(device.name)
    return any(given[: len(words)] == words for words in map(_words, profile.match.names))


def _compare_soc(device: Device, profile: Profile) -> Agreement:
    if profile.of == "chip" and _is_named(device, profile):
        # Device trees may name but the chip's family (amlogic,g12b); a known board tells more.
        return Agreement("soc", 1.0, f"{device.name!r} carries {profile.soc}")
    if not profile.match.socs:
        return Agreement("soc", 0.0, "")
    expected = {"".join(_words(soc)) for soc in profile.match.socs}
    for text in (device.soc or "", device.name):
        words = _words(text)
        runs = ("".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, min(i + 6, len(words)) + 1))
        if any(run in expected for run in runs):
            return Agreement("soc", 1.0, f"chip {text!r}")
    if not device.soc or not _words(device.soc):
        return Agreement("soc", 0.0, "the chip's name is unknown")
    return Agreement("soc", -1.0, f"chip {device.soc!r}, not {profile.soc or profile.match.socs[0]!r}")


def _compare_cores(given: tuple[Cluster, ...], expected: tuple[ProfileCluster, ...]) -> Agreement:
    # Clusters of one core design are taken together: kernels cut them by policy, by package, or not at all.
    want: Counter[str | None] = Counter()
    for cluster in expected:
        want[_design(cluster.core)] += len(cluster.cpus)
    have: Counter[str | None] = Counter()
    for real in given:
        have[_design(real.core)] += len(real.siblings) or len(real.cpus)
    text = _cores_text(have)
    if None in have:
        if sum(have.values()) == sum(want.values()):
            return Agreement("cores", 0.25, f"{text}, as many as expected")
        return Agreement("cores", -0.5, f"{text}, not {_cores_text(want)}")
    if have == want:
        return Agreement("cores", 1.0, text)
    if set(have) <= set(want) and all(have[core] <= want[core] for core in have):
        # Cores switched off at boot (maxcpus=, a power mode of a Jetson) are no longer listed at all.
        return Agreement("cores", -0.25, f"{text}, fewer than {_cores_text(want)}")
    return Agreement("cores", -1.0, f"{text}, not {_cores_text(want)}")


def _design(core: str | None) -> str | None:
    """The core's name without its revision: "cortex-a55r0" is a cortex-a55."""
    return None if core is None else re.sub(r"r[0-9]+$", "", core)


def _cores_text(cores: Counter[str | None]) -> str:
    return " + ".join(f"{count} x {core or 'unknown core'}" for core, count in cores.items()) or "no cores"


def _compare_clocks(given: tuple[Cluster, ...], expected: tuple[ProfileCluster, ...]) -> Agreement:
    have = [(_design(c.core), c.max_mhz) for c in given if c.max_mhz is not None]
    if not have:
        return Agreement("clocks", 0.0, "clocks are unknown")
    allowed = [(_design(c.core), mhz) for c in expected if c.max_mhz is not None for mhz in (c.max_mhz, *c.other_mhz)]
    odd = [
        mhz
        for core, mhz in have
        if not any(core in (None, want) and abs(mhz - clock) <= _CLOCK_TOLERANCE * clock for want, clock in allowed)
    ]
    text = ", ".join(f"{mhz} MHz" for mhz in dict.fromkeys(mhz for _, mhz in have))
    if not odd:
        return Agreement("clocks", 1.0, text)
    wanted = ", ".join(f"{mhz}" for mhz in dict.fromkeys(mhz for _, mhz in allowed))
    return Agreement("clocks", -len(odd) / len(have), f"{text}, not {wanted} MHz")


def _compare_memory(memory_mb: int | None, expected: ProfileMemory | None) -> Agreement:
    if memory_mb is None or expected is None:
        return Agreement("memory", 0.0, "")
    for size in expected.sizes_mb:
        if size * (1 - _RESERVED_SHARE) <= memory_mb <= size:
            return Agreement("memory", 1.0, f"{memory_mb} MB of {size} MB memory")
    return Agreement("memory", -1.0, f"{memory_mb} MB memory, not {' or '.join(map(str, expected.sizes_mb))}")


def shipped() -> tuple[Profile, ...]:
    """The shipped profiles. Reading YAML takes a tenth of a second, so what was read is kept as JSON by content."""
    files = sorted((name, entry.read_bytes()) for name, entry in shipped_profiles())
    digest = hashlib.sha256(b"\0".join(content for _, content in files))
    try:
        kept = cache_folder("profiles") / f"{digest.hexdigest()[:24]}.json"
    except StorageError as error:
        _log.debug("profiles are not kept: %s", error)
        return _read_all(files)
    try:
        return msgspec.json.decode(kept.read_bytes(), type=tuple[Profile, ...])
    except (OSError, msgspec.MsgspecError):
        profiles = _read_all(files)
    try:
        write_whole(kept, msgspec.json.encode(profiles))
    except StorageError as error:
        _log.debug("profiles are not kept: %s", error)
    return profiles


def _read_all(files: list[tuple[str, bytes]]) -> tuple[Profile, ...]:
    profiles = []
    for name, content in files:
        try:
            profiles.append(read_profile(content, f"device_profiles/{name}.yaml"))
        except EdgeError as error:
            _log.warning("left out: %s", error)  # one broken file must not hide what the device is
    return tuple(profiles)
