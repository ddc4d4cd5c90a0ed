"""Device profiles: a `Device` written as YAML, with what matters for planning and where each figure comes from.

`device_profiles/NAME.yaml` holds the boards and chips that ship with the package; `edge-sdk device --export` writes
more of them. `docs/profiles.md` describes the file key by key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.device.facts import SCHEMA, Cluster, Device, ProfileMatch
from edge_sdk.device.profile_form import (
    MatchFacts,
    Peak,
    Profile,
    ProfileAccelerator,
    ProfileCluster,
    ProfileMemory,
    ProfileThermal,
    citation,
)
from edge_sdk.device.profile_yaml import MAX_BYTES, read_yaml, write_yaml
from edge_sdk.errors import ProfileError
from edge_sdk.storage import write_whole

__all__ = [
    "MatchFacts",
    "Peak",
    "Profile",
    "ProfileAccelerator",
    "ProfileCluster",
    "ProfileMemory",
    "ProfileThermal",
    "export_profile",
    "list_profiles",
    "load_profile",
    "match_profile",
    "read_profile",
    "shipped_profiles",
]

_SUFFIX = ".yaml"


def list_profiles() -> tuple[str, ...]:
    """Names of the profiles that ship with the package, in alphabetical order."""
    return tuple(sorted(name for name, _ in shipped_profiles()))


def shipped_profiles() -> Iterator[tuple[str, Any]]:
    """Name and file (an `importlib.resources` traversable) of each profile that ships with the package."""
    for entry in resources.files("device_profiles").iterdir():
        if entry.name.endswith(_SUFFIX):
            yield entry.name.removesuffix(_SUFFIX), entry


def load_profile(name_or_path: str | os.PathLike[str]) -> Profile:
    """Loads a profile that ships with the package by its name, or any profile by its path.

    Args:
        name_or_path: "raspberry-pi-5", or a path: anything with a slash or the suffix .yaml or .yml.

    Raises:
        ProfileError: there is no such profile, or it is broken; the message names the file and the key.
    """
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, os.PathLike) or os.sep in text or text.endswith((_SUFFIX, ".yml")):
        return read_profile(_read_file(Path(text)), text)
    for name, entry in shipped_profiles():
        if name == text:
            return read_profile(entry.read_bytes(), f"device_profiles/{entry.name}")
    known = ", ".join(list_profiles())
    raise ProfileError(f"there is no device profile {text[:80]!r}; expected a path to a .yaml file or one of: {known}")


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        problem = getattr(error, "strerror", None) or error
        raise ProfileError(f"{path}: the device profile cannot be read: {problem}") from None


def read_profile(content: bytes, where: str) -> Profile:
    """Reads a profile from YAML text and checks it.

    Args:
        content: UTF-8 YAML.
        where: what messages call the file.

    Raises:
        ProfileError: it is broken; the message names the key (`clusters[1].cpus: expected array, got int`).
    """
    document = read_yaml(content, where)
    try:
        profile = msgspec.convert(document, Profile)
    except msgspec.ValidationError as error:
        raise ProfileError(f"{where}: {_key_first(str(error))}; see docs/profiles.md for the form") from None
    for key, problem in _contradictions(profile):
        raise ProfileError(f"{where}: {key}: {problem}")
    for path in _figures(document):
        if citation(profile.cited, path) is None:
            raise ProfileError(
                f"{where}: {path}: no source is cited; add a line `{path}: KEY` below `cited`, with KEY from `sources`"
            )
    return profile


def _key_first(message: str) -> str:
    """msgspec says "Expected `array`, got `int` - at `$.clusters[1].cpus`"; people look for the key first."""
    problem, _, place = message.rpartition(" - at `")
    if not problem:
        problem, place = message, "$"
    key = place.rstrip("`").removeprefix("$").removeprefix(".") or "the whole file"
    problem = " ".join(problem.replace("`", "").split())
    return f"{key}: {problem[:1].lower()}{problem[1:]}"


def _contradictions(profile: Profile) -> Iterator[tuple[str, str]]:
    """What the types cannot say. Yields key and problem."""
    if profile.bits not in (32, 64):
        yield "bits", f"expected 32 or 64, got {profile.bits}"
    seen: dict[int, int] = {}
    for index, cluster in enumerate(profile.clusters):
        key = f"clusters[{index}]"
        if cluster.role not in ("big", "mid", "little"):
            yield f"{key}.role", f"expected big, mid or little, got {cluster.role[:40]!r}"
        for cpu in cluster.cpus:
            if cpu in seen:
                yield f"{key}.cpus", f"CPU {cpu} stands in clusters[{seen[cpu]}] already; expected each CPU once"
            seen[cpu] = index
        if cluster.online is not None and not set(cluster.online) <= set(cluster.cpus):
            yield f"{key}.online", f"expected CPUs among {list(cluster.cpus)}, got {list(cluster.online)}"
        if cluster.siblings is not None and sorted(c for group in cluster.siblings for c in group) != sorted(
            cluster.cpus
        ):
            yield f"{key}.siblings", f"expected each of {list(cluster.cpus)} in one group"
        for place, cache in enumerate(cluster.caches):
            if cache.kind not in ("data", "instruction", "unified"):
                yield f"{key}.caches[{place}].kind", f"expected data, instruction or unified, got {cache.kind[:40]!r}"
            if not (1 <= cache.level <= 4 and 1 <= cache.size_kb <= 1 << 24 and 1 <= cache.shared_by <= 4096):
                yield f"{key}.caches[{place}]", "expected level 1 to 4, size_kb and shared_by from 1"
    if profile.usable_cpus is not None and not set(profile.usable_cpus) <= set(seen):
        yield "usable_cpus", f"expected CPUs among {sorted(seen)}, got {list(profile.usable_cpus)}"
    for index, accelerator in enumerate(profile.accelerators):
        if (accelerator.name is None) != (accelerator.engine is None):
            yield f"accelerators[{index}]", "expected both name and engine, or neither where no engine reaches it"
    for path, source in profile.cited.items():
        if source not in profile.sources:
            yield (
                f"cited.{path}",
                f"there is no source {source!r}; expected one of {', '.join(profile.sources) or 'none'}",
            )


_FIGURES = ("clusters", "memory", "accelerators", "thermal", "cpu_quota", "rates")


def _figures(document: dict[str, Any]) -> Iterator[str]:
    """Paths of all numbers that need a source; CPU ids are names, not figures, and so are not among them."""
    stack = [(key, document[key]) for key in reversed(_FIGURES) if key in document]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            skipped = ("cpus", "online", "siblings")
            stack.extend((f"{path}.{key}", inner) for key, inner in reversed(value.items()) if key not in skipped)
        elif isinstance(value, list):
            stack.extend((f"{path}[{index}]", value[index]) for index in reversed(range(len(value))))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path


def export_profile(device: Device, path: str | os.PathLike[str]) -> Profile:
    """Writes a probed device as a profile and returns it. Loading it again gives the same facts.

    Left out is what holds only for the moment: temperatures, frequencies now, the power source. The figures cite the
    machine itself as their source. Existing files are replaced whole.

    Args:
        device: what `probe` returned.
        path: file to write, by custom with the suffix .yaml.

    Raises:
        StorageError: the file cannot be written.
        ProfileError: the device cannot be written as a profile (it has no cluster).
    """
    target = Path(path)
    profile = _as_profile(device, target.stem)
    content = write_yaml(msgspec.to_builtins(profile))
    read_profile(content, str(target))  # whatever the probe said, nothing is written that cannot be read again
    write_whole(target, content)
    return profile


def _as_profile(device: Device, stem: str) -> Profile:
    if not device.clusters:
        raise ProfileError(f"{device.name}: the device has no cluster of cores, expected at least one")
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._+-") else "-" for c in stem).strip("-._+")[:64]
    title, soc = _text(device.name) or device.arch, _text(device.soc)
    return Profile(
        schema=SCHEMA,
        name=name or "exported",
        title=title,
        of="board",
        match=MatchFacts(names=(title,) if title != device.arch else (), socs=(soc,) if soc else ()),
        soc=soc,
        arch=device.arch,
        bits=device.bits,
        os=device.os,
        libc=device.libc,
        clusters=tuple(_as_profile_cluster(cluster) for cluster in device.clusters),
        memory=ProfileMemory(sizes_mb=(device.memory_mb,)) if device.memory_mb else None,
        isa=device.isa,
        accelerators=tuple(
            ProfileAccelerator(
                kind=a.kind, name=a.name, engine=a.engine, present=a.present, usable=a.usable, note=_text(a.why)
            )
            for a in device.accelerators
        ),
        thermal=tuple(
            ProfileThermal(name=_text(zone.name) or "unnamed", trip_c=zone.trip_c) for zone in device.thermal
        ),
        engines=device.engines,
        usable_cpus=device.usable_cpus,
        cpu_quota=device.cpu_quota,
        rates=device.rates,
        sources={"probe": "read from the machine by `edge-sdk device --export`"},
        cited=dict.fromkeys(_FIGURES, "probe"),
    )


def _text(text: str | None) -> str | None:
    return text[:500] if text else None


def _as_profile_cluster(cluster: Cluster) -> ProfileCluster:
    alone = tuple((cpu,) for cpu in cluster.cpus)
    return ProfileCluster(
        role=cluster.role,
        core=cluster.core,
        cpus=cluster.cpus,
        online=None if cluster.online == cluster.cpus else cluster.online,
        siblings=None if cluster.siblings == alone else cluster.siblings,
        max_mhz=cluster.max_mhz,
        capacity=cluster.capacity,
        caches=cluster.caches,
        core_watts=cluster.core_watts,
    )


def match_profile(device: Device) -> ProfileMatch | None:
    """The shipped profile that fits a probed device, with how sure the match is. See `edge_sdk.device.matching`."""
    from edge_sdk.device import matching

    return matching.match_profile(device)
