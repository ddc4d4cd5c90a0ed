"""Device profiles: what ships is whole and cited, what is broken is named by key, what is exported loads again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_sdk.device.facts import Accelerator, Cache, Cluster, Device, ProfileMatch, ThermalZone
from edge_sdk.device.profile_yaml import MAX_BYTES, read_yaml, write_yaml
from edge_sdk.device.profiles import (
    Profile,
    export_profile,
    list_profiles,
    load_profile,
    read_profile,
    shipped_profiles,
)
from edge_sdk.errors import ProfileError, StorageError

KNOWN = {
    "amlogic-a311d": ["cortex-a73", "cortex-a53"],
    "coral-dev-board": ["cortex-a53"],
    "dimensity-9300": ["cortex-x4", "cortex-x4", "cortex-a720"],
    "imx8m-plus": ["cortex-a53"],
    "jetson-agx-orin": ["cortex-a78ae"] * 3,
    "jetson-nano": ["cortex-a57"],
    "jetson-orin-nano": ["cortex-a78ae"] * 2,
    "kirin-970": ["cortex-a73", "cortex-a53"],
    "raspberry-pi-3b-plus": ["cortex-a53"],
    "raspberry-pi-4": ["cortex-a72"],
    "raspberry-pi-5": ["cortex-a76"],
    "raspberry-pi-zero-2-w": ["cortex-a53"],
    "rk3399": ["cortex-a72", "cortex-a53"],
    "rk3588": ["cortex-a76", "cortex-a76", "cortex-a55"],
    "snapdragon-8-gen-2": ["cortex-x3", "cortex-a715", "cortex-a710", "cortex-a510"],
    "snapdragon-865": ["cortex-a77", "cortex-a77", "cortex-a55"],
    "x86-mini-pc": ["gracemont"],
}

SMALL = """\
schema: 1
name: small
title: A small board
of: board
arch: aarch64
bits: 64
clusters:
  - {role: big, core: cortex-a72, cpus: [2, 3], max_mhz: 1800}
  - {role: little, core: cortex-a53, cpus: [0, 1], max_mhz: 1400}
