"""What goes into a bundle comes out of it, as a folder and as one zip."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk import bundle
from edge_sdk.bundle import manifest
from edge_sdk.bundle.arrays import pack_arrays, unpack_arrays
from edge_sdk.bundle.manifest import FORMAT_MAJOR, FORMAT_MINOR, Manifest
from edge_sdk.errors import BundleDamaged, BundleError, InputTypeError, ModelNotFound, StorageError
from edge_sdk.formats import open_model
from edge_sdk.signature import LogicalTensor, Signature, TensorMapping
from tests import models
from tests.bundle.making import LARGE, SIGNATURE, SMALL, everything, golden, make, variants

both = pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])


@both
def test_what_was_written_is_read(tmp_path: Path, as_zip: bool) -> None:
    recipe = {"source": "mlp.onnx"}
    with make(tmp_path / "m.edge", as_zip, recipe=recipe, extra={"x-owner": {"team": 1}}) as made:
        assert made.manifest == bundle.open(tmp_path / "m.edge").manifest
        assert (made.name, made.manifest.name, made.manifest.release) == ("m.edge", "mlp", 1)
        assert made.manifest.parent_digest is None
        assert (made.manifest.format.major, made.manifest.format.minor) == (FORMAT_MAJOR, FORMAT_MINOR)
        assert made.signature == SIGNATURE
        assert made.signature.labels == ("no", "on", "12:30", "é")
        assert made.manifest.recipe == recipe
        assert made.manifest.extra == {"x-owner": {"team": 1}}
        assert [v.name for v in made.variants] == ["small", "large"]
        made.verify()


@both
def test_a_variant_is_opened_as_a_model_file(tmp_path: Path, as_zip: bool) -> None:
    with make(tmp_path / "m.edge", as_zip) as made:
        small, file = made.variant("small"), made.open_variant("small")
        assert bytes(file.content()) == SMALL
        assert (file.name, file.format) == ("m.edge/small", "onnx")
        assert file.sha256 == small.sha256
        assert (small.format, small.precision, small.size_bytes) == ("onnx", "float32", len(SMALL))
        assert small.parameters == file.describe().parameters
        file.check()


@both
def test_external_weights_belong_to_their_variant(tmp_path: Path, as_zip: bool) -> None:
    (tmp_path / "source").mkdir()
    source = models.onnx_external_data(tmp_path / "source", "net.onnx")
    with make(tmp_path / "m.edge", as_zip, variants=variants("ext"), files={"ext": source}, golden=[]) as made:
        (weights,) = made.variant("ext").external_files
        assert weights.path.endswith("/net.onnx.data")
        assert made.variant("ext").total_bytes == source.stat().st_size + 256
        file = made.open_variant("ext")
        file.check()
        assert file.fingerprint == open_model(source).fingerprint


@both
def test_golden_requests_come_back_with_the_answers_of_each_variant(tmp_path: Path, as_zip: bool) -> None:
    samples = [golden("small", "large"), golden("large", value=2.0)]
    with make(tmp_path / "m.edge", as_zip, golden=samples) as made:
        first, second = made.golden()
        assert set(first.answers) == {"small", "large"}
        assert set(second.answers) == {"large"}
        np.testing.assert_array_equal(first.feeds["x"], np.arange(8, dtype=np.float32)[None])
        answer = second.answers["large"]
        np.testing.assert_array_equal(answer.outputs["y"], np.full((1, 4), 2.0, np.float32))
        assert (answer.tolerance, answer.engine, answer.isa) == (0.01, "onnxruntime 1", "x86_64")
        assert [set(sample.answers) for sample in made.golden(only="small")] == [{"small"}]


def test_bytes_of_an_archive_are_a_bundle_too(tmp_path: Path) -> None:
    with make(tmp_path / "m.edge", as_zip=True) as made:
        held = bundle.open((tmp_path / "m.edge").read_bytes())
        assert everything(held) == everything(made)
        with pytest.raises(BundleError, match="in memory"):
            bundle.update(held, name="other")


def test_the_same_parts_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.edge", "b.edge"):
        make(tmp_path / name, as_zip=True).close()
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()
    assert make(tmp_path / "c.edge").digest == make(tmp_path / "d.edge").digest


@both
def test_a_copy_keeps_the_digest_in_either_form(tmp_path: Path, as_zip: bool) -> None:
    with make(tmp_path / "m.edge", as_zip) as made, bundle.copy(made, tmp_path / "n.edge", as_zip=not as_zip) as copied:
        assert everything(copied) == everything(made)
        assert (tmp_path / "n.edge").is_dir() == as_zip
        with pytest.raises(BundleError, match="there already"):
            bundle.copy(made, tmp_path / "n.edge")


def test_a_folder_zipped_by_another_tool_is_the_same_bundle(tmp_path: Path) -> None:
    with make(tmp_path / "m.edge") as made:
        script = f"import shutil; shutil.make_archive({str(tmp_path / 'm')!r}, 'zip', {str(tmp_path / 'm.edge')!r})"
        subprocess.run([sys.executable, "-c", script], check=True)
        with bundle.open(tmp_path / "m.zip") as zipped:
            assert everything(zipped) == everything(made)


def test_a_folder_zipped_with_its_name_says_how_to_zip_it(tmp_path: Path) -> None:
    make(tmp_path / "m.edge").close()
    with zipfile.ZipFile(tmp_path / "n.edge", "w") as archive:
        archive.write(tmp_path / "m.edge" / "manifest.json", "m.edge/manifest.json")
    with pytest.raises(BundleError, match="zip the folder's content, not the folder"):
        bundle.open(tmp_path / "n.edge")


def test_a_bundle_is_told_from_a_model_by_suffix_or_manifest(tmp_path: Path) -> None:
    make(tmp_path / "folder").close()
    (tmp_path / "other").mkdir()
    assert bundle.is_bundle(tmp_path / "folder")
    assert bundle.is_bundle("anything.edge")
    assert not bundle.is_bundle(tmp_path / "other")
    assert not bundle.is_bundle("model.onnx")
    assert not bundle.is_bundle("a\0b")


def test_an_unknown_variant_names_those_there_are(tmp_path: Path) -> None:
    with make(tmp_path / "m.edge") as made, pytest.raises(ModelNotFound, match="'small', 'large'"):
        made.open_variant("medium")


def test_a_closed_archive_says_so(tmp_path: Path) -> None:
    made = make(tmp_path / "m.edge", as_zip=True)
    made.close()
    made.close()
    for use in (lambda: made.open_variant("small"), made.verify, lambda: list(made.golden())):
        with pytest.raises(BundleError, match="the bundle is closed"):
            use()


@pytest.mark.parametrize("path", ["missing.edge", "a\0b.edge"])
def test_nothing_at_the_path_is_said_so(path: str) -> None:
    with pytest.raises(ModelNotFound, match="expected a folder or file"):
        bundle.open(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"small": SMALL}}, "'large' has no model file"),
        ({"files": {"small": SMALL, "large": LARGE, "other": SMALL}}, "none of the variants"),
        ({"variants": variants("small", "small"), "files": {"small": SMALL}, "golden": []}, "occurs twice"),
        ({"variants": ()}, "none of the variants"),
        ({"golden": [golden("medium")]}, "'medium'"),
        ({"golden": [bundle.Golden({"z": np.zeros(1)})]}, "'z' is not in the signature"),
        (
            {"golden": [bundle.Golden({"x": np.zeros(1)}, {"small": bundle.Answer({"z": np.zeros(1)}, 0)})]},
            "'z' is not",
        ),
        ({"golden": [bundle.Golden({"x": np.zeros(1)}, {"small": bundle.Answer({}, -1)})]}, "tolerance"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "printable"),
        ({"release": 0}, "release"),
        ({"extra": {"owner": 1}}, "does not begin with 'x-'"),
        ({"extra": {"x-a": object()}}, "no form"),
        ({"recipe": {"a": "\ud800"}}, "no form"),
    ],
)
def test_parts_that_contradict_each_other_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        make(tmp_path / "m.edge", **changes)
    assert not (tmp_path / "m.edge").exists()


def test_figures_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    figure = bundle.Accuracy(metric="top-1", value=float("nan"), data="digits", samples=1)
    small = bundle.Variant(name="small", accuracy=(figure,))
    with pytest.raises(BundleError, match="no form"):
        make(tmp_path / "m.edge", variants=[small], files={"small": SMALL}, golden=[])


def test_weights_beside_bytes_in_memory_cannot_be_found(tmp_path: Path) -> None:
    content = models.onnx_external_data(tmp_path).read_bytes()
    with pytest.raises(BundleError, match="expected the path"):
        make(tmp_path / "m.edge", variants=variants("ext"), files={"ext": content})


def test_a_missing_folder_above_is_a_storage_error(tmp_path: Path) -> None:
    for as_zip in (False, True):
        with pytest.raises(StorageError, match=r"the old bundle stands|must exist"):
            make(tmp_path / "missing" / "m.edge", as_zip)


def test_nothing_but_a_bundle_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    for name in ("notes.txt", "folder", "pipe"):
        with pytest.raises(BundleError, match="no bundle"):
            make(tmp_path / name)
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "folder" / "notes.txt").read_text() == "mine"


def test_a_bundle_keeps_its_form(tmp_path: Path) -> None:
    make(tmp_path / "m.edge", as_zip=True).close()
    with pytest.raises(BundleError, match="is an archive already"):
        make(tmp_path / "m.edge", as_zip=False)
    with make(tmp_path / "m.edge", as_zip=None) as again:
        assert again.manifest.release == 2
        assert (tmp_path / "m.edge").is_file()


names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@given(st.dictionaries(names, st.tuples(st.sampled_from(["float32", "int8", "bool", "uint16", "float64"]), shapes)))
def test_arrays_of_any_name_dtype_and_shape_come_back(forms: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: (rng.random(shape) * 100).astype(dtype) for name, (dtype, shape) in forms.items()}
    back = unpack_arrays(pack_arrays(arrays), "test")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_strings_come_back_as_engines_take_them(tmp_path: Path) -> None:
    text = np.array([["yes", "нет"]], dtype=object)
    packed = pack_arrays({"s": text})
    back = unpack_arrays(packed, "test")["s"]
    assert back.dtype == object
    assert back.tolist() == text.tolist()
    (tmp_path / "s.npz").write_bytes(packed)
    assert np.load(tmp_path / "s.npz")["s"].tolist() == text.tolist()
    with pytest.raises(InputTypeError, match="sequences"):
        pack_arrays({"s": [{"a": 1}]})


@given(st.integers(0, 600), st.binary(min_size=1, max_size=8))
def test_arrays_that_were_tampered_with_are_damage_or_arrays(position: int, patch: bytes) -> None:
    content = pack_arrays({"x": np.arange(12, dtype=np.float32).reshape(3, 4), "y": np.zeros(3, np.int64)})
    tampered = content[:position] + patch + content[position + len(patch) :]
    try:
        arrays = unpack_arrays(tampered, "test")
    except BundleDamaged:
        return
    assert all(isinstance(array, np.ndarray) and array.nbytes <= len(content) for array in arrays.values())


def test_an_array_that_claims_more_than_there_is_takes_no_memory() -> None:
    content = pack_arrays({"x": np.zeros((1, 4), np.float32)})
    claimed = content.replace(b"(1, 4)", b"(9**9,")
    assert claimed != content
    with pytest.raises(BundleDamaged, match="no arrays"):
        unpack_arrays(claimed, "test")


def test_the_json_form_names_its_keys_as_documented(tmp_path: Path) -> None:
    make(tmp_path / "m.edge").close()
    raw = msgspec.json.decode((tmp_path / "m.edge" / "manifest.json").read_bytes())
    assert list(raw) == ["format", "digest", "name", "release", "signature", "variants", "golden"]
    text = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()
    parts = (Manifest, manifest.Variant, manifest.BundleFile, manifest.Cut, manifest.Accuracy, manifest.Latency)
    for part in (*parts, manifest.GoldenFiles, manifest.GoldenOutputs, Signature, LogicalTensor, TensorMapping):
        for field in msgspec.structs.fields(part):
            named = f"`{field.name}`" in text or f'"{field.name}"' in text
            assert named or field.name == "extra", f"docs/bundle.md does not explain {part.__name__}.{field.name}"
