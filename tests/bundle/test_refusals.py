"""What is damaged, incomplete, hostile or too new is refused: each for its own reason, in one line, before any use."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_sdk import bundle
from edge_sdk.bundle import BundleWarning, Limits
from edge_sdk.errors import (
    BundleDamaged,
    BundleError,
    BundleIncomplete,
    BundleTooLarge,
    InvalidManifest,
    UnknownFeature,
    UnsafePath,
    UnsupportedBundle,
)
from tests.bundle.making import (
    CASCADE,
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
Change = Callable[[dict[str, Any]], None]
CUT = {"id": "a", "variant": "small", "tensors": ["t"]}
PAIR = msgspec.to_builtins(CASCADE)


@pytest.fixture(params=[False, True], ids=["folder", "zip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bundle on disk."""
    with make(tmp_path / "m.edge", as_zip=request.param) as made:
        assert made.path is not None
        return made.path


def small_file(path: Path) -> str:
    with bundle.open(path) as opened:
        return opened.variant("small").file


def refused(path: Path, kind: type[BundleError], message: str) -> BundleError:
    """Opens a bundle that is expected to be refused by just this kind, in one line that names the bundle."""
    with pytest.raises(kind, match=message) as caught:
        bundle.open(path)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert "m.edge" in str(caught.value)
    return caught.value


def test_a_flipped_byte_is_damage(path: Path) -> None:
    name = small_file(path)
    content = bytearray(member(path, name))
    content[len(content) // 2] ^= 1
    replace_member(path, name, bytes(content))
    with bundle.open(path) as opened:
        for read in (opened.verify, lambda: opened.open_variant("small")):
            with pytest.raises(
                BundleDamaged, match=r"'variants/small-\w+/model\.onnx' is not the file that was written"
            ):
                read()
        opened.open_variant("large")


@pytest.mark.parametrize("position", [0, 4, -1])
def test_a_flipped_byte_anywhere_is_damage_and_not_an_unknown_format(path: Path, position: int) -> None:
    name = small_file(path)
    content = bytearray(member(path, name))
    content[position] ^= 0x80
    replace_member(path, name, bytes(content))
    with bundle.open(path) as opened, pytest.raises(BundleDamaged, match="not the file that was written"):
        opened.open_variant("small")


def test_a_file_of_another_size_is_damage_at_once(path: Path) -> None:
    replace_member(path, small_file(path), SMALL + b"\0")
    refused(path, BundleDamaged, rf"has {len(SMALL) + 1} bytes, expected {len(SMALL)}")


def test_a_missing_variant_is_incomplete(path: Path) -> None:
    replace_member(path, small_file(path), None)
    refused(path, BundleIncomplete, r"'variants/small-\w+/model\.onnx' is missing")


def test_a_missing_manifest_is_incomplete(path: Path) -> None:
    replace_member(path, "manifest.json", None)
    refused(path, BundleIncomplete, r"has no manifest\.json")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "name",
    ["../model.onnx", "/etc/passwd", "a/../../b", "a\\..\\b", "C:/b", "a//b", "a/./b", "", "a\0b", "a\nb", "x" * 300],
)
def test_a_path_that_leads_out_is_unsafe(path: Path, name: str, signed: bool) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["variants"][0]["file"] = name

    alter_manifest(path, change, resign=signed)
    refused(path, UnsafePath, r"variants\[0\]: path")


@pytest.mark.parametrize("place", ["external_files", "golden inputs", "golden outputs"])
def test_every_path_of_the_manifest_is_checked(path: Path, place: str) -> None:
    file = {"path": "../x", "sha256": "0" * 64, "size_bytes": 1}

    def change(raw: dict[str, Any]) -> None:
        if place == "external_files":
            raw["variants"][0]["external_files"] = [file]
        elif place == "golden inputs":
            raw["golden"][0]["inputs"] = file
        else:
            raw["golden"][0]["outputs"][0]["file"] = file

    alter_manifest(path, change)
    with pytest.raises((UnsafePath, InvalidManifest), match=r"\.\./x"):
        bundle.open(path)


