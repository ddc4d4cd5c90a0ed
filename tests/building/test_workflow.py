"""From a model to a bundle: every variant is judged, nothing is invented, and one that fails is a row that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import bundle
from edge_sdk.building import BuildResult, Reading, build
from edge_sdk.building.golden import tolerance
from edge_sdk.compress.running import Subject
from edge_sdk.compress.variants import Made, Maker
from edge_sdk.errors import BundleError, CompressionError, EngineError, InputValueError, ModelError

models = pytest.importorskip("tests.models")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Change = Callable[[Any], Any]


pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(models.onnx_mlp())
    return path


@pytest.fixture
def labelled(source: Path, tmp_path: Path) -> Path:
    """Forty samples with the source's own answers as labels."""
    samples = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    with Subject(source) as subject:
        labels = [int(subject.answer({"x": row[None]})["y"].argmax()) for row in samples]
    np.savez(tmp_path / "labelled.npz", x=samples, labels=labels)
    return tmp_path / "labelled.npz"


@pytest.fixture
def makers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Change | Exception]:
    """What stands for making variants: by name how weights change, or what is raised. "fp32" keeps them."""
    known: dict[str, Change | Exception] = {"fp32": lambda weight: weight}

    def make(maker: Maker, name: str, folder: Path) -> Made:
        how = known[name]
        if isinstance(how, Exception):
            raise how
        model = onnx.load(maker.source)
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(how(array).astype(array.dtype), tensor.name))
        onnx.save(model, folder / "made.onnx")
        return Made(name, folder / "made.onnx", "onnx", "float32", {"how": "changed"}, ("made by a test",))

    monkeypatch.setattr(Maker, "make", make)
    return known


def noise(scale: float) -> Change:
    return lambda weight: weight + scale * np.random.default_rng(5).normal(size=weight.shape)


def built(source: Path, names: str, **options: Any) -> BuildResult:
    return build(source, source.with_name("net.edge"), variants=names.split(), measure_s=0.0, **options)


def statuses(result: BuildResult) -> dict[str, str]:
    return {row.name: row.status for row in result.rows}


def test_real_variants_end_as_a_bundle_with_figures(source: Path, labelled: Path) -> None:
    options = {"calibration": labelled, "evaluate": labelled, "max_drop": 0.1, "measure_s": 0.02}
    result = build(source, source.with_name("net.edge"), variants=("fp32", "int8-dynamic"), **options)  # type: ignore[arg-type]
    assert statuses(result) == {"fp32": "stored", "int8-dynamic": "stored"}
    with bundle.open(result.path) as made:
        made.verify()
        assert made.digest == result.digest
        variant = made.variant("int8-dynamic")
        first = variant.accuracy[0]
        assert (first.metric, first.data, first.samples) == ("top-1", "labelled.npz", 40)
        assert first.engine.startswith("onnxruntime ")
        assert first.isa
        assert [figure.metric for figure in variant.accuracy] == ["top-1", "agreement", "mean_error"]
        assert variant.latency[0].latency_ms > 0
        assert variant.latency[0].fingerprint
        assert made.variant("fp32").macs == 8 * 16 + 16 * 4
        assert made.manifest.recipe["evaluation"] == "40 samples of labelled.npz"
        assert made.signature.inputs[0].name == "x"


def test_golden_requests_hold_what_each_variant_answers(source: Path, labelled: Path, makers: dict[str, Any]) -> None:
    makers["fp16"] = noise(1e-4)
    result = built(source, "fp32 fp16", evaluate=labelled, max_drop=0.5)
    with bundle.open(result.path) as made:
        requests = list(made.golden())
        assert len(requests) == 2
        for name in ("fp32", "fp16"):
            with made.open_variant(name) as file, Subject(Path(str(file.path))) as subject:
                for request in requests:
                    answer = subject.answer(request.feeds)["y"]
                    np.testing.assert_array_equal(answer, request.answers[name].outputs["y"])
                    assert request.answers[name].tolerance == tolerance("float32")


def test_a_variant_beyond_the_bound_is_dropped_and_its_layers_named(
    source: Path, labelled: Path, makers: dict[str, Any]
) -> None:
    makers["int8-static"] = noise(3)
    result = built(source, "fp32 int8-static", evaluate=labelled)
    row = result.rows[1]
    assert row.status == "dropped"
    assert "beyond the bound of 0.01" in row.why
    assert row.layers
    assert any("layer1 (Gemm)" in layer for layer in row.layers)
    with bundle.open(result.path) as made:
        assert [variant.name for variant in made.variants] == ["fp32"]


