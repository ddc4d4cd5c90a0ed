"""The next release of a bundle: what changes, what stays, and what happens to those who have the old one open."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from edge_sdk import bundle
from edge_sdk.bundle import Cut, Latency
from edge_sdk.errors import BundleDamaged, BundleError
from tests.bundle.killed_writer import left_over
from tests.bundle.making import (
    CASCADE,
    LARGE,
    SMALL,
    alter_manifest,
    everything,
    golden,
    make,
    member,
    replace_member,
    variants,
)

both = pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])


@both
def test_the_release_rises_and_names_its_parent(tmp_path: Path, as_zip: bool) -> None:
    with make(tmp_path / "m.edge", as_zip) as first, bundle.update(first, recipe={"by": "hand"}) as second:
        assert (first.manifest.release, second.manifest.release) == (1, 2)
        assert second.manifest.parent_digest == first.digest != second.digest
        assert second.manifest.recipe == {"by": "hand"}
        assert everything(second)["files"] == everything(first)["files"]
        assert len(list(second.golden())) == 1


@both
def test_writing_over_a_bundle_is_its_next_release(tmp_path: Path, as_zip: bool) -> None:
    with make(tmp_path / "m.edge", as_zip) as first, make(tmp_path / "m.edge", as_zip, name="new") as second:
        assert (second.manifest.release, second.manifest.parent_digest) == (2, first.digest)
    with pytest.raises(BundleError, match="release is 2; expected more than 2"):
        make(tmp_path / "m.edge", as_zip, release=2)
    with make(tmp_path / "m.edge", as_zip, release=10) as tenth:
        assert tenth.manifest.release == 10


@both
def test_figures_are_added_without_touching_a_file(tmp_path: Path, as_zip: bool) -> None:
    with make(tmp_path / "m.edge", as_zip) as first:
        small, large = first.variants
        small = msgspec.structs.replace(small, latency=(Latency(device="board", engine="litert 2", latency_ms=3.5),))
        with bundle.update(first, variants=[small, large]) as second:
            assert second.variant("small").latency[0].latency_ms == 3.5
            assert second.manifest.files == first.manifest.files


@both
def test_variants_come_go_and_are_replaced(tmp_path: Path, as_zip: bool) -> None:
    # The same tensors cut two variants: one id.
    cuts = [Cut(id="a", variant="small", tensors=("h1",)), Cut(id="a", variant="large", tensors=("h1",))]
    make(tmp_path / "m.edge", as_zip, cuts=cuts, cascades=[CASCADE]).close()
    with bundle.update(tmp_path / "m.edge", variants=variants("small", "large")) as first:
        assert first.manifest.cascades == (CASCADE,)
    with bundle.update(tmp_path / "m.edge", variants=variants("small", "third"), files={"third": LARGE}) as second:
        assert set(everything(second)["files"]) == {"small", "third"}
        assert [cut.variant for cut in second.manifest.cuts] == ["small"]
        assert second.manifest.cascades == (), "the large one is gone"
        assert [set(sample.answers) for sample in second.golden()] == [{"small"}]
    with bundle.update(tmp_path / "m.edge", files={"small": LARGE}) as third:
        assert everything(third)["files"]["small"] == LARGE
        assert [set(sample.answers) for sample in third.golden()] == [set()], "answers of another file are no answers"
        assert third.manifest.cuts == ()
    assert left_over(tmp_path / "m.edge") == []


def test_a_variant_without_a_file_must_be_there_already(tmp_path: Path) -> None:
    with make(tmp_path / "m.edge") as first:
        with pytest.raises(BundleError, match="'third' is new; expected its model file"):
            bundle.update(first, variants=variants("third"))
        with pytest.raises(BundleError, match="none of the variants"):
            bundle.update(first, files={"third": SMALL})
        with pytest.raises(TypeError, match="colour"):
            bundle.update(first, colour="red")


@both
def test_of_two_who_change_one_bundle_the_second_is_told(tmp_path: Path, as_zip: bool) -> None:
    with make(tmp_path / "m.edge", as_zip) as mine, bundle.open(tmp_path / "m.edge") as theirs:
        bundle.update(theirs, name="theirs").close()
        with pytest.raises(BundleError, match="another writer changed it meanwhile"):
            bundle.update(mine, name="mine")
    with bundle.open(tmp_path / "m.edge") as opened:
        assert (opened.manifest.name, opened.manifest.release) == ("theirs", 2)


@both
def test_who_has_the_old_bundle_open_keeps_its_files(tmp_path: Path, as_zip: bool) -> None:
    with make(tmp_path / "m.edge", as_zip) as old:
        before = everything(old)
        bundle.update(tmp_path / "m.edge", variants=variants("third"), files={"third": LARGE}, golden=[]).close()
        assert everything(old) == before
    bundle.update(tmp_path / "m.edge", name="again").close()
    assert left_over(tmp_path / "m.edge") == [], "once nobody has it open its files go with the next write"


def test_an_open_bundle_that_is_dropped_lets_go(tmp_path: Path) -> None:
    make(tmp_path / "m.edge")  # never closed, but gone
    bundle.update(tmp_path / "m.edge", variants=variants("third"), files={"third": LARGE}, golden=[]).close()
    assert left_over(tmp_path / "m.edge") == []


def test_readers_find_a_whole_bundle_while_writers_replace_it(tmp_path: Path) -> None:
    make(tmp_path / "m.edge").close()
    stop = threading.Event()
    failures: list[Exception] = []
    releases: list[int] = []

    def read() -> None:
        while not stop.is_set():
            try:
                with bundle.open(tmp_path / "m.edge") as opened:
                    releases.append(everything(opened)["release"])
            except Exception as error:  # noqa: BLE001 - told by the main thread
                failures.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(15):
        content = [SMALL, LARGE][number % 2]
        make(
            tmp_path / "m.edge", variants=variants("v"), files={"v": content}, golden=[golden("v", value=number)]
        ).close()
    stop.set()
    reader.join()
    assert failures == []
    assert releases == sorted(releases)


@both
def test_a_damaged_bundle_can_be_built_again(tmp_path: Path, as_zip: bool) -> None:
    make(tmp_path / "m.edge", as_zip).close()
    path = tmp_path / "m.edge"
    replace_member(path, "manifest.json", b"{")
    with make(path, as_zip) as again:
        again.verify()
    alter_manifest(path, lambda raw: raw["format"].update(major=9))
    with make(path, as_zip) as again:
        assert again.manifest.release == 2, "the release rises though the old one cannot be read"
    if as_zip:
        path.write_bytes(path.read_bytes()[:-30])
        make(path, as_zip).close()


def test_content_that_was_altered_on_disk_is_not_carried_into_the_next_release(tmp_path: Path) -> None:
    for as_zip in (False, True):
        path = tmp_path / f"{as_zip}.edge"
        with make(path, as_zip) as made:
            name = made.variant("small").file
        content = bytearray(member(path, name))
        content[100] ^= 1
        replace_member(path, name, bytes(content))
        with pytest.raises(BundleError, match=r"model\.onnx"):
            bundle.update(path, name="next")
        with bundle.open(path) as opened, pytest.raises(BundleDamaged):
            opened.verify()
        with make(path, as_zip) as again:
            again.verify()