@pytest.mark.parametrize("twin", ["VARIANTS/A", "variants/A/b", "variants/a/b/c"])
def test_paths_that_some_file_systems_hold_for_one_are_unsafe(path: Path, twin: str) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["variants"][0]["file"] = "variants/a" if twin == "VARIANTS/A" else "variants/a/b"
        raw["variants"][1]["file"] = twin

    alter_manifest(path, change)
    if twin == "variants/A/b":
        refused(path, UnsafePath, "one place on some file systems")
    else:
        refused(path, UnsafePath, r"'variants/a.*' and '")


def test_a_thousand_to_one_zip_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "m.edge"
    make(path, as_zip=True).close()
    name = small_file(path)
    alter_manifest(path, lambda raw: raw["variants"][0].update(size_bytes=20 * 2**20))
    replace_member(path, name, bytes(20 * 2**20))
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(name)
        assert entry.file_size > 1000 * entry.compress_size
    refused(path, BundleTooLarge, r"more than 100:1.*Limits\(max_ratio=")
    with bundle.open(path, limits=Limits(max_ratio=2000)) as opened, pytest.raises(BundleDamaged):
        opened.verify()


def test_a_newer_major_format_is_not_supported(path: Path) -> None:
    alter_manifest(path, lambda raw: raw.update(format={"major": 2, "minor": 0}, variants="of another kind"))
    refused(path, UnsupportedBundle, r"is of bundle format 2\.0; this version of edge-sdk reads 1\.x; update edge-sdk")


def test_an_unknown_required_feature_is_named(path: Path) -> None:
    alter_manifest(path, lambda raw: raw.update(requires=["telepathy"], signature="of another kind"))
    error = refused(path, UnknownFeature, "requires 'telepathy'.*update edge-sdk")
    assert isinstance(error, UnknownFeature)
    assert error.features == ("telepathy",)


def test_the_six_have_six_classes_below_one() -> None:
    six = [BundleDamaged, BundleIncomplete, UnsafePath, BundleTooLarge, UnsupportedBundle, UnknownFeature]
    assert all(kind.__mro__[1] is BundleError for kind in six)
    assert len(set(six)) == 6