def test_or_kept_and_marked(source: Path, labelled: Path, makers: dict[str, Any]) -> None:
    makers["int8-static"] = noise(3)
    result = built(source, "fp32 int8-static", evaluate=labelled, keep=True)
    assert statuses(result)["int8-static"] == "kept"
    with bundle.open(result.path) as made:
        assert {variant.name: variant.kept for variant in made.variants} == {
            "fp32": "",
            "int8-static": "beyond max-drop",
        }


def test_a_variant_that_gives_nan_is_kept_without_a_figure_for_its_error(
    source: Path, labelled: Path, makers: dict[str, Any]
) -> None:
    makers["int8-static"] = lambda weight: weight * np.nan
    result = built(source, "fp32 int8-static", evaluate=labelled, keep=True)
    assert "40 samples give NaN or infinity" in result.rows[1].why
    with bundle.open(result.path) as made:
        assert [figure.metric for figure in made.variant("int8-static").accuracy] == ["top-1", "agreement"]


def test_what_fails_is_a_row_and_not_the_end(source: Path, labelled: Path, makers: dict[str, Any]) -> None:
    makers["fp16"] = CompressionError("fp16: there is nothing to be gained")
    makers["int8-static"] = EngineError("the engine failed")
    makers["int8-dynamic"] = ZeroDivisionError("somewhere\ndeep inside")
    result = built(source, "fp16 int8-static int8-dynamic fp32", evaluate=labelled)
    assert [(row.name, row.status, row.why) for row in result.rows[:3]] == [
        ("fp16", "not made", "there is nothing to be gained"),
        ("int8-static", "failed", "the engine failed"),
        ("int8-dynamic", "failed", "ZeroDivisionError: somewhere deep inside"),
    ]
    assert result.rows[3].status == "stored"


def test_the_same_file_is_not_stored_twice(source: Path, labelled: Path, makers: dict[str, Any]) -> None:
    makers["fp16"] = makers["fp32"]
    result = built(source, "fp32 fp16", evaluate=labelled)
    assert (result.rows[1].status, result.rows[1].why) == ("duplicate", "the same file as fp32; not stored twice")


def test_without_data_it_says_so_and_makes_what_needs_none(source: Path) -> None:
    result = build(source, source.with_name("net.edge"), variants=("fp32", "int8-static"), measure_s=0)
    assert statuses(result) == {"fp32": "stored", "int8-static": "not made"}
    assert "needs calibration data" in result.rows[1].why
    assert result.rows[0].why == "not judged: no data was given"
    assert "no data at all: no variant is judged, and accuracy is not known" in result.notes
    assert "the golden samples are random numbers, since there is no data" in result.notes
    with bundle.open(result.path) as made:
        assert made.variants[0].accuracy == ()
        assert len(list(made.golden())) == 1


def test_calibration_alone_judges_too_and_that_is_told(source: Path, labelled: Path, makers: dict[str, Any]) -> None:
    result = built(source, "fp32", calibration=labelled, reading=Reading(samples=10))
    assert result.rows[0].samples == 10
    assert any(note.startswith("judged on the calibration data") for note in result.notes)


def test_when_nothing_is_left_nothing_is_written(source: Path, labelled: Path, makers: dict[str, Any]) -> None:
    makers["fp16"] = noise(3)
    with pytest.raises(BundleError, match="no variant is left to be stored: fp16 dropped"):
        built(source, "fp16", evaluate=labelled)
    assert not source.with_name("net.edge").exists()


def test_a_source_that_cannot_be_cleaned_is_stored_as_it_is(
    source: Path, labelled: Path, makers: dict[str, Any]
) -> None:
    makers["fp32"] = CompressionError("clean-up changed the results")
    result = built(source, "fp32", evaluate=labelled)
    assert (result.rows[0].status, result.rows[0].notes) == ("stored", ("not cleaned: clean-up changed the results",))
    with bundle.open(result.path) as made, made.open_variant("fp32") as file:
        assert bytes(file.content()) == source.read_bytes()


def test_a_second_build_is_the_next_release(source: Path, labelled: Path, makers: dict[str, Any]) -> None:
    first = built(source, "fp32", evaluate=labelled)
    second = built(source, "fp32", evaluate=labelled)
    assert (first.release, second.release) == (1, 2)


