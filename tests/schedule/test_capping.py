"""Frequencies are limited only where permitted, and are as before whichever way it ends."""

from __future__ import annotations

import functools
import gc
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge_sdk
from edge_sdk.device.sysroot import Sysroot
from edge_sdk.errors import DeviceError, EdgeError, InputValueError, ModelError
from edge_sdk.schedule import Caps, LimitedFrequencies, restore_frequencies

WAIT_S = 60
POLICIES = "sys/devices/system/cpu/cpufreq"


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    """Four little cores of 300 to 1800 MHz and two big ones of 500 to 2400; the little ones are kept above 600."""
    for policy, cpus, khz in (
        ("policy0", "0 1 2 3", (300, 1800, 600, 1800)),
        ("policy4", "4 5", (500, 2400, 500, 2400)),
    ):
        folder = tmp_path / POLICIES / policy
        folder.mkdir(parents=True)
        (folder / "related_cpus").write_text(cpus)
        names = ("cpuinfo_min_freq", "cpuinfo_max_freq", "scaling_min_freq", "scaling_max_freq")
        for name, mhz in zip(names, khz, strict=True):
            (folder / name).write_text(f"{mhz}000\n")
    return tmp_path


def limits(root: Path) -> dict[str, tuple[int, int]]:
    """Lowest and highest of each policy now, in MHz."""
    return {
        policy.name: tuple(int((policy / f"scaling_{end}_freq").read_text()) // 1000 for end in ("min", "max"))  # type: ignore[misc]
        for policy in sorted((root / POLICIES).iterdir())
    }


BEFORE = {"policy0": (600, 1800), "policy4": (500, 2400)}


def test_frequencies_are_limited_within_the_block_and_restored_after_it(phone: Path) -> None:
    with LimitedFrequencies(Caps(max_mhz=1200), phone) as limited:
        assert limits(phone) == {"policy0": (600, 1200), "policy4": (500, 1200)}
        assert limited.changes == (
            "policy0: scaling_max_freq is 1200 MHz, was 1800",
            "policy4: scaling_max_freq is 1200 MHz, was 2400",
        )
    assert limits(phone) == BEFORE


def test_a_highest_below_the_lowest_takes_it_along(phone: Path) -> None:
    with LimitedFrequencies(Caps(max_mhz=510), phone):
        assert limits(phone) == {"policy0": (510, 510), "policy4": (500, 510)}
    assert limits(phone) == BEFORE


def test_only_the_named_cpus_are_limited(phone: Path) -> None:
    with LimitedFrequencies(Caps(min_mhz=1000, cpus=(5,)), phone):
        assert limits(phone) == {"policy0": (600, 1800), "policy4": (1000, 2400)}
    assert limits(phone) == BEFORE


def test_an_error_restores_them(phone: Path) -> None:
    with pytest.raises(RuntimeError), LimitedFrequencies(Caps(max_mhz=1200), phone):
        raise RuntimeError
    assert limits(phone) == BEFORE


def test_who_forgets_to_close_has_them_restored(phone: Path) -> None:
    limited: LimitedFrequencies | None = LimitedFrequencies(Caps(max_mhz=1200), phone)
    assert limits(phone) != BEFORE
    del limited
    gc.collect()
    assert limits(phone) == BEFORE


def test_what_somebody_else_set_meanwhile_is_left(phone: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A thermal daemon went below the limit: it knows why."""
    with caplog.at_level(logging.WARNING), LimitedFrequencies(Caps(max_mhz=1200), phone):
        (phone / POLICIES / "policy4/scaling_max_freq").write_text("900000")
    assert limits(phone) == {"policy0": (600, 1800), "policy4": (500, 900)}
    assert "left at 900000 kHz" in caplog.text


def test_one_at_a_time(phone: Path) -> None:
    """Restoring in another order than limiting would leave a limit behind."""
    with LimitedFrequencies(Caps(max_mhz=1200), phone):
        with pytest.raises(DeviceError, match="limited already"):
            LimitedFrequencies(Caps(max_mhz=1000), phone)
        with pytest.raises(DeviceError, match="limited already"):
            restore_frequencies(phone)
        assert limits(phone)["policy0"] == (600, 1200)
    LimitedFrequencies(Caps(max_mhz=1000), phone).close()
    assert limits(phone) == BEFORE


@pytest.mark.parametrize("name", ["scaling_max_freq", "scaling_min_freq"])
def test_without_the_right_to_write_nothing_is_changed(phone: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second policy refuses: what was set before is taken back."""
    refused = f"{POLICIES}/policy4/{name}"
    write = Sysroot.write

    def permitted(self: Sysroot, path: str, text: str) -> None:
        if path == refused:  # as the kernel answers anybody but root; tests may run as root
            raise PermissionError(13, "Permission denied", path)
        write(self, path, text)

    monkeypatch.setattr(Sysroot, "write", permitted)
    with pytest.raises(DeviceError, match=rf"{name} cannot be set .*Permission denied; run as root"):
        LimitedFrequencies(Caps(min_mhz=700, max_mhz=1200), phone)
    assert limits(phone) == BEFORE
    monkeypatch.undo()
    LimitedFrequencies(Caps(max_mhz=1200), phone).close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write files that are read-only")
def test_files_that_are_read_only_say_so(phone: Path) -> None:
    (phone / POLICIES / "policy0/scaling_max_freq").chmod(0o444)
    with pytest.raises(DeviceError, match="Permission denied"):
        LimitedFrequencies(Caps(max_mhz=1200), phone)
    assert limits(phone) == BEFORE


def test_a_machine_without_cpufreq_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="there is no cpufreq policy"):
        LimitedFrequencies(Caps(max_mhz=1200), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"max_mhz": 400}, "policy4 runs at 500 to 2400 MHz"),
        ({"min_mhz": 2000}, "policy0 runs at 300 to 1800 MHz"),
        ({"max_mhz": 1200, "cpus": (9,)}, "no cpufreq policy here has any"),
        ({"max_mhz": 0}, "MHz above 0"),
        ({"min_mhz": 900, "max_mhz": 800}, "above max_mhz"),
        ({"uclamp_max": 1025}, "1024"),
        ({"uclamp_min": 600, "uclamp_max": 500}, "minimum <= maximum"),
    ],
)
def test_what_makes_no_sense_is_refused(phone: Path, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InputValueError, match=told):
        LimitedFrequencies(Caps(**wrong), phone)
    assert limits(phone) == BEFORE