def test_a_manifest_that_was_changed_by_hand_is_damaged(path: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["variants"][0]["accuracy"][0]["value"] = 0.99

    alter_manifest(path, change, resign=False)
    refused(path, BundleDamaged, r"manifest\.json: was changed after it was written.*edge_sdk\.bundle\.update")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(colour="red"), "key 'colour' is none of format 1.2"),
        (lambda raw: raw["variants"][1].update(speed=1), r"key 'variants\[1\]\.speed'"),
        (lambda raw: raw["signature"]["inputs"][0].update(unit="m"), r"key 'signature\.inputs\[0\]\.unit'"),
        (lambda raw: raw["variants"][0].update(extra={}), r"'variants\[0\]\.extra'"),
        (lambda raw: raw["variants"][0].update(size_bytes="12"), r"variants\[0\]\.size_bytes: Expected int, got str"),
        (lambda raw: raw["variants"][0].update(sha256="12"), r"sha256 is '12'; expected 64"),
        (lambda raw: raw.update(digest="x"), "digest is 'x'"),
        (lambda raw: raw.update(parent_digest="x"), "parent_digest is 'x'"),
        (lambda raw: raw.pop("name"), "missing required field name"),
        (lambda raw: raw.update(variants=[]), "at least one"),
        (lambda raw: raw.update(release=0), "release is 0"),
        (lambda raw: raw.pop("format"), "has no format version"),
        (lambda raw: raw.update(format={"major": True, "minor": 0}), "has no format version"),
        (lambda raw: raw.update(cuts=[{"id": "a", "variant": "huge", "tensors": ["t"]}]), "'huge' is not known"),
        (lambda raw: raw.update(cuts=[{"id": "a", "variant": "small", "tensors": []}]), "tensors is empty"),
        (
            lambda raw: raw.update(cuts=[{"id": "a", "variant": "small", "tensors": ["t"], "head_macs": -1}]),
            "head_macs is -1",
        ),
        (
            lambda raw: raw.update(cuts=[{"id": "a", "variant": "small", "tensors": ["t"]}] * 2),
            "'small/a' occurs twice",
        ),
        (lambda raw: raw.update(cuts=[CUT | {"leakage": 2.0}]), "leakage is 2.0; expected a share"),
        (
            lambda raw: raw.update(cuts=[CUT | {"codecs": [{"codec": "int8", "wire_bytes": -1.0}]}]),
            r"cuts\[0\]\.codecs\[0\]\.wire_bytes is -1",
        ),
        (
            lambda raw: raw.update(cuts=[CUT | {"codecs": [{"codec": "int8", "wire_bytes": 1, "speed": 2}]}]),
            r"key 'cuts\[0\]\.codecs\[0\]\.speed'",
        ),
        (lambda raw: raw.update(cascades=[PAIR | {"small": "huge"}]), r"cascades\[0\]\.small: 'huge' is not known"),
        (lambda raw: raw.update(cascades=[PAIR | {"output": "z"}]), r"cascades\[0\]\.output: 'z' is not known"),
        (lambda raw: raw.update(cascades=[PAIR | {"big": "small"}]), "two variants, or one with its exit"),
        (lambda raw: raw.update(cascades=[PAIR | {"accuracy": 1.5}]), "accuracy is 1.5; expected a share"),
        (lambda raw: raw["golden"][0]["outputs"][0].update(variant="huge"), "'huge' is not known"),
        (lambda raw: raw["variants"][0].update(macs=-1), "macs is -1"),
        (lambda raw: raw["variants"][0].update(mapping={"inputs": [{"name": "z", "tensor": "x"}]}), "'z' is not known"),
        (
            lambda raw: raw["variants"][0].update(
                mapping={"inputs": [{"name": "x", "tensor": "x", "transpose": [0, 0]}]}
            ),
            "each axis",
        ),
        (
            lambda raw: raw["variants"][0].update(
                mapping={"outputs": [{"name": "y", "tensor": "y", "shape": [-1, -1]}]}
            ),
            "-1 at most once",
        ),
        (
            lambda raw: raw["variants"][0].update(mapping={"outputs": [{"name": "y", "tensor": "y", "scale": 0.0}]}),
            "scale of 'y' is 0",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_names_the_key(tmp_path: Path, change: Change, message: str) -> None:
    make(tmp_path / "m.edge").close()
    alter_manifest(tmp_path / "m.edge", change)
    refused(tmp_path / "m.edge", InvalidManifest, message)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"nul", b'{"a": 1e999}', b"[" * 100_000, b'{"x-a": ' + b"[" * 40 + b"]" * 40 + b"}"],
    ids=["empty", "cut", "list", "no UTF-8", "word", "number", "endless", "deep"],
)
def test_a_manifest_that_is_no_json_object_is_invalid(tmp_path: Path, content: bytes) -> None:
    make(tmp_path / "m.edge").close()
    replace_member(tmp_path / "m.edge", "manifest.json", content)
    refused(tmp_path / "m.edge", InvalidManifest, r"manifest\.json")


@both
def test_a_manifest_without_end_is_not_read(tmp_path: Path, as_zip: bool) -> None:
    make(tmp_path / "m.edge", as_zip).close()
    replace_member(tmp_path / "m.edge", "manifest.json", os.urandom(2**20) * 9)
    with pytest.raises(BundleError, match="bytes"):
        bundle.open(tmp_path / "m.edge")


