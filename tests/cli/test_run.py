"""`edge-sdk run`: what it prints, what it exits with, what it says when something is wrong."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.cli import main
from edge_sdk.cli.run_inputs import input_files
from edge_sdk.errors import UnreadableInput
from edge_sdk.formats.array_files import read_arrays

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

QUICK = ("--threads", "1", "--engine", "onnxruntime")


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One cache for this file: the few models here need their trial once, not once a test."""
    monkeypatch.setenv("EDGE_SDK_CACHE", str(shared_cache))
    yield shared_cache


def save_model(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Sequence[Any] = ()
) -> Path:
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def value(name: str, *shape: int | str, dtype: int = 1) -> Any:
    return onnx.helper.make_tensor_value_info(name, dtype, shape)


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A classifier of three classes: how red, green and blue the picture is."""
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["scores"]),
    ]
    return save_model(tmp_path / "colours.onnx", nodes, [value("x", 1, 3, 8, 8)], [value("scores", 1, 3)])


@pytest.fixture
def loudness(tmp_path: Path) -> Path:
    """A streaming model: the largest sample of the window and of all windows before it, which the state holds."""
    nodes = [
        onnx.helper.make_node("ReduceMax", ["x"], ["peak"], axes=[1], keepdims=1),
        onnx.helper.make_node("Max", ["peak", "state"], ["stateN"]),
        onnx.helper.make_node("Cast", ["sr"], ["rate"], to=1),
        onnx.helper.make_node("Mul", ["rate", "zero"], ["nothing"]),
        onnx.helper.make_node("Add", ["stateN", "nothing"], ["loud"]),
    ]
    inputs = [value("x", 1, "samples"), value("state", 1, 1), value("sr", dtype=7)]
    zero = onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero")
    outputs = [value("loud", 1, 1), value("stateN", 1, 1)]
    return save_model(tmp_path / "loudness.onnx", nodes, inputs, outputs, [zero])


def save_picture(path: Path, colour: tuple[int, int, int]) -> Path:
    from edge_sdk.vision import write_image

    pytest.importorskip("cv2")
    write_image(path, np.full((10, 12, 3), colour, np.uint8))
    return path


def save_wav(path: Path, samples: Any, rate_hz: int = 16000) -> Path:
    body = np.asarray(np.asarray(samples) * 32767, "<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, rate_hz, rate_hz * 2, 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(body)) + body
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks)
    return path


def run(*arguments: object) -> int:
    return main(["run", *map(str, arguments), *QUICK])


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_picture_gets_labels_scores_and_times(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("red\ngreen\nblue\n")
    picture = save_picture(tmp_path / "leaf.png", (0, 255, 51))
    assert run(colours, "--input", picture, "--labels", labels, "--top", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(picture)
    assert lines[1:3] == ["  1.000  green", "  0.200  blue"]
    assert "decode" in lines[3] and "run" in lines[3]
    assert any(line.startswith("pictures fed as 8x8 rgb NCHW") and "assumed" in line for line in lines)
    assert lines[-1].startswith("ran on onnxruntime")


def test_json_has_one_object_a_line_with_these_keys(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = save_picture(tmp_path / "leaf.png", (0, 255, 51))
    assert run(colours, "--input", picture, "--json", "--top", 1) == 0
    (record,) = records(capsys)
    assert list(record) == ["input", "top", "boxes", "latency_ms", "engine", "placement"]
    assert record["input"] == str(picture) and record["boxes"] == [] and record["engine"] == "onnxruntime"
    assert record["top"] == [{"index": 1, "label": None, "score": pytest.approx(1.0)}]
    assert list(record["latency_ms"]) == ["decode", "pre", "run", "post"]
    assert record["latency_ms"]["run"] > 0
    assert record["placement"]["threads"] == 1


def test_a_folder_is_read_in_natural_order_and_one_unreadable_picture_does_not_stop_it(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (10, 2, 1):
        save_picture(folder / f"p{number}.png", (255, 0, 0))
    (folder / "p3.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    assert run(colours, "--input", folder, "--json") == 1
    shown = capsys.readouterr()
    assert [Path(json.loads(line)["input"]).name for line in shown.out.splitlines()] == ["p1.png", "p2.png", "p10.png"]
    (complaint,) = shown.err.splitlines()
    assert complaint.startswith("edge-sdk: ") and "p3.png" in complaint


def test_the_model_may_stand_last(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = save_picture(tmp_path / "leaf.png", (0, 255, 51))
    assert main(["run", *QUICK, "--json", "--input", str(picture), str(colours)]) == 0
    assert len(records(capsys)) == 1


def test_flags_say_how_pixels_are_fed(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = save_picture(tmp_path / "leaf.png", (0, 255, 51))
    flags = ("--mean", "51,51,51", "--scale", "2", "--channels", "bgr", "--resize", "letterbox")
    assert run(colours, "--input", picture, "--json", *flags) == 0
    scores = {e["index"]: e["score"] for e in records(capsys)[0]["top"]}
    # Blue first; a letterbox of 12x10 into 8x8 fills one row of eight with 114.
    assert scores[1] == pytest.approx((7 * 102 + 31.5) / 8)
    assert scores[0] == pytest.approx(31.5 / 8)


def test_results_are_drawn_and_saved(colours: Path, tmp_path: Path) -> None:
    picture = save_picture(tmp_path / "leaf.png", (0, 255, 51))
    assert run(colours, "--input", picture, picture, "--annotate", tmp_path / "drawn", "--save", tmp_path / "raw") == 0
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["leaf-2.png", "leaf.png"]
    with np.load(tmp_path / "raw" / "leaf.png.npz") as saved:
        assert saved["scores"].shape == (1, 3)


def test_a_drawing_never_takes_the_place_of_its_picture(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = save_picture(tmp_path / "leaf.png", (0, 255, 51))
    before = picture.read_bytes()
    assert run(colours, "--input", picture, "--annotate", tmp_path) == 1
    assert picture.read_bytes() == before
    assert "overwrite" in capsys.readouterr().err


def test_arrays_are_fed_as_they_are(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array = np.zeros((1, 3, 8, 8), np.float32)
    array[0, 2] = 5
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", x=array)
    assert run(colours, "--input", tmp_path / "a.npy", tmp_path / "b.npz", "--json", "--top", 1) == 0
    assert [r["top"] for r in records(capsys)] == [[{"index": 2, "label": None, "score": 5.0}]] * 2


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": np.zeros((1, 3, 8, 8))}, r"x.npz: .*dtype float64, expected float32\[1, 3, 8, 8\]"),
        ({"x": np.zeros((1, 3, 8, 9), np.float32)}, r"shape \[1, 3, 8, 9\], expected float32\[1, 3, 8, 8\]"),
        ({"y": np.zeros((1, 3, 8, 8), np.float32)}, r"there is no input 'y'; expected 'x'"),
        ({"x": np.array([{}])}, "pickled objects are not read"),
    ],
)
def test_an_array_that_does_not_fit_is_told_with_what_is_expected(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, Any], reason: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert run(colours, "--input", tmp_path / "x.npz") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(reason, line), line


def test_a_recording_runs_window_by_window_with_its_state(
    loudness: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet_loud_quiet = np.concatenate([np.full(100, 0.1), np.full(100, 0.8), np.full(50, 0.1)])
    sound = save_wav(tmp_path / "talk.wav", quiet_loud_quiet)
    arguments = ("--input", sound, sound, "--window", 100, "--context", 10, "--feed", "sr=16000", "--json")
    for state in ("state=stateN", "stateN=state"):
        assert run(loudness, *arguments, "--state", state) == 0
        first, second = records(capsys)
        assert first["scores"] == pytest.approx([0.1, 0.8, 0.8], abs=1e-3)
        assert second["scores"] == first["scores"]  # each recording begins with an empty state
        assert first["top"] == [] and first["speech"] == []


def test_the_sampling_rate_is_fed_where_the_model_asks_and_compared_where_it_is_given(
    loudness: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = save_wav(tmp_path / "talk.wav", np.full(200, 0.5), 8000)
    arguments = ("--input", sound, "--window", 100, "--state", "state=stateN", "--json")
    assert run(loudness, *arguments) == 0
    assert len(records(capsys)[0]["scores"]) == 2
    assert run(loudness, *arguments, "--feed", "sr=16000") == 1
    assert "recorded at 8000 Hz, and --feed says sr=16000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ((), "one sound cannot fill 2 inputs"),
        (("--state", "state=nothing"), "expected an input and an output"),
        (("--feed", "nothing=1"), "there is no input 'nothing'"),
        (("--feed", "sr=1.5"), "does not fit int64"),
        (("--feed", "sr=loud"), "expected a number"),
        (("--state", "state=stateN", "--context", "5"), "need --window"),
    ],
)
def test_feeds_that_do_not_fit_are_told(
    loudness: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], reason: str
) -> None:
    sound = save_wav(tmp_path / "talk.wav", np.full(200, 0.5))
    assert run(loudness, "--input", sound, *flags) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_what_cannot_be_read_is_one_line_and_exit_code_1(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01\0\x76\0{'descr'")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    picture = save_picture(tmp_path / "leaf.png", (0, 255, 51))
    cases: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "none.onnx", "--input", picture), "none.onnx"),
        ((picture, "--input", picture), "leaf.png"),
        ((colours, "--input", tmp_path / "none.png"), "none.png"),
        ((colours, "--input", tmp_path / "empty"), "no picture"),
        ((colours, "--input", tmp_path / "broken.npy"), "broken.npy"),
        ((colours, "--input", save_wav(tmp_path / "talk.wav", [0.5])), "does not take a row of samples"),
        ((colours, "--input", picture, "--labels", tmp_path / "none.txt"), "none.txt"),
        ((colours, "--input", picture, "--size", "9x9"), "fixed size"),
    ]
    for arguments, reason in cases:
        assert run(*arguments) == 1, arguments
        shown = capsys.readouterr()
        assert shown.out == "" and len(shown.err.splitlines()) == 1
        assert shown.err.startswith("edge-sdk: ") and reason in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("model.onnx",),
        ("--input", "only.png"),
        ("m", "--input", "p", "--top", "0"),
        ("m", "--input", "p", "--mean", "1,2"),
        ("m", "--input", "p", "--scale", "0.229"),
        ("m", "--input", "p", "--size", "axb"),
        ("m", "--input", "p", "--confidence", "2"),
        ("m", "--input", "p", "--feed", "novalue"),
        ("m", "--input", "p", "--layout", "CHWN"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", *arguments])
    assert caught.value.code == 2
    assert "usage: edge-sdk run MODEL" in capsys.readouterr().err


def test_names_that_would_steer_a_terminal_are_shown_harmless(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\x1b[31mred\n\x1b]0;title\x07\nblue\n")
    picture = save_picture(tmp_path / "\x1b[2J.png", (255, 0, 0))
    assert run(colours, "--input", picture, "--labels", labels) == 0
    assert "\x1b" not in capsys.readouterr().out


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    compressed=st.booleans(),
    archive=st.booleans(),
    edits=st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=8)), max_size=4),
    kept=st.integers(4, 600),
)
def test_damaged_arrays_give_arrays_or_a_clear_error(
    tmp_path: Path, compressed: bool, archive: bool, edits: list[tuple[int, bytes]], kept: int
) -> None:
    path = tmp_path / "a.bin"
    with open(path, "wb") as file:
        save = np.savez_compressed if compressed else np.savez
        save(file, x=np.arange(9.0)) if archive else np.save(file, np.arange(9.0))
    damaged = bytearray(path.read_bytes())
    for at, content in edits:
        damaged[at : at + len(content)] = content
    path.write_bytes(bytes(damaged[:kept]))
    try:
        loaded = read_arrays(path)
    except UnreadableInput as error:
        assert "a.bin" in str(error) and "\n" not in str(error)
    else:
        assert isinstance(loaded, np.ndarray | dict)


def test_kinds_are_told_by_content_before_suffix(tmp_path: Path) -> None:
    save_wav(tmp_path / "a.jpg", [0.1])
    np.save(tmp_path / "b.npy", np.zeros(1))
    (tmp_path / "c.jpeg").write_bytes(b"garbage")
    assert [f.kind for f in input_files([str(tmp_path)])] == ["sound", "array", "picture"]


def test_imagenet_photographs_get_their_names(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    model = assets / "models" / "mobilenet_v2_224_int8.tflite"
    labels = assets / "models" / "imagenet_labels.txt"
    command = [
        "run",
        str(model),
        "--input",
        str(assets / "photos"),
        "--labels",
        str(labels),
        "--json",
        "--threads",
        "1",
    ]
    assert main(command) == 0
    first = {Path(r["input"]).name: r["top"][0]["label"] for r in records(capsys)}
    assert first["cat.bmp"] == "Egyptian cat"
    assert first["grace_hopper.bmp"] == "military uniform"
    assert first["hot_dog.jpg"].startswith("hotdog")


def test_faces_are_found_without_any_flag(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    scores = []
    for suffix in ("onnx", "tflite"):
        model = assets / "models" / f"ultraface_rfb320.{suffix}"
        photo = assets / "photos" / "faces_1.jpg"
        assert main(["run", str(model), "--input", str(photo), "--json", "--threads", "1"]) == 0
        scores.append([box["score"] for box in records(capsys)[0]["boxes"]])
    assert len(scores[0]) == 46
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_the_voice_detector_hears_the_speech(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the model's own wrapper computes it: 64 samples of context, state carried from window to window."""
    ort = pytest.importorskip("onnxruntime")
    from edge_sdk.audio import read_wav

    model, sound = assets / "models" / "silero_vad_16k.onnx", assets / "audio" / "speech_60s.wav"
    flags = ("--window", 512, "--context", 64, "--feed", "sr=16000", "--state", "state=stateN", "--json")
    assert run(model, "--input", sound, *flags) == 0
    (record,) = records(capsys)
    assert len(record["scores"]) == 1875 and len(record["speech"]) == 19

    samples, _ = read_wav(sound)
    bare = ort.InferenceSession(str(model))
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
    for index in range(200):
        window = np.concatenate([context, samples[None, index * 512 : (index + 1) * 512]], axis=1)
        score, state = bare.run(None, {"input": window, "state": state, "sr": np.array(16000)})
        context = window[:, -64:]
        assert record["scores"][index] == pytest.approx(score.item(), abs=1e-4)


def test_the_digits_network_reads_the_ten_thousand_images(assets: Path) -> None:
    import edge_sdk

    folder = assets / "datasets" / "mnist_t10k" / "data"
    pixels = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    answers = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 1, 1, 28, 28).astype(np.float32) / 255
    digits = np.frombuffer(answers, np.uint8, offset=8)
    with edge_sdk.load(assets / "models" / "mnist_cnn.onnx", threads=1) as session:
        name = session.outputs[0].name
        read = np.array([session.run(image)[name].argmax() for image in images])
    assert len(digits) == 10_000
    assert (read == digits).mean() >= 0.989