def test_progress_is_told_before_each_step(source: Path, labelled: Path, makers: dict[str, Any]) -> None:
    makers["fp16"] = noise(0)
    told: list[tuple[str, int, int]] = []
    built(source, "fp32 fp16", evaluate=labelled, progress=lambda *step: told.append(step))
    assert [what for what, _, _ in told] == ["fp32", "fp16", "writing the bundle"]
    assert all(done <= total for _, done, total in told)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_drop": 2.0}, "max_drop is 2.0"),
        ({"variants": ()}, "variants is empty"),
        ({"variants": ("fp32", "fp32")}, "names one twice"),
        ({"variants": ("fp32", "int3")}, "there is no variant 'int3'"),
        ({"metric": "top1"}, "needs data with labels"),
    ],
)
def test_wishes_that_do_not_hold_end_before_any_work(source: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputValueError) as caught:
        build(source, source.with_name("net.edge"), **options)
    assert told in str(caught.value)


def test_a_source_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        build(tmp_path / "none.onnx", tmp_path / "net.edge")


def test_pictures_leave_their_preprocessing_in_the_bundle(tmp_path: Path, makers: dict[str, Any]) -> None:
    cv2 = pytest.importorskip("cv2")
    source = tmp_path / "net.onnx"
    helper = onnx.helper
    nodes = [helper.make_node("GlobalAveragePool", ["image"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    source.write_bytes(models.onnx_bytes(nodes, [models.value("image", [1, 3, 8, 8])], [models.value("y", [1, 3])]))
    for name, colour in (("blue", (255, 0, 0)), ("green", (0, 255, 0)), ("red", (0, 0, 255))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "photos" / name / "1.png"), np.full((16, 16, 3), colour, np.uint8))
    reading = Reading(classes=("red", "green", "blue"), settings={"mean": 10, "channels": "rgb"})
    result = built(source, "fp32", evaluate=tmp_path / "photos", reading=reading)
    assert result.source_accuracy == 1
    with bundle.open(result.path) as made:
        assert made.signature.labels == ("red", "green", "blue")
        assert made.signature.preprocessing["mean"] == "10"
        assert made.signature.preprocessing["size"] == "8x8"


def test_a_quantised_source_is_called_source(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    source = tmp_path / "net.tflite"
    source.write_bytes(models.tflite_int8())
    result = build(source, tmp_path / "net.edge", measure_s=0)
    assert result.rows[0].name == "source"
    assert result.rows[0].status == "stored"
    assert all(row.status == "not made" for row in result.rows[1:])


# --- twins ---


@pytest.fixture
def adders(tmp_path: Path) -> tuple[Path, Path]:
    """y = x + 1 as ONNX and as TFLite."""
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "add.onnx").write_bytes(models.onnx_add())
    (tmp_path / "add.tflite").write_bytes(models.tflite_add())
    return tmp_path / "add.onnx", tmp_path / "add.tflite"


def test_a_twin_joins_the_bundle_and_answers_alike(adders: tuple[Path, Path], tmp_path: Path) -> None:
    result = build(adders[0], tmp_path / "add.edge", variants=["fp32"], twins=[adders[1]], measure_s=0)
    assert statuses(result) == {"fp32": "stored", "twin-tflite": "stored"}
    assert "equal to add.onnx within 0.0e+00 on 3 made-up samples" in result.rows[1].notes
    with bundle.open(result.path) as made:
        assert [variant.format for variant in made.variants] == ["onnx", "tflite"]
        request = next(made.golden())
        np.testing.assert_array_equal(request.answers["fp32"].outputs["y"], request.answers["twin-tflite"].outputs["y"])


def test_a_twin_that_is_another_model_ends_the_build(adders: tuple[Path, Path], source: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"add\.tflite is not the same model as net\.onnx"):
        build(source, tmp_path / "net.edge", twins=[adders[1]])
    assert not (tmp_path / "net.edge").exists()


def test_the_face_detector_in_both_formats_is_one_bundle(assets: Path, tmp_path: Path) -> None:
    folder = assets / "models"
    result = build(
        folder / "ultraface_rfb320.onnx",
        tmp_path / "face.edge",
        calibration=assets / "photos" / "faces_1.jpg",
        variants=["fp32"],
        twins=[folder / "ultraface_rfb320.tflite"],
        measure_s=0,
    )
    assert statuses(result) == {"fp32": "stored", "twin-tflite": "stored"}
    assert all(row.agreement == 1 for row in result.rows)
    with bundle.open(result.path) as made:
        assert made.signature.postprocessing == {"decoder": "ultraface"}
        answers = next(made.golden()).answers
        for name, expected in answers["fp32"].outputs.items():
            np.testing.assert_allclose(answers["twin-tflite"].outputs[name], expected, atol=1e-3)


def test_tolerances_are_wider_where_numbers_are_coarser() -> None:
    assert tolerance("float32") < tolerance("float16") < tolerance("int8") == tolerance("mixed float32 + int8")
