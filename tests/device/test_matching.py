"""Matching: which shipped profile a device fits by its facts, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_sdk.device import probe
from edge_sdk.device.facts import Cluster, Device, ProfileMatch
from edge_sdk.device.matching import match_among, match_profile, shipped
from edge_sdk.device.profiles import list_profiles, load_profile


def like(profile: str, **facts: Any) -> Device:
    """The device of a profile as a probe would see it: its own board name, and facts that differ."""
    device = load_profile(profile).device()
    return msgspec.structs.replace(device, **facts)


def clocked(profile: str, *clocks: int | None) -> tuple[Cluster, ...]:
    """The clusters of a profile at other clocks, in MHz."""
    clusters = load_profile(profile).device().clusters
    return tuple(msgspec.structs.replace(c, max_mhz=mhz) for c, mhz in zip(clusters, clocks, strict=True))


def matched(device: Device) -> ProfileMatch:
    match = match_profile(device)
    assert match is not None
    return match


PI_4 = "Raspberry Pi 4 Model B Rev 1.4"


class TestSure:
    @pytest.mark.parametrize("name", list_profiles())
    def test_each_profile_fits_its_own_device(self, name: str) -> None:
        names = load_profile(name).match.names
        match = matched(like(name, name=names[0] if names else "Some Board"))
        assert match.name == name
        assert match.confidence >= 0.95

    def test_the_device_tree_of_a_real_pi(self) -> None:
        device = like(
            "raspberry-pi-4", name=PI_4, soc="brcm,bcm2711", memory_mb=3793, clusters=clocked("raspberry-pi-4", 1500)
        )
        match = matched(device)
        assert (match.name, match.confidence) == ("raspberry-pi-4", 1.0)
        assert match.facts == (
            "+ name 'Raspberry Pi 4 Model B Rev 1.4'",
            "+ chip 'brcm,bcm2711'",
            "+ 4 x cortex-a72",
            "+ 1500 MHz",
            "+ 3793 MB of 4096 MB memory",
        )

    def test_a_32_bit_system_on_the_same_board(self) -> None:
        assert (
            matched(like("raspberry-pi-5", name="Raspberry Pi 5 Model B Rev 1.0", arch="armv8l", bits=32)).confidence
            == 1.0
        )

    def test_a_kernel_that_cuts_one_design_into_other_clusters(self) -> None:
        (whole,) = load_profile("raspberry-pi-4").device().clusters
        alone = tuple(
            msgspec.structs.replace(whole, id=str(cpu), cpus=(cpu,), online=(cpu,), siblings=((cpu,),))
            for cpu in range(4)
        )
        assert matched(like("raspberry-pi-4", name=PI_4, clusters=alone)).confidence == 1.0

    @pytest.mark.parametrize(
        ("soc", "expected"),
        [
            ("Qualcomm Technologies, Inc SM8250", "snapdragon-865"),
            ("SM8550-AB", "snapdragon-8-gen-2"),
            ("rockchip,rk3399", "rk3399"),
            ("Rockchip RK3588S", "rk3588"),
            ("Intel(R) N100", "x86-mini-pc"),
            ("HiSilicon Kirin 970", "kirin-970"),
        ],
    )
    def test_a_chip_by_its_names(self, soc: str, expected: str) -> None:
        assert matched(like(expected, name="Vendor X1", soc=soc)).confidence >= 0.95

    def test_a_board_known_to_carry_the_chip(self) -> None:
        match = matched(like("amlogic-a311d", name="Khadas VIM3", soc="g12b"))
        assert match.confidence >= 0.95
        assert "+ 'Khadas VIM3' carries Amlogic A311D" in match.facts

    def test_a_core_named_with_its_revision(self) -> None:
        *big, little = load_profile("rk3588").device().clusters
        clusters = (*big, msgspec.structs.replace(little, core="cortex-a55r0"))
        assert matched(like("rk3588", clusters=clusters)).confidence == 1.0


class TestLessSure:
    def test_a_name_that_the_facts_contradict(self) -> None:
        match = matched(like("raspberry-pi-3b-plus", name=PI_4, soc="BCM2835"))
        assert match.name == "raspberry-pi-4"
        assert match.confidence < 0.5
        assert "- 4 x cortex-a53, not 4 x cortex-a72" in match.facts

    def test_an_overclocked_board(self) -> None:
        match = matched(like("raspberry-pi-4", name=PI_4, clusters=clocked("raspberry-pi-4", 2147)))
        assert match.name == "raspberry-pi-4"
        assert 0.5 < match.confidence < 0.9
        assert "- 2147 MHz, not 1800, 1500 MHz" in match.facts

    def test_cores_switched_off_at_boot(self) -> None:
        (whole,) = load_profile("jetson-nano").device().clusters
        half = msgspec.structs.replace(whole, cpus=(0, 1), online=(0, 1), siblings=((0,), (1,)))
        match = matched(like("jetson-nano", name="NVIDIA Jetson Nano Developer Kit", clusters=(half,)))
        assert match.name == "jetson-nano"
        assert match.confidence < 0.9

    @pytest.mark.parametrize("name", ["raspberry-pi-4", "jetson-orin-nano", "rk3588"])
    def test_neither_name_nor_chip(self, name: str) -> None:
        match = matched(like(name, name="aarch64", soc=None))
        assert (match.name, match.confidence) == (name, 0.5)


class TestTold:
    """Near twins told apart."""

    def test_pi_3b_is_no_3b_plus(self) -> None:
        device = like(
            "raspberry-pi-3b-plus",
            name="Raspberry Pi 3 Model B Rev 1.2",
            clusters=clocked("raspberry-pi-3b-plus", 1200),
        )
        assert match_profile(device) is None

    def test_pi_500_is_no_pi_5(self) -> None:
        assert match_profile(like("raspberry-pi-5", name="Raspberry Pi 500 Rev 1.0")) is None

    def test_orin_nano_and_agx_orin_share_chip_and_cores(self) -> None:
        nano, agx = "NVIDIA Jetson Orin Nano Developer Kit", "NVIDIA Jetson AGX Orin Developer Kit"
        assert matched(like("jetson-orin-nano", name=nano, soc="nvidia,tegra234")).name == "jetson-orin-nano"
        assert matched(like("jetson-agx-orin", name=agx, soc="nvidia,tegra234")).name == "jetson-agx-orin"

    def test_a_snapdragon_650_has_the_cores_and_clocks_of_an_rk3399(self) -> None:
        phone = like("rk3399", name="Xiaomi Redmi Note 3", clusters=clocked("rk3399", 1804, 1401))
        assert match_profile(msgspec.structs.replace(phone, soc="MSM8956")) is None
        assert match_profile(msgspec.structs.replace(phone, soc=None)) is None


class TestUnknown:
    def test_another_board_with_the_same_cores(self) -> None:
        assert match_profile(like("raspberry-pi-3b-plus", name="Alcatel 5033", soc="MT6735")) is None

    def test_a_virtual_machine_with_the_same_cores(self) -> None:
        (cluster,) = clocked("raspberry-pi-4", None)
        assert match_profile(like("raspberry-pi-4", name="Amazon EC2 a1.xlarge", soc=None, clusters=(cluster,))) is None

    def test_another_architecture(self) -> None:
        assert match_profile(like("raspberry-pi-4", name=PI_4, arch="x86_64")) is None

    def test_a_device_that_tells_nothing(self) -> None:
        cluster = Cluster(id="0", role="big", core=None, cpus=(0,), online=(0,), siblings=((0,),))
        assert match_profile(Device(name="", arch="aarch64", bits=64, clusters=(cluster,))) is None
        assert match_profile(Device(name="", arch="aarch64", bits=64, clusters=())) is None

    def test_nothing_to_match_with(self) -> None:
        assert match_among(like("raspberry-pi-4"), ()) is None

    def test_no_phone_of_the_shared_material_is_taken_for_a_known_device(self, assets: Path) -> None:
        roots = sorted((assets / "topologies").glob("*/root"))
        assert roots
        assert {root.parent.name: probe(root).profile for root in roots} == {root.parent.name: None for root in roots}


class TestKept:
    """What was read from YAML is kept as JSON, since reading it takes longest."""

    def test_the_second_reading_gives_the_same(self, own_cache: Path) -> None:
        first = shipped()
        (kept,) = (own_cache / "profiles").iterdir()
        assert kept.suffix == ".json"
        assert shipped() == first

    def test_a_damaged_copy_is_made_again(self, own_cache: Path) -> None:
        first = shipped()
        (kept,) = (own_cache / "profiles").iterdir()
        kept.write_bytes(b'[{"schema": 1')
        assert shipped() == first
        assert msgspec.json.decode(kept.read_bytes())

    def test_without_a_cache_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("EDGE_SDK_CACHE", str(tmp_path / "file"))
        assert [profile.name for profile in shipped()] == list(list_profiles())
