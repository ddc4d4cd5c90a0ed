"""Whatever the bytes are: a bundle that is whole, or an `EdgeError` in one line."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk import bundle
from edge_sdk.bundle.manifest_json import decode_manifest, encode_manifest
from edge_sdk.bundle.paths import check_path
from edge_sdk.errors import EdgeError, InvalidManifest, UnsafePath
from tests.bundle.making import make, member

MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def archive() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "m.edge", as_zip=True, extra={"x-a": 1}).close()
        return (Path(folder) / "m.edge").read_bytes()


@pytest.fixture(scope="module")
def manifest() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "m.edge", extra={"x-a": 1}).close()
        return member(Path(folder) / "m.edge", "manifest.json")


def whole_or_refused(content: bytes) -> None:
    """Reads all of a bundle in memory; anything but an `EdgeError` of one line fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a newer minor format
            with bundle.open(content) as opened:
                opened.verify()
                for variant in opened.variants:
                    opened.open_variant(variant.name).close()
                assert all(sample.feeds for sample in opened.golden())
    except EdgeError as error:
        assert "\n" not in str(error)
        assert str(error)


@MANY
@given(st.data())
def test_an_archive_with_bytes_changed(archive: bytes, data: st.DataObject) -> None:
    content = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=6))
        content[place : place + len(patch)] = patch
    whole_or_refused(bytes(content))


@MANY
@given(st.data())
def test_an_archive_whose_directory_was_changed(archive: bytes, data: st.DataObject) -> None:
    """The end of an archive says where everything lies: most of what can go wrong goes wrong there."""
    content = bytearray(archive)
    start = content.find(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(start, len(content) - 1))] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    whole_or_refused(bytes(content))


@MANY
@given(st.binary(max_size=200))
def test_any_bytes_at_all(content: bytes) -> None:
    whole_or_refused(content)
    whole_or_refused(b"PK\x05\x06" + content)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["../x", "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, item in inner for p in places(item, (*path, key)))]


@MANY
@given(st.data())
def test_a_manifest_with_a_value_replaced(manifest: bytes, data: st.DataObject) -> None:
    raw = json.loads(manifest)
    *way, last = data.draw(st.sampled_from(places(raw)[1:]))
    target = raw
    for key in way:
        target = target[key]
    if isinstance(target, dict) and data.draw(st.booleans()):
        target[data.draw(st.text(max_size=6) | st.just("x-free"))] = data.draw(json_values)
    else:
        target[last] = data.draw(json_values)
    try:
        decoded = decode_manifest(json.dumps(raw).encode(), "test")
    except EdgeError as error:
        assert "\n" not in str(error)
        return
    assert decoded.name


text = st.text(st.characters(codec="utf-8"), max_size=8)
json_kept = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@settings(MANY, max_examples=60)
@given(st.dictionaries(text.map(lambda name: f"x-{name}"), json_kept, max_size=4))
def test_free_keys_come_back_whatever_they_hold(manifest: bytes, extra: dict[str, Any]) -> None:
    changed = msgspec.structs.replace(decode_manifest(manifest, "test"), extra=extra)
    again, content = encode_manifest(changed, "test")
    assert again.extra == extra
    assert decode_manifest(content, "test") == again


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], "\ud800", object(), {(1, 2): 3}])
def test_what_json_cannot_keep_is_refused(manifest: bytes, value: Any) -> None:
    changed = msgspec.structs.replace(decode_manifest(manifest, "test"), extra={"x-a": value})
    with pytest.raises(InvalidManifest, match="no form"):
        encode_manifest(changed, "test")


@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "a", "", "\\", "/", ":", "b.onnx"])).map("/".join))
def test_a_path_that_passes_stays_below_the_root(path: str) -> None:
    try:
        check_path(path, "test")
    except UnsafePath:
        return
    inside = Path("/root/bundle").joinpath(path)
    assert inside.is_relative_to("/root/bundle")
    assert ".." not in inside.parts
    assert inside != Path("/root/bundle")