memory: {sizes_mb: [1024, 2048]}
sources: {sheet: "its data sheet"}
cited: {clusters: sheet, memory: sheet}
"""


def broken(text: str) -> str:
    """What reading a broken profile says."""
    with pytest.raises(ProfileError) as caught:
        read_profile(text.encode(), "device_profiles/x.yaml")
    message = str(caught.value)
    assert message.startswith("device_profiles/x.yaml: ")
    assert "\n" not in message
    return message.removeprefix("device_profiles/x.yaml: ")


class TestShippedProfiles:
    def test_all_are_listed_in_order(self) -> None:
        assert list_profiles() == tuple(sorted(KNOWN))

    @pytest.mark.parametrize("name", sorted(KNOWN))
    def test_each_describes_a_device(self, name: str) -> None:
        profile = load_profile(name)
        device = profile.device()
        assert profile.name == name
        assert [cluster.core for cluster in device.clusters] == KNOWN[name]
        assert sorted(device.usable_cpus) == list(range(len(device.usable_cpus)))
        assert device.memory_mb in profile.memory.sizes_mb if profile.memory else False
        assert len(device.fingerprint) == 16
        assert all(a.present and a.usable is None for a in device.accelerators)

    @pytest.mark.parametrize("name", sorted(KNOWN))
    def test_clusters_stand_fastest_first(self, name: str) -> None:
        clusters = load_profile(name).clusters
        ranks = [{"big": 0, "mid": 1, "little": 2}[cluster.role] for cluster in clusters]
        assert ranks == sorted(ranks)
        assert ranks[0] == 0

    def test_a_figure_tells_its_source(self) -> None:
        profile = load_profile("raspberry-pi-4")
        assert "product brief" in str(profile.source_of("clusters[0].max_mhz"))
        assert "Processors" in str(profile.source_of("clusters[0].caches[2].size_kb"))
        assert profile.source_of("clusterss") is None


class TestLoading:
    def test_by_path(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(SMALL)
        assert load_profile(path) == load_profile(str(path)) == read_profile(SMALL.encode(), "x")

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(ProfileError, match=r"no device profile 'raspberry-pi-6'; expected .* raspberry-pi-5"):
            load_profile("raspberry-pi-6")

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match=r"none\.yaml: the device profile cannot be read: No such file"):
            load_profile(tmp_path / "none.yaml")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match="cannot be read: Is a directory"):
            load_profile(tmp_path)

    def test_what_is_left_out_is_the_ordinary_case(self) -> None:
        big, little = read_profile(SMALL.encode(), "x").device().clusters
        assert (big.id, big.online, big.siblings) == ("0", (2, 3), ((2,), (3,)))
        assert (little.id, little.capacity, little.caches) == ("1", None, ())

    def test_the_largest_memory_stands_for_the_device_unless_one_is_named(self) -> None:
        named = SMALL.replace("[1024, 2048]", "[1024, 2048], typical_mb: 1024")
        assert read_profile(SMALL.encode(), "x").device().memory_mb == 2048
        assert read_profile(named.encode(), "x").device().memory_mb == 1024


class TestBrokenProfiles:
    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("cpus: [0, 1]", "cpus: 4", "clusters[1].cpus: expected array, got int"),
            ("cpus: [0, 1]", "cpus: []", "clusters[1].cpus: expected array of length >= 1"),
            ("cpus: [0, 1]", "cpus: [1, 2]", "clusters[1].cpus: CPU 2 stands in clusters[0] already"),
            ("max_mhz: 1800", "max_mhz: fast", "clusters[0].max_mhz: expected int | null, got str"),
            ("max_mhz: 1800", "max_mhz: -1", "clusters[0].max_mhz: expected int >= 1"),
            ("max_mhz: 1800", "max_hz: 1800", "clusters[0]: object contains unknown field max_hz"),
            ("role: big", "role: huge", "clusters[0].role: expected big, mid or little, got 'huge'"),
            ("title: A small board\n", "", "the whole file: object missing required field title"),
            ("schema: 1", "schema: 2", "schema: expected int <= 1"),
            ("bits: 64", "bits: 48", "bits: expected 32 or 64, got 48"),
            ("of: board", "of: things", "of: expected str matching regex"),
            ("cited: {clusters: sheet,", "cited: {clusters: book,", "cited.clusters: there is no source 'book'"),
            (
                "cited: {clusters: sheet, memory: sheet}",
                "cited: {clusters: sheet}",
                "memory.sizes_mb[0]: no source is cited",
            ),
        ],
    )
    def test_the_key_comes_first(self, old: str, new: str, expected: str) -> None:
        assert old in SMALL
        assert broken(SMALL.replace(old, new)).startswith(expected)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "the whole file: expected object, got null"),
            ("- 1", "the whole file: expected object, got array"),
            ("a: [", "line 2: not YAML"),
            ("a: 1\na: 2", "line 2: key 'a' is given twice"),
            ("a: &x [1]\nb: *x", "line 2: alias *x"),
            ("a: !!python/object:os.system 1", "line 1: tag 'tag:yaml.org,2002:python/object:os.system'"),
            ("---\na: 1\n---\nb: 2", "line 3: a second document"),
            ("? [1]\n: 2", "line 1: a list or mapping as a key"),
            ("[" * 5000, "line 1: nested deeper than 16 levels"),
            ("{a: " * 5000, "line 1: nested deeper than 16 levels"),
            ("\x00", "not YAML"),
        ],
    )
    def test_what_is_no_profile_at_all(self, text: str, expected: str) -> None:
        assert broken(text).startswith(expected)

    def test_a_few_lines_that_would_expand_to_gigabytes(self) -> None:
        bomb = "a: &a [x, x]\n" + "".join(
            f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        )
        assert broken(bomb).startswith("line 2: alias *a, which profiles may not use")

    def test_a_file_that_is_too_large(self) -> None:
        with pytest.raises(ProfileError, match=f"expected a device profile of at most {MAX_BYTES}"):
            read_profile(b" " * (MAX_BYTES + 1), "x.yaml")

    def test_bytes_that_are_no_text(self) -> None:
        with pytest.raises(ProfileError, match="byte 0 is not UTF-8"):
            read_profile(b"\xff\xfe", "x.yaml")

    @settings(max_examples=60)
    @given(st.binary(max_size=300))
    def test_any_bytes_give_a_profile_error(self, content: bytes) -> None:
        with pytest.raises(ProfileError):
            read_profile(content, "x.yaml")

    @settings(max_examples=60)
    @given(st.data())
    def test_a_damaged_profile_loads_or_gives_a_profile_error(self, data: st.DataObject) -> None:
        content = bytearray(SMALL.encode())
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(content)))
            content[start : start + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
        try:
            assert isinstance(read_profile(bytes(content), "x.yaml"), Profile)
        except ProfileError as error:
            assert str(error).startswith("x.yaml: ")
            assert "\n" not in str(error)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


class TestYaml:
    @pytest.mark.parametrize("word", ["no", "on", "y", "12:30", "0x1f", "007", "1e5", "2024-01-01", "=", "<<"])
    def test_words_stay_text(self, word: str) -> None:
        assert read_yaml(f"key: {word}".encode(), "x") == {"key": word}

    @settings(max_examples=60)
    @example({"x": 0.00016394756169413357})
    @given(DOCUMENTS)
    def test_what_is_written_reads_back(self, document: Any) -> None:
        assert read_yaml(write_yaml(document), "x") == document


def device_with(**facts: Any) -> Device:
    cluster = Cluster(
        id="0",
        role="big",
        core="zen3",
        cpus=(0, 1, 2, 3),
        online=(0, 1, 2),
        siblings=((0, 2), (1, 3)),
        max_mhz=4500,
        capacity=1024,
        caches=(Cache(level=1, kind="data", size_kb=32), Cache(level=3, kind="unified", size_kb=16384, shared_by=4)),
    )
    own = Device(
        name="No: 1 'board'",
        soc="AMD # 5800",
        arch="x86_64",
        bits=64,
        libc="glibc 2.36",
        clusters=(cluster,),
        memory_mb=7900,
        isa=("avx2", "fma"),
        accelerators=(
            Accelerator(kind="gpu", name="cuda", engine="onnxruntime", present=True, usable=False, why="hung"),
        ),
        thermal=(ThermalZone(name="cpu", temperature_c=51.0, trip_c=85.5),),
        engines={"onnxruntime": "1.31.1"},
        usable_cpus=(0, 1),
        cpu_quota=1.5,
        rates={"copy_gb_per_s": 12.25},
    )
    return msgspec.structs.replace(own, **facts)


class TestExport:
    def test_export_then_load_gives_the_same_facts(self, tmp_path: Path) -> None:
        device = device_with(profile=ProfileMatch(name="x86-mini-pc", confidence=0.5))
        export_profile(device, tmp_path / "my board.yaml")
        again = load_profile(tmp_path / "my board.yaml").device()
        # Only the moment is gone: the temperature, and the match that the next probe makes anew.
        zone = ThermalZone(name="cpu", trip_c=85.5)
        expected = msgspec.structs.replace(device, thermal=(zone,), profile=None, fingerprint=again.fingerprint)
        assert again == expected

    def test_the_machine_itself_is_the_source(self, tmp_path: Path) -> None:
        profile = export_profile(device_with(), tmp_path / "x.yaml")
        assert profile.source_of("clusters[0].max_mhz") == "read from the machine by `edge-sdk device --export`"
        assert profile.name == "x"

    @pytest.mark.parametrize("name", sorted(KNOWN))
    def test_shipped_devices_survive_it(self, name: str, tmp_path: Path) -> None:
        device = load_profile(name).device()
        export_profile(device, tmp_path / "x.yaml")
        assert load_profile(tmp_path / "x.yaml").device() == device

    @settings(max_examples=25)
    @given(
        name=TEXT,
        soc=st.none() | TEXT,
        isa=st.lists(st.sampled_from(["neon", "fp16", "sve2"]), unique=True).map(tuple),
        memory_mb=st.none() | st.integers(1, 10**6),
        sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4),
        mhz=st.none() | st.integers(1, 20_000),
    )
    def test_any_device_survives_it(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        name: str,
        soc: str | None,
        isa: tuple[str, ...],
        memory_mb: int | None,
        sizes: list[int],
        mhz: int | None,
    ) -> None:
        clusters, first = [], 0
        for index, size in enumerate(sizes):
            cpus = tuple(range(first, first + size))
            alone = tuple((cpu,) for cpu in cpus)
            clusters.append(
                Cluster(id=str(index), role="big", core=None, cpus=cpus, online=cpus, siblings=alone, max_mhz=mhz)
            )
            first += size
        device = device_with(
            name=name, soc=soc, isa=isa, memory_mb=memory_mb, clusters=tuple(clusters), usable_cpus=(0,), thermal=()
        )
        path = tmp_path_factory.mktemp("export") / "x.yaml"
        export_profile(device, path)
        again = load_profile(path).device()
        assert again == msgspec.structs.replace(device, fingerprint=again.fingerprint)

    def test_a_device_without_cores_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match="has no cluster"):
            export_profile(device_with(clusters=()), tmp_path / "x.yaml")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="could not be written"):
            export_profile(device_with(), tmp_path / "none" / "x.yaml")


def test_files_are_named_after_their_profile() -> None:
    for name, entry in shipped_profiles():
        assert read_profile(entry.read_bytes(), entry.name).name == name
