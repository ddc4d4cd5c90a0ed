"""Wherever a writer is stopped: what is left is the old bundle or the new one, whole, and can be written over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk import bundle
from edge_sdk.errors import BundleIncomplete, ModelNotFound, StorageError
from edge_sdk.storage import FailingFiles
from tests.bundle.killed_writer import found, left_over, write_new
from tests.bundle.making import make

ROOT = Path(__file__).parents[2]
forms = pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
ways = pytest.mark.parametrize("how", ["create", "replace", "update"])


@pytest.fixture(scope="module")
def after_kills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Which bundle was there after each kill, by form and way, from one process that forks them all."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bundle.killed_writer", str(tmp_path_factory.mktemp("killed"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found_states: dict[str, list[str]] = json.loads(done.stdout)
    return found_states


@forms
@ways
def test_killed_at_any_operation_the_old_bundle_or_the_new_is_there(
    after_kills: dict[str, list[str]], as_zip: bool, how: str
) -> None:
    """A real process, a real SIGKILL: before, in and after every operation that reaches the disk."""
    states = after_kills[f"{'zip' if as_zip else 'folder'} {how}"]
    assert len(states) >= (6 if as_zip else 20), "too few operations were seen"
    assert set(states) == {"old", "new"}
    assert states == sorted(states, reverse=True), "once the new bundle is there it stays"


@forms
@ways
def test_a_failure_of_any_operation_leaves_the_old_bundle_or_the_new(tmp_path: Path, as_zip: bool, how: str) -> None:
    """A full or failing disk, told by the operation itself."""
    outcomes = []
    for fail_at in range(200):
        path = tmp_path / f"{fail_at}" / "m.edge"
        path.parent.mkdir()
        old = None
        if how != "create":
            make(path, as_zip).close()
            old = found(path)
        storage = FailingFiles(fail_at)
        try:
            write_new(path, how, as_zip, storage)
        except StorageError as error:
            assert "m.edge" in str(error)
            state = found(path)
            outcomes.append("old" if state == old else "new")
            if state is not None:
                assert state != old or left_over(path) == [], "a disk that is full is not left fuller"
                assert set(state["files"]) == ({"small", "large"} if state == old else {"small", "third"})
        else:
            break
    assert len(storage.operations) == fail_at
    assert outcomes.count("new") <= 1, "only the last sync of the folder may fail with the new bundle in place"
    assert outcomes.count("old") >= 3


def test_a_first_write_that_was_stopped_is_no_bundle_and_is_written_over(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        make(tmp_path / "m.edge", storage=FailingFiles(8))
    with pytest.raises(BundleIncomplete, match="never finished"):
        bundle.open(tmp_path / "m.edge")
    with pytest.raises(StorageError):
        make(tmp_path / "z.edge", as_zip=True, storage=FailingFiles(0))
    with pytest.raises(ModelNotFound):
        bundle.open(tmp_path / "z.edge")
    with make(tmp_path / "m.edge") as made:
        made.verify()
