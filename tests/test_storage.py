"""A file is written whole or not at all, wherever writing stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.errors import StorageError
from edge_sdk.storage import CACHE_VARIABLE, FailingFiles, cache_folder, move_whole, write_whole


def test_content_is_written_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    write_whole(target, b"one")
    write_whole(target, b"two" * 100_000)
    assert target.read_bytes() == b"two" * 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("fail_at", range(4))
def test_a_failure_at_any_operation_leaves_the_old_content_or_the_new(tmp_path: Path, fail_at: int) -> None:
    target = tmp_path / "plan.json"
    write_whole(target, b"old")
    files = FailingFiles(fail_at)
    with pytest.raises(StorageError, match=r"plan\.json"):
        write_whole(target, b"new content", files)
    assert len(files.operations) == fail_at + 1
    assert target.read_bytes() in (b"old", b"new content")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_the_twin_lets_everything_through_when_its_operation_is_never_reached(tmp_path: Path) -> None:
    files = FailingFiles(99)
    write_whole(tmp_path / "a", b"x", files)
    assert files.operations == ["write", "sync", "rename", "sync_folder"]


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not be written"):
        write_whole(tmp_path / "missing" / "a", b"x")


def test_cache_folder_follows_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "here"))
    assert cache_folder("plans") == tmp_path / "here" / "plans"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "edge-sdk"


def test_a_cache_folder_that_cannot_be_made_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(StorageError, match=CACHE_VARIABLE):
        cache_folder("plans")


@pytest.mark.parametrize("fail_at", range(4))
def test_a_file_made_elsewhere_takes_the_place_whole_or_not_at_all(tmp_path: Path, fail_at: int) -> None:
    target, made = tmp_path / "a", tmp_path / "made"
    target.write_bytes(b"old")
    made.write_bytes(b"new content")
    files = FailingFiles(fail_at)
    try:
        move_whole(made, target, files)
    except StorageError as error:
        assert "could not be written" in str(error)
    assert target.read_bytes() == (b"old" if fail_at < 2 else b"new content")
    assert fail_at < 3 or files.operations == ["sync", "rename", "sync_folder"]