LIMITING = """
import os, sys, time
from edge_sdk.schedule import Caps, LimitedFrequencies
held = LimitedFrequencies(Caps(min_mhz=700, max_mhz=1200), sys.argv[1])
print("limited", flush=True)
{then}
"""


def limiting(root: Path, then: str) -> subprocess.Popen[str]:
    """Another process that has limited the frequencies."""
    code = [sys.executable, "-c", LIMITING.format(then=then), str(root)]
    process = subprocess.Popen(code, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "limited\n"
    return process


@pytest.mark.parametrize("then", ["pass", "raise SystemExit(3)", "os.kill(os.getpid(), 15); time.sleep(60)"])
def test_a_process_that_ends_restores_them(phone: Path, then: str) -> None:
    with limiting(phone, then) as process:
        code = process.wait(WAIT_S)
    assert limits(phone) == BEFORE
    assert code == (-signal.SIGTERM if "kill" in then else 3 if "SystemExit" in then else 0)


def test_what_a_killed_process_left_is_restored_by_the_next(phone: Path) -> None:
    with limiting(phone, "time.sleep(60)") as process:
        process.kill()
        process.wait(WAIT_S)
    assert limits(phone) == {"policy0": (700, 1200), "policy4": (700, 1200)}
    with LimitedFrequencies(Caps(max_mhz=1000), phone):
        assert limits(phone) == {"policy0": (600, 1000), "policy4": (500, 1000)}
    assert limits(phone) == BEFORE


def test_what_a_killed_process_left_can_be_restored_by_itself(phone: Path) -> None:
    with limiting(phone, "time.sleep(60)") as process:
        process.kill()
        process.wait(WAIT_S)
    assert restore_frequencies(phone)
    assert limits(phone) == BEFORE
    assert not restore_frequencies(phone)


def test_a_forked_child_restores_nothing(phone: Path) -> None:
    with limiting(
        phone, "pid = os.fork()\nif pid: os.waitpid(pid, 0); print('over', flush=True); time.sleep(60)"
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "over\n"
        assert limits(phone)["policy0"] == (700, 1200)
        process.terminate()
        process.wait(WAIT_S)
    assert limits(phone) == BEFORE


@given(st.binary(max_size=200) | st.just(json.dumps([["etc/passwd", 1, 2]]).encode()))
def test_a_record_with_anything_in_it_does_no_harm(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "run/edge-sdk").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("2")
    (root / "run/edge-sdk/frequencies.json").write_bytes(content)
    restore_frequencies(root)
    assert (root / "etc/passwd").read_text() == "2"


def load(phone: Path, monkeypatch: pytest.MonkeyPatch, model: Any, **arguments: Any) -> edge_sdk.Session:
    """A session on this machine that takes the phone's files for its own."""
    limited = functools.partial(LimitedFrequencies, sysroot=phone)
    monkeypatch.setattr("edge_sdk.schedule.capping.LimitedFrequencies", limited)
    return edge_sdk.load(model, plan_budget_s=0, trusted=True, caps=Caps(max_mhz=1200), **arguments)


def test_a_session_holds_them_until_it_is_closed(phone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("tests.models")
    pytest.importorskip("onnxruntime")
    with load(phone, monkeypatch, models.onnx_add()) as session:
        assert limits(phone)["policy4"] == (500, 1200)
        assert "policy4: scaling_max_freq is 1200 MHz, was 2400" in session.report().events
        session.swap(models.onnx_add())
        assert limits(phone)["policy4"] == (500, 1200)
    assert limits(phone) == BEFORE


def test_a_session_that_does_not_load_leaves_nothing_behind(phone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tests.models")
    with pytest.raises(ModelError) as caught:
        load(phone, monkeypatch, b"no model")
    assert isinstance(caught.value, EdgeError)
    assert limits(phone) == BEFORE
