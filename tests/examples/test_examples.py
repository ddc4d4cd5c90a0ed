"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests import models
from tests.cloud_offload.endpoints import put, running

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_classify_image_names_the_cat(assets: Path) -> None:
    folder = assets / "models"
    done = run_example(
        "classify_image.py",
        folder / "mobilenet_v2_224_int8.tflite",
        assets / "photos" / "cat.bmp",
        folder / "imagenet_labels.txt",
    )
    assert done.returncode == 0, done.stderr
    assert "Egyptian cat" in done.stdout.splitlines()[0]


def test_classify_image_is_short_enough_to_copy() -> None:
    assert len((EXAMPLES / "classify_image.py").read_text().splitlines()) <= 40


def test_detect_faces_finds_the_same_faces_in_both_formats(assets: Path, tmp_path: Path) -> None:
    files = [assets / "models" / f"ultraface_rfb320.{suffix}" for suffix in ("onnx", "tflite")]
    drawing = tmp_path / "drawn.png"
    done = run_example("detect_faces.py", *files, assets / "photos" / "faces_1.jpg", drawing)
    assert done.returncode == 0, done.stderr
    assert "46 faces from both" in done.stdout and drawing.stat().st_size > 0


@pytest.mark.parametrize(
    "name",
    ["classify_image.py", "detect_faces.py", "follow_link.py", "metrics.py", "several_models.py", "stay_cool.py"],
)
def test_without_arguments_they_tell_what_they_need(name: str) -> None:
    done = run_example(name)
    assert done.returncode == 1 and f"python examples/{name}" in done.stderr


def test_follow_link_answers_with_and_without_its_endpoint(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("uvicorn")
    model = tmp_path / "mlp.onnx"
    model.write_bytes(models.onnx_mlp())
    put(tmp_path / "repository", "mlp", models.onnx_mlp())
    with running(tmp_path / "repository", tmp_path / "endpoint-cache") as endpoint:
        there = run_example("follow_link.py", model, endpoint.url, 20)
    gone = run_example("follow_link.py", model, endpoint.url, 20)
    assert there.returncode == 0, there.stderr
    assert "a split does not pay" in there.stdout and "requests=20" in there.stdout
    assert gone.returncode == 0, gone.stderr
    assert "Connection refused" in gone.stdout and "requests=20" in gone.stdout


def test_metrics_can_be_read_while_both_models_answer(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("prometheus_client")
    model = tmp_path / "mlp.onnx"
    model.write_bytes(models.onnx_mlp())
    command = [sys.executable, str(EXAMPLES / "metrics.py"), str(model), "4", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as example:
        assert example.stdout is not None
        url = example.stdout.readline().removeprefix("metrics at ").strip()
        pages = []
        while not pages or 'outcome="answered"' not in pages[-1]:
            with urllib.request.urlopen(url, timeout=30) as answer:
                pages.append(answer.read().decode())
        told = example.stdout.read()
    assert example.returncode == 0
    assert "camera: " in told and "batch: " in told and " 0 answers" not in told


def test_several_models_share_the_device(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    files = [tmp_path / f"{name}.onnx" for name in ("detector", "keywords", "job")]
    for number, file in enumerate(files):
        file.write_bytes(models.onnx_mlp(8, 16 + number, 4))
    done = run_example("several_models.py", *files, 1)
    assert done.returncode == 0, done.stderr
    camera, words, batch = done.stdout.splitlines()
    assert camera.startswith("camera: ") and "1 thread on all CPUs" in camera
    assert words.startswith("words: 10 answered")
    assert batch.startswith("batch: ") and not batch.startswith("batch: 0 answered")


def test_stay_cool_tells_its_levels_and_what_it_answered(tmp_path: Path) -> None:
    model = tmp_path / "mlp.onnx"
    model.write_bytes(models.onnx_mlp())
    done = run_example("stay_cool.py", model, 70, 15, 1)
    assert done.returncode == 0, done.stderr
    assert "level: " in done.stdout and "15 Hz" in done.stdout
    assert " answers, " in done.stdout.splitlines()[-1]
    refused = run_example("stay_cool.py", model, -5, 15)
    assert refused.returncode == 1 and "max_c is -5" in refused.stderr


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\n")
    done = run_example("classify_image.py", "none.tflite", tmp_path / "none.jpg", labels)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "none.jpg" in done.stderr
