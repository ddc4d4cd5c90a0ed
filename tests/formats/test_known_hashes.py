"""A large file is hashed once; whatever could have changed it makes it be hashed again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from edge_sdk.formats import known_hashes, model_file, open_model
from edge_sdk.formats.known_hashes import KnownHash

models = pytest.importorskip("tests.models")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.onnx_add())
    os.utime(path, (1, 1))
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", 0)
    return path


def kept(cache: Path) -> list[Path]:
    return list((cache / "hashes").glob("*")) if (cache / "hashes").is_dir() else []


def test_a_hash_is_kept_and_found_again(file: Path, own_cache: Path) -> None:
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    assert open_model(file).sha256 == expected
    (entry,) = kept(own_cache)
    # What is found is believed: this shows that it was not hashed again.
    entry.write_bytes(msgspec.json.encode(KnownHash("a" * 64)))
    assert open_model(file).sha256 == "a" * 64


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_hashed_again(file: Path, own_cache: Path) -> None:
    first = open_model(file).sha256
    other = bytearray(file.read_bytes())
    other[-1] ^= 1
    file.write_bytes(other)
    os.utime(file, (1, 1))
    assert open_model(file).sha256 == hashlib.sha256(other).hexdigest() != first


def test_a_file_changed_a_moment_ago_is_not_kept(file: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", 3600 * 10**9)
    assert open_model(file).sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert kept(own_cache) == []


def test_external_files_are_known_without_parsing_and_hashed_each(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.onnx_external_data(tmp_path)
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", 0)
    first = open_model(path).fingerprint
    monkeypatch.setattr(model_file.ModelFile, "describe", lambda self: pytest.fail("parsed again"))
    assert open_model(path).fingerprint == first
    weights = next(file for file in tmp_path.iterdir() if file != path)
    changed = bytearray(weights.read_bytes())
    changed[0] ^= 1
    weights.write_bytes(changed)
    assert open_model(path).fingerprint != first


@pytest.mark.parametrize("content", [b"", b"x" * 64, b'{"sha256": "aa"}', b'{"sha256": "' + b"A" * 64 + b'"}'])
def test_a_damaged_entry_is_not_believed(file: Path, own_cache: Path, content: bytes) -> None:
    expected = open_model(file).sha256
    kept(own_cache)[0].write_bytes(content)
    assert open_model(file).sha256 == expected
