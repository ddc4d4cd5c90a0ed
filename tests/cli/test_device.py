"""`edge-sdk device`: what it prints for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.cli import main
from edge_sdk.device.profiles import list_profiles, load_profile

KEYS = [
    "schema",
    "name",
    "soc",
    "arch",
    "bits",
    "os",
    "libc",
    "clusters",
    "memory_mb",
    "isa",
    "accelerators",
    "thermal",
]
KEYS += ["engines", "profile", "usable_cpus", "fingerprint", "rates"]
CLUSTER_KEYS = ["id", "role", "core", "cpus", "online", "siblings", "max_mhz", "capacity", "caches"]


@pytest.fixture
def pi_4(tmp_path: Path) -> Path:
    """A root folder with what matters of a Raspberry Pi 4."""
    files = {
        "proc/cpuinfo": "".join(
            f"processor\t: {cpu}\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
            "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
            for cpu in range(4)
        ),
        "proc/meminfo": "MemTotal:        3884396 kB\n",
        "sys/firmware/devicetree/base/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "sys/firmware/devicetree/base/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
        "sys/devices/system/cpu/possible": "0-3\n",
        "sys/devices/system/cpu/present": "0-3\n",
        "sys/devices/system/cpu/online": "0-3\n",
    }
    for cpu in range(4):
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq"] = "1800000\n"
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/related_cpus"] = "0 1 2 3\n"
    for path, text in files.items():
        target = tmp_path / "pi" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return tmp_path / "pi"


def test_json_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "--json"]) == 0
    device = json.loads(capsys.readouterr().out)
    assert [key for key in KEYS if key not in device] == []
    assert device["schema"] == 1
    assert [key for key in CLUSTER_KEYS if key not in device["clusters"][0]] == []
    assert device["clusters"][0]["id"] == "0"
    assert set(device["usable_cpus"]) <= {cpu for cluster in device["clusters"] for cpu in cluster["cpus"]}
    for accelerator in device["accelerators"]:
        assert set(accelerator) == {"kind", "name", "engine", "present", "usable", "why"}
        assert accelerator["usable"] is None


def test_page_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device"]) == 0
    page = capsys.readouterr().out
    assert "usable CPUs" in page
    assert "cluster  role" in page


def test_another_machine(pi_4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "--json", "--sysroot", str(pi_4)]) == 0
    device = json.loads(capsys.readouterr().out)
    assert device["name"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert [(c["core"], c["cpus"], c["max_mhz"]) for c in device["clusters"]] == [("cortex-a72", [0, 1, 2, 3], 1800)]
    assert device["profile"]["name"] == "raspberry-pi-4"
    assert device["profile"]["confidence"] == 1.0
    assert (device["accelerators"], device["engines"]) == ([], {}), "what this host has is not that machine's"


def test_page_of_another_machine(pi_4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "--sysroot", str(pi_4)]) == 0
    page = capsys.readouterr().out
    assert page.startswith("Raspberry Pi 4 Model B Rev 1.4 (")
    assert "raspberry-pi-4 (confidence 1.00)" in page
    assert "cortex-a72  0-3   1800" in page


def test_a_folder_that_is_no_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "--sysroot", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("edge-sdk: ")
    assert captured.err.count("\n") == 1


def test_export_and_load(pi_4: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "my-pi.yaml"
    assert main(["device", "--sysroot", str(pi_4), "--export", str(target)]) == 0
    assert capsys.readouterr().err == f"wrote {target}\n"
    profile = load_profile(target)
    assert (profile.name, profile.title) == ("my-pi", "Raspberry Pi 4 Model B Rev 1.4")
    assert main(["device", "--json", "--sysroot", str(pi_4)]) == 0
    probed = json.loads(capsys.readouterr().out)
    assert profile.device().fingerprint == probed["fingerprint"]


def test_export_into_a_missing_folder(pi_4: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "--sysroot", str(pi_4), "--export", str(tmp_path / "none" / "x.yaml")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_list_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "--list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["profile", "device", "cores", "memory"]
    assert [line.split()[0] for line in lines] == list(list_profiles())


def test_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == list(list_profiles())
    assert all(entry["title"] for entry in listed)


def test_a_proof_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_litert")
    library = tmp_path / "libmine.so"
    library.write_bytes(b"\x7fELF but no more than that")
    monkeypatch.setenv("EDGE_SDK_TFLITE_DELEGATES", str(library))

    def verdict(*arguments: str) -> object:
        assert main(["device", "--json", *arguments]) == 0
        accelerators = json.loads(capsys.readouterr().out)["accelerators"]
        return next(a["usable"] for a in accelerators if a["name"] == str(library))

    assert verdict() is None
    assert verdict("--prove") is False
    assert verdict() is False


@pytest.mark.parametrize("arguments", [["--prove", "--sysroot", "/proc"], ["--sysroot"], ["--nonsense"], ["--export"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["device", *arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert capsys.readouterr().err


def test_showing_a_device_computes_nothing() -> None:
    """A tenth of a second on a small board: neither numpy nor the cost model is needed for kept rates."""
    code = "import sys; from edge_sdk.cli import main; main(['device', '--json']); sys.exit('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
