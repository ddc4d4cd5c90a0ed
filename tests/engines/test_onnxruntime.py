"""ONNX files on ONNX Runtime: every kind of input and output, what is refused and how it is told."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.device.affinity import usable_cpus
from edge_sdk.engines import CustomOps, LoadOptions, Runner, find_engine
from edge_sdk.engines.graph_cache import GraphCache
from edge_sdk.errors import (
    AcceleratorError,
    EngineError,
    InputError,
    InputNameError,
    InputShapeError,
    InputTypeError,
    ModelError,
    UnsupportedOp,
    UnsupportedVersion,
)
from edge_sdk.formats import open_model

pytest.importorskip("onnxruntime")
models = pytest.importorskip("tests.models")


def load(model: bytes | Path, **options: Any) -> Runner:
    """A runner for a model that was checked."""
    file = open_model(model)
    file.check()
    return find_engine("onnxruntime").load(file, LoadOptions(**options))


def one(shape: tuple[int, ...], value: float = 1.0, dtype: Any = np.float32) -> Any:
    return np.full(shape, value, dtype)


def test_named_arrays_in_and_out() -> None:
    runner = load(models.onnx_add())
    assert [spec.name for spec in runner.inputs] == ["x"]
    np.testing.assert_array_equal(runner.run({"x": one((2, 3))})["y"], one((2, 3), 2.0))
    runner.close()
    runner.close()


def test_outputs_are_the_callers_and_never_change() -> None:
    runner = load(models.onnx_add())
    first = runner.run({"x": one((2, 3))})["y"]
    kept = first.copy()
    for value in range(50):
        runner.run({"x": one((2, 3), value)})
    np.testing.assert_array_equal(first, kept)
    first[:] = -1
    np.testing.assert_array_equal(runner.run({"x": one((2, 3))})["y"], kept)


def test_writing_into_an_output_that_is_a_constant_of_the_graph_leaves_the_model_alone() -> None:
    from onnx import helper

    model = models.onnx_bytes(
        [helper.make_node("Relu", ["x"], ["y"])],
        [models.value("x", [2])],
        [models.value("y", [2]), models.value("weight", [2])],
        [models.constant("weight", [5.0, 6.0])],
    )
    runner = load(model)
    outputs = runner.run({"x": one((2,))})
    if outputs["weight"].flags.writeable:
        outputs["weight"][:] = 0
    np.testing.assert_array_equal(runner.run({"x": one((2,))})["weight"], [5, 6])


def test_outputs_go_into_the_callers_arrays() -> None:
    runner = load(models.onnx_add())
    target = np.empty((2, 3), np.float32)
    outputs = runner.run({"x": one((2, 3), 4)}, {"y": target})
    assert outputs["y"] is target
    np.testing.assert_array_equal(target, one((2, 3), 5))


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (np.empty((2, 3)), InputTypeError),
        (np.empty((3, 3), np.float32), InputShapeError),
        (np.empty(6, np.float32), InputShapeError),
        (np.empty((3, 2), np.float32).T, InputShapeError),
    ],
)
def test_a_target_that_does_not_fit_is_refused(target: Any, error: type[Exception]) -> None:
    runner = load(models.onnx_add())
    with pytest.raises(error, match=r"out\['y'\]"):
        runner.run({"x": one((2, 3))}, {"y": target})


def test_open_dimensions_take_any_size() -> None:
    runner = load(models.onnx_mlp())
    for batch in (1, 7, 2):
        assert runner.run({"x": one((batch, 8))})["y"].shape == (batch, 4)


def test_two_inputs_scalars_and_float16() -> None:
    for name in ("onnx_two_inputs", "onnx_scalar", "onnx_float16", "onnx_uint8_io", "onnx_loop", "onnx_if"):
        runner = load(models.ONNX_MODELS[name]())
        feeds = {
            s.name: np.ones([d if isinstance(d, int) else 1 for d in s.shape], s.numpy_dtype) for s in runner.inputs
        }
        for spec, value in zip(runner.outputs, runner.run(feeds).values(), strict=True):
            assert value.dtype == spec.numpy_dtype, name


def test_strings() -> None:
    runner = load(models.onnx_string())
    assert runner.run({"words": np.array(["ab", "ü"], object)})["twice"].tolist() == ["abab", "üü"]


def test_a_sequence_becomes_an_array_of_arrays() -> None:
    parts = load(models.onnx_sequence_output()).run({"x": np.arange(8, dtype=np.float32).reshape(4, 2)})["parts"]
    assert parts.shape == (2,)
    assert parts.dtype == object
    np.testing.assert_array_equal(parts[1], [[4, 5], [6, 7]])


def test_maps_become_values_and_keys() -> None:
    outputs = load(models.onnx_map_output()).run({"x": one((3, 2))})
    assert outputs["probabilities"].shape == (3, 3)
    assert outputs["probabilities.keys"].tolist() == [10, 20, 30]
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=1e-5)


def test_initialisers_leave_the_inputs_and_the_answer_stays() -> None:
    model = models.onnx_with_initializer_inputs()
    runner = load(model)
    (spec,) = runner.inputs
    assert any("taken out" in note for note in runner.notes)
    kept = load(model, initializer_inputs=tuple(open_model(model).describe().initializer_inputs))
    assert kept.optional_inputs == {"w", "b"}
    feed = {spec.name: np.ones([d if isinstance(d, int) else 1 for d in spec.shape or ()], np.float32)}
    for name, value in runner.run(feed).items():
        np.testing.assert_allclose(value, kept.run(feed)[name], rtol=1e-6)


@pytest.mark.parametrize("ir_version", [3, 4, 8])
def test_initialisers_that_the_caller_names_can_be_fed(ir_version: int) -> None:
    runner = load(models.onnx_with_initializer_inputs(ir_version), initializer_inputs=("w", "b"))
    feeds = {"x": one((1, 4)), "w": one((4, 3), 2), "b": one((3,), 0.5)}
    np.testing.assert_array_equal(runner.run(feeds)["y"], one((1, 3), 8.5))


def test_naming_an_initialiser_that_is_no_input_is_refused() -> None:
    with pytest.raises(InputNameError, match="listed: w, b"):
        load(models.onnx_with_initializer_inputs(), initializer_inputs=("weight",))


def test_external_weights_are_found_beside_the_model(tmp_path: Path) -> None:
    runner = load(models.onnx_external_data(tmp_path))
    feeds = {
        s.name: np.ones([d if isinstance(d, int) else 1 for d in s.shape or ()], np.float32) for s in runner.inputs
    }
    assert runner.run(feeds)


def test_the_second_start_uses_the_optimised_graph_of_the_first() -> None:
    model = models.onnx_mlp()
    first, second = load(model), load(model)
    assert not any("earlier start" in note for note in first.notes)
    assert any("earlier start" in note for note in second.notes)
    np.testing.assert_array_equal(first.run({"x": one((2, 8))})["y"], second.run({"x": one((2, 8))})["y"])


def test_an_optimised_graph_that_was_altered_on_disk_is_made_again(own_cache: Path) -> None:
    model = models.onnx_mlp()
    load(model)
    (kept,) = (own_cache / "graphs").glob("*.onnx")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 0xFF
    kept.write_bytes(content)
    assert not any("earlier start" in note for note in load(model).notes)
    assert any("earlier start" in note for note in load(model).notes)


def test_a_kept_graph_that_the_engine_refuses_is_made_again(own_cache: Path) -> None:
    model = models.onnx_mlp()
    load(model)
    (kept,) = (own_cache / "graphs").glob("*.onnx")
    cache = GraphCache("any")
    kept.write_bytes(b"not a graph")
    kept.with_suffix(".json").write_text(json.dumps({"sha256": hashlib.sha256(b"not a graph").hexdigest()}))
    assert cache.find(kept.stem) == kept
    assert load(model).run({"x": one((1, 8))})["y"].shape == (1, 4)


MAPPED = "weights are mapped from the kept graph"


@pytest.mark.parametrize(
    "name", ["onnx_mlp", "onnx_conv", "onnx_int8_qdq", "onnx_int8_dynamic", "onnx_float16", "onnx_if"]
)
def test_weights_are_mapped_from_what_is_kept_and_the_answer_is_the_same(name: str) -> None:
    from edge_sdk.engines.samples import made_up_feeds

    model = models.ONNX_MODELS[name]()
    plain, mapped, again = load(model, cache=False), load(model, map_weights=True), load(model, map_weights=True)
    feeds = made_up_feeds(plain.inputs, plain.optional_inputs)
    for runner in (mapped, again):
        for output, array in runner.run(feeds).items():
            np.testing.assert_array_equal(array, plain.run(feeds)[output])


def test_mapped_weights_are_private_to_nobody_and_outlive_what_is_kept(own_cache: Path) -> None:
    model = models.onnx_mlp(64, 512, 64)
    mapped = load(model, map_weights=True)
    assert MAPPED in mapped.notes
    (weights,) = (own_cache / "graphs").glob("*.weights")
    assert str(weights) in Path("/proc/self/maps").read_text()
    expected = mapped.run({"x": one((1, 64))})["y"]
    shutil.rmtree(own_cache)
    np.testing.assert_array_equal(mapped.run({"x": one((1, 64))})["y"], expected)


def test_weights_that_were_altered_on_disk_are_made_again(own_cache: Path) -> None:
    model = models.onnx_mlp(64, 512, 64)
    expected = load(model, map_weights=True).run({"x": one((1, 64))})["y"]
    (weights,) = (own_cache / "graphs").glob("*.weights")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 0xFF
    weights.unlink()  # what is mapped stays as it is
    weights.write_bytes(content)
    again = load(model, map_weights=True)
    np.testing.assert_array_equal(again.run({"x": one((1, 64))})["y"], expected)
    assert weights.read_bytes() != content


def test_weights_are_copied_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_SDK_CACHE", str(tmp_path / "file"))
    runner = load(models.onnx_mlp(), map_weights=True)
    assert runner.run({"x": one((1, 8))})["y"].shape == (1, 4)
    assert MAPPED not in runner.notes


def test_no_workspace_is_left(own_cache: Path) -> None:
    load(models.onnx_mlp(), map_weights=True)
    with pytest.raises(ModelError):
        load(models.onnx_unknown_op())
    assert not [path for path in (own_cache / "graphs").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("onnx_custom_op", UnsupportedOp, "acme.Frobnicate"),
        ("onnx_unknown_op", UnsupportedOp, "op "),
        ("onnx_newer_opset", UnsupportedVersion, "opset"),
        ("onnx_newer_ir", UnsupportedVersion, "IR version"),
    ],
)
def test_what_the_engine_does_not_know_is_named(name: str, error: type[ModelError], words: str) -> None:
    with pytest.raises(error) as caught:
        load(models.ONNX_MODELS[name]())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "onnxruntime" in str(caught.value)


def test_a_shape_that_only_the_graph_can_judge_is_an_input_error() -> None:
    from onnx import helper

    model = models.onnx_bytes(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [models.value("a", ["n"]), models.value("b", ["m"])],
        [models.value("y", None)],
    )
    with pytest.raises((InputError, EngineError)) as caught:
        load(model).run({"a": one((3,)), "b": one((4,))})
    assert "\n" not in str(caught.value)


def test_many_threads_share_one_runner() -> None:
    runner = load(models.onnx_mlp())
    inputs = [np.random.default_rng(i).random((3, 8), dtype=np.float32) for i in range(8)]
    expected = [runner.run({"x": x})["y"] for x in inputs]
    failures: list[int] = []

    def work(index: int) -> None:
        same = all(np.array_equal(runner.run({"x": inputs[index]})["y"], expected[index]) for _ in range(200))
        if not same:
            failures.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(len(usable_cpus()) < 2, reason="needs two CPUs")
def test_workers_run_on_the_cpus_asked_for_and_the_caller_is_left_as_it_was() -> None:
    before = usable_cpus()
    runner = load(models.onnx_mlp(), threads=3, cpus=before[-1:])
    runner.run({"x": one((1, 8))})
    placement = runner.placement()
    assert len(placement.threads) == 2
    assert all(thread.cpus == before[-1:] for thread in placement.threads)
    assert usable_cpus() == before
    runner.close()


def test_nodes_are_placed_on_the_cpu_and_verified() -> None:
    placement = load(models.onnx_mlp()).placement()
    assert placement.verified
    assert [node.where for node in placement.nodes] == ["cpu"]


def test_an_accelerator_that_the_build_lacks_is_named() -> None:
    with pytest.raises(AcceleratorError, match="'cuda'"):
        load(models.onnx_add(), accelerator="cuda")


def test_a_custom_op_library_is_loaded_only_by_its_hash(tmp_path: Path) -> None:
    library = tmp_path / "ops.so"
    library.write_bytes(b"\x7fELF not really")
    with pytest.raises(EngineError, match="has sha256"):
        load(models.onnx_custom_op(), custom_ops=(CustomOps(str(library), "0" * 64),))
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    with pytest.raises(ModelError, match=r"ops\.so"):
        load(models.onnx_custom_op(), custom_ops=(CustomOps(str(library), digest),))
    with pytest.raises(EngineError, match="cannot be read"):
        load(models.onnx_custom_op(), custom_ops=(CustomOps(str(tmp_path / "missing.so"), digest),))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_a_library_that_registers_nothing_is_accepted_and_the_op_stays_unknown(tmp_path: Path) -> None:
    source = tmp_path / "ops.c"
    source.write_text("void* RegisterCustomOps(void* options, const void* api) { return 0; }\n")
    library = tmp_path / "ops.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    with pytest.raises(UnsupportedOp) as caught:
        load(models.onnx_custom_op(), custom_ops=(CustomOps(str(library), digest),))
    assert caught.value.ops == ("acme.Frobnicate",)