def test_unknown_keys_of_a_newer_minor_format_are_ignored_with_a_warning(path: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["format"]["minor"] = 7
        raw["colour"] = "red"
        raw["variants"][1]["speed"] = 1

    alter_manifest(path, change)
    with pytest.warns(BundleWarning, match=r"1\.7, newer than 1\.2.*'colour', 'variants\[1\]\.speed'"):
        opened = bundle.open(path)
    assert len(everything(opened)["files"]) == 2
    opened.close()


def test_a_newer_minor_format_without_unknown_keys_is_read_in_silence(path: Path) -> None:
    alter_manifest(path, lambda raw: raw["format"].update(minor=7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundle.open(path).close()


def test_free_keys_are_kept_wherever_they_stand(path: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["x-top"] = [1, {"deep": None}]
        raw["format"]["x-f"] = 0
        raw["variants"][0]["x-note"] = "slow on the old board"
        raw["variants"][0]["accuracy"][0]["x-seed"] = 7
        raw["signature"]["x-s"] = 1
        raw["signature"]["inputs"][0]["x-unit"] = "m/s"
        raw["golden"][0]["outputs"][0]["file"]["x-made"] = True

    alter_manifest(path, change)
    with bundle.open(path) as opened, bundle.update(opened, name="renamed") as updated:
        for manifest in (opened.manifest, updated.manifest):
            assert manifest.extra == {"x-top": [1, {"deep": None}]}
            assert manifest.format.extra == {"x-f": 0}
            assert manifest.variants[0].extra == {"x-note": "slow on the old board"}
            assert manifest.variants[0].accuracy[0].extra == {"x-seed": 7}
            assert manifest.signature.extra == {"x-s": 1}
            assert manifest.signature.inputs[0].extra == {"x-unit": "m/s"}
            assert manifest.golden[0].outputs[0].file.extra == {"x-made": True}


# --- folders ---


def test_a_link_out_of_the_folder_is_unsafe(tmp_path: Path) -> None:
    make(tmp_path / "m.edge").close()
    file = tmp_path / "m.edge" / small_file(tmp_path / "m.edge")
    (tmp_path / "outside.onnx").write_bytes(SMALL)
    file.unlink()
    file.symlink_to(tmp_path / "outside.onnx")
    refused(tmp_path / "m.edge", UnsafePath, "is a link out of the bundle")


def test_a_linked_folder_inside_is_unsafe_too(tmp_path: Path) -> None:
    make(tmp_path / "m.edge").close()
    (tmp_path / "m.edge" / "variants").rename(tmp_path / "elsewhere")
    (tmp_path / "m.edge" / "variants").symlink_to(tmp_path / "elsewhere")
    refused(tmp_path / "m.edge", UnsafePath, "is a link out of the bundle")


def test_a_link_to_the_bundle_itself_is_fine(tmp_path: Path) -> None:
    make(tmp_path / "m.edge").close()
    (tmp_path / "current.edge").symlink_to("m.edge")
    with bundle.open(tmp_path / "current.edge") as opened:
        opened.verify()
        opened.open_variant("small")


def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    make(tmp_path / "m.edge").close()
    file = tmp_path / "m.edge" / small_file(tmp_path / "m.edge")
    file.unlink()
    os.mkfifo(file)
    refused(tmp_path / "m.edge", BundleIncomplete, "is missing")
    os.mkfifo(tmp_path / "pipe.edge")
    with pytest.raises(BundleError, match="neither a folder nor a regular file"):
        bundle.open(tmp_path / "pipe.edge")


# --- archives ---


def archive_of(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    """An archive with a bundle's manifest and more entries."""
    make(path, as_zip=True).close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of what is tried here
        with zipfile.ZipFile(path, "a") as archive:
            for entry, content in entries:
                archive.writestr(entry, content)
    return path


@pytest.mark.parametrize("name", ["../up", "/root", "a/../../b", "a\\b", "D:x", "a//b"])
def test_an_entry_that_leads_out_is_unsafe(tmp_path: Path, name: str) -> None:
    refused(archive_of(tmp_path / "m.edge", (name, b"x")), UnsafePath, "path")


def test_a_name_cut_at_its_zero_byte_is_unsafe(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "m.edge", ("notes_txt", b"x"))
    path.write_bytes(path.read_bytes().replace(b"notes_txt", b"notes\0txt"))
    with pytest.raises(BundleError):
        bundle.open(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_an_archive_are_unsafe(tmp_path: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("link")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    refused(archive_of(tmp_path / "m.edge", (entry, b"/etc/passwd")), UnsafePath, "is a link or a device")


@pytest.mark.parametrize(
    "twins", [("notes.txt", "notes.txt"), ("notes.txt", "NOTES.txt"), ("é", "e\u0301"), ("a/b", "a")]
)
def test_entries_that_collide_are_unsafe(tmp_path: Path, twins: tuple[str, str]) -> None:
    entries = [(name, b"x") for name in twins]
    refused(archive_of(tmp_path / "m.edge", *entries), UnsafePath, "twice|one place on some file systems")


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "m.edge", ("secret", b"x"))
    content = bytearray(path.read_bytes())
    central = content.rfind(b"PK\x01\x02")
    content[central + 8] |= 1
    path.write_bytes(bytes(content))
    refused(path, BundleError, "'secret' is encrypted")


def test_another_compression_than_deflate_is_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("other")
    entry.compress_type = zipfile.ZIP_LZMA
    refused(archive_of(tmp_path / "m.edge", (entry, b"x")), BundleError, "compressed by method 14")


def test_the_size_of_all_files_together_is_limited(tmp_path: Path) -> None:
    make(tmp_path / "m.edge", as_zip=True).close()
    with pytest.raises(BundleTooLarge, match=r"would expand to .* expected at most 1000;"):
        bundle.open(tmp_path / "m.edge", limits=Limits(max_total_bytes=1000))


def test_the_number_of_entries_is_limited(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "m.edge", *((f"n{n}", b"") for n in range(50)))
    with pytest.raises(BundleTooLarge, match="entries; expected at most 40"):
        bundle.open(path, limits=Limits(max_entries=40))


def test_a_directory_that_claims_to_be_endless_is_not_read(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "m.edge")
    content = bytearray(path.read_bytes())
    end = content.rfind(b"PK\x05\x06")
    struct.pack_into("<L", content, end + 12, 0x7FFFFFFF)
    path.write_bytes(bytes(content))
    refused(path, BundleTooLarge, "directory alone has 2147483647 bytes")


def test_entries_that_overlap_are_damage(tmp_path: Path) -> None:
    """A "zip bomb without recursion": many names for one compressed part."""
    path = archive_of(tmp_path / "m.edge", ("big", os.urandom(100_000)))
    content = path.read_bytes()
    end = content.rfind(b"PK\x05\x06")
    last = content.rfind(b"PK\x01\x02", 0, end)
    more = b"".join(content[last:end].replace(b"big", b"bi%d" % n) for n in range(5))
    count, size = struct.unpack_from("<HL", content, end + 10)
    tail = bytearray(content[end:])
    struct.pack_into("<HHL", tail, 8, count + 5, count + 5, size + len(more))
    path.write_bytes(content[:end] + more + bytes(tail))
    refused(path, BundleDamaged, "overlap")


def test_a_file_that_is_no_archive_says_so(tmp_path: Path) -> None:
    for content in (b"", b"not a bundle", SMALL, b"PK\x03\x04" + bytes(100)):
        (tmp_path / "m.edge").write_bytes(content)
        refused(tmp_path / "m.edge", BundleDamaged, "damaged as a zip archive")


def test_every_way_to_cut_an_archive_short_is_damage(tmp_path: Path) -> None:
    make(tmp_path / "m.edge", as_zip=True).close()
    whole = (tmp_path / "m.edge").read_bytes()
    for length in range(0, len(whole), 13):
        with pytest.raises(BundleDamaged):
            bundle.open(whole[:length])


def test_what_compresses_too_well_is_stored_so_that_every_reader_takes_it(tmp_path: Path) -> None:
    """An honest model of zeros must not look like a bomb: what `create` writes is always read."""
    from tests import models

    zeros = models.onnx_bytes(
        [models.helper.make_node("MatMul", ["x", "w"], ["y"])],
        [models.value("x", ["batch", 8])],
        [models.value("y", ["batch", 65_536])],
        [models.constant("w", [[0.0] * 65_536] * 8)],
    )
    with make(tmp_path / "m.edge", True, variants=variants("z"), files={"z": zeros}, golden=[golden("z")]) as made:
        made.verify()
        with zipfile.ZipFile(tmp_path / "m.edge") as archive:
            entry = archive.getinfo(made.variant("z").file)
        assert entry.compress_type == zipfile.ZIP_STORED
        assert made.open_variant("z").size_bytes == len(zeros)


def test_zip64_archives_are_read(tmp_path: Path) -> None:
    make(tmp_path / "m.edge", as_zip=True).close()
    target = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "m.edge") as source, zipfile.ZipFile(target, "w") as archive:
        for entry in source.infolist():
            with archive.open(entry.filename, "w", force_zip64=True) as file:
                file.write(source.read(entry))
    with bundle.open(target.getvalue()) as opened:
        opened.verify()
