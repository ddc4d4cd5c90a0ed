"""Variants of an archive are unpacked once into the cache folder, checked on every way, and kept while in use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_sdk import bundle
from edge_sdk.bundle import extraction
from edge_sdk.errors import BundleDamaged, StorageError
from edge_sdk.storage import CACHE_VARIABLE, cache_folder
from tests.bundle.making import LARGE, SMALL, make, member, replace_member, variants


def unpacked() -> set[Path]:
    return {path for path in cache_folder("variants").rglob("*") if path.is_file()}


def test_a_variant_is_unpacked_when_it_is_opened_and_only_once(tmp_path: Path) -> None:
    with make(tmp_path / "m.edge", as_zip=True) as made:
        assert unpacked() == set()
        first = made.open_variant("small")
        (path,) = unpacked()
        assert first.path == path
        stamp = path.stat()
        assert made.open_variant("small").path == path
        with bundle.open(tmp_path / "m.edge") as again:
            again.open_variant("small")
        assert os.path.samestat(path.stat(), stamp)
        assert path.stat().st_mtime_ns == stamp.st_mtime_ns


def test_what_was_altered_in_the_cache_is_unpacked_again(tmp_path: Path) -> None:
    with make(tmp_path / "m.edge", as_zip=True) as made:
        made.open_variant("small")
        (path,) = unpacked()
        path.write_bytes(b"\0" * len(SMALL))
        assert bytes(made.open_variant("small").content()) == SMALL
    path.write_bytes(SMALL[:-1] + b"?")
    with bundle.open(tmp_path / "m.edge") as opened:
        assert bytes(opened.open_variant("small").content()) == SMALL


def test_a_damaged_archive_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    make(tmp_path / "m.edge", as_zip=True).close()
    with bundle.open(tmp_path / "m.edge") as opened:
        name = opened.variant("small").file
    replace_member(tmp_path / "m.edge", name, bytes(reversed(member(tmp_path / "m.edge", name))))
    with bundle.open(tmp_path / "m.edge") as opened, pytest.raises(BundleDamaged, match="not the file"):
        opened.open_variant("small")
    assert unpacked() == set()


def test_a_byte_flipped_in_the_compressed_stream_is_damage(tmp_path: Path) -> None:
    make(tmp_path / "m.edge", as_zip=True).close()
    whole = bytearray((tmp_path / "m.edge").read_bytes())
    with bundle.open(tmp_path / "m.edge") as opened:
        place = whole.find(opened.variant("large").file.encode()) + 100
    whole[place] ^= 0xFF
    with bundle.open(bytes(whole)) as opened, pytest.raises(BundleDamaged):
        opened.open_variant("large")
    assert unpacked() == set()


def test_room_is_made_of_what_nobody_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "MAX_CACHE_BYTES", len(SMALL) + len(LARGE) // 2)
    with make(tmp_path / "m.edge", as_zip=True) as made:
        used = made.open_variant("small")
        made.open_variant("large")
        assert used.path is not None
        assert used.path.is_file(), "both are in use, whatever room they take"
        assert len(unpacked()) == 2
    make(tmp_path / "n.edge", as_zip=True, variants=variants("v"), files={"v": LARGE}, golden=[]).close()
    with bundle.open(tmp_path / "n.edge") as other:
        other.open_variant("v")
        assert len(unpacked()) == 1


def test_a_cache_that_cannot_be_written_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with make(tmp_path / "m.edge", as_zip=True) as made:
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
        with pytest.raises(StorageError, match=CACHE_VARIABLE):
            made.open_variant("small")
        monkeypatch.delenv(CACHE_VARIABLE)
        assert made.variants[0].name == "small", "everything else is still read"


def test_the_cache_folder_may_hold_things_in_the_way(tmp_path: Path) -> None:
    with make(tmp_path / "m.edge", as_zip=True) as made:
        file = made.open_variant("small")
        assert file.path is not None
        file.path.unlink()
        file.path.mkdir()
        with pytest.raises(StorageError, match="could not be unpacked"):
            made.open_variant("small")


def test_two_bundles_with_one_variant_share_what_is_unpacked(tmp_path: Path) -> None:
    with make(tmp_path / "a.edge", as_zip=True) as a, make(tmp_path / "b.edge", as_zip=True, name="other") as b:
        assert a.open_variant("small").path == b.open_variant("small").path
