"""`open_model`: content decides the format, and whatever is no model is named as what it is."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import pickle
import struct
import threading
import zipfile
from pathlib import Path

import pytest

from edge_sdk.errors import DamagedModel, EdgeError, ModelNotFound, UnsupportedFormat
from edge_sdk.formats import open_model
from tests import models


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def archive(*members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for member in members:
            file.writestr(member, b"content")
    return stream.getvalue()


def refusal(error: type[EdgeError], source: Path | bytes, name: str | None = None) -> str:
    with pytest.raises(error) as caught:
        open_model(source, name=name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_model_file_tells_name_path_format_size_and_hash(tmp_path: Path) -> None:
    content = models.onnx_add()
    path = write(tmp_path, "add.onnx", content)
    with open_model(path) as model:
        assert (model.name, model.path, model.format, model.size_bytes) == ("add.onnx", path, "onnx", len(content))
        assert model.sha256 == model.fingerprint == hashlib.sha256(content).hexdigest()
        assert bytes(model.content()) == content


def test_a_model_in_memory_has_no_path() -> None:
    model = open_model(models.tflite_add(), name="from the network")
    assert (model.name, model.path, model.format) == ("from the network", None, "tflite")
    assert bytes(model.content()) == models.tflite_add()


@pytest.mark.parametrize("name", ["model.tflite", "model.bin", "model", "model.pt", "model.h5"])
def test_the_content_decides_not_the_suffix(tmp_path: Path, name: str) -> None:
    assert open_model(write(tmp_path, name, models.onnx_mlp())).format == "onnx"
    assert open_model(write(tmp_path, name + ".onnx", models.tflite_add())).format == "tflite"


def test_a_newer_onnx_with_fields_not_known_yet(tmp_path: Path) -> None:
    content = models.onnx_add() + b"\xf2\x01\x03new"
    model = open_model(write(tmp_path, "model", content))
    model.check()
    assert model.format == "onnx"


def test_a_missing_file_is_named_with_the_one_that_may_be_meant(tmp_path: Path) -> None:
    write(tmp_path, "mobilenet.onnx", models.onnx_add())
    message = refusal(ModelNotFound, tmp_path / "mobilnet.onnx")
    assert "no such file" in message and "did you mean mobilenet.onnx?" in message


@pytest.mark.parametrize("source", ["", "a\0b", "x" * 5000], ids=["empty", "nul", "too long"])
def test_a_path_that_cannot_be_one(source: str) -> None:
    with pytest.raises(ModelNotFound):
        open_model(source)


def test_a_folder_is_no_model_but_its_models_are_named(tmp_path: Path) -> None:
    write(tmp_path, "a.onnx", models.onnx_add())
    message = refusal(ModelNotFound, tmp_path)
    assert "is a folder" in message and "a.onnx" in message


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "no regular file" in refusal(ModelNotFound, tmp_path / "pipe.onnx")


FOREIGN = {
    "torchscript.pt": (archive("m/data.pkl", "m/code/x.py"), "torch.onnx.export("),
    "legacy.pth": (pickle.dumps({"weights": 1}, 2), "torch.onnx.export("),
    "exported.pt2": (archive("archive_format", "models/model.json"), "torch.export.load"),
    "model.keras": (archive("config.json", "model.weights.h5"), "TFLiteConverter.from_keras_model"),
    "model.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "TFLiteConverter.from_keras_model"),
    "graph.pb": (b"\x0a\x05\x0a\x03abc", "tf2onnx"),
    "saved_model.pb": (b"\x08\x01\x12\x03\x0a\x01a", "tf2onnx"),
    "net.ms": (struct.pack("<I", 16) + b"MSL2" + bytes(64), "mindspore.export"),
    "net.mlmodel": (b"\x08\x04\x12\x00\xa2\x1f\x02\x0a\x00", "ONNX instead"),
    "net.engine": (b"ftrt" + bytes(64), "the ONNX file it was built from"),
    "net.plan": (b"\x00\x01\x02\x03" * 8, "the ONNX file it was built from"),
    "net.param": (b"7767517\n2 2\nInput data 0 1 data\n", "torch.onnx.export"),
    "net.safetensors": (struct.pack("<Q", 20) + b'{"w":{"dtype":"F32"}}' + bytes(64), "optimum-cli export onnx"),
    "net.gguf": (b"GGUF\x03\x00\x00\x00" + bytes(64), "optimum-cli export onnx"),
    "net.ort": (struct.pack("<I", 16) + b"ORTM" + bytes(64), ".onnx file it was made from"),
    "net.xml": (b'<?xml version="1.0"?>\n<net name="n" version="11"/>', "ovc"),
    "net.pte": (struct.pack("<I", 16) + b"ET12" + bytes(64), "torch.onnx.export("),
    "net.rknn": (b"RKNN" + bytes(64), "the ONNX file it was converted from"),
    "net.edge": (archive("manifest.json", "variants/a.onnx"), "edge_sdk.load"),
    "tree.pkl": (pickle.dumps([1, 2], 4), "skl2onnx"),
    "model.zip": (archive("model.onnx"), "unpack it"),
    "model.onnx.gz": (b"\x1f\x8b\x08" + bytes(32), "gunzip"),
    "cat.png": (b"\x89PNG\r\n\x1a\n" + bytes(32), "pass it as an input"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_format_is_named_with_the_way_from_it(tmp_path: Path, name: str) -> None:
    content, way = FOREIGN[name]
    message = refusal(UnsupportedFormat, write(tmp_path, name, content))
    assert message.count(name) and way in message


@pytest.mark.parametrize(
    "name", ["torchscript.pt", "model.h5", "net.gguf", "net.ort", "net.safetensors", "net.mlmodel"]
)
def test_another_format_is_known_under_a_wrong_suffix(tmp_path: Path, name: str) -> None:
    content, way = FOREIGN[name]
    assert way in refusal(UnsupportedFormat, write(tmp_path, "model.onnx", content))


@pytest.mark.parametrize(
    ("member", "way"),
    [("saved_model.pb", "from_saved_model"), ("Manifest.json", "Core ML"), ("manifest.json", "bundle")],
)
def test_a_folder_of_another_format(tmp_path: Path, member: str, way: str) -> None:
    write(tmp_path, member, b"x")
    assert way in refusal(UnsupportedFormat, tmp_path)


def test_what_was_stored_in_place_of_a_model(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4070174\n"
    assert "git lfs pull" in refusal(DamagedModel, write(tmp_path, "a.onnx", pointer))
    page = b"<!DOCTYPE html>\n<html><body>Not Found</body></html>"
    assert "web page" in refusal(DamagedModel, write(tmp_path, "b.tflite", page))
    assert "holds text" in refusal(DamagedModel, write(tmp_path, "c.onnx", "größe: 3\n".encode() * 200))
    assert "empty" in refusal(DamagedModel, write(tmp_path, "d.onnx", b""))


def test_a_damaged_file_is_damaged_not_foreign(tmp_path: Path) -> None:
    assert "byte" in refusal(DamagedModel, write(tmp_path, "cut.onnx", models.onnx_mlp()[:300]))
    assert "TFL3" in refusal(DamagedModel, write(tmp_path, "a.tflite", bytes(8) + models.tflite_add()[8:]))
    assert "first bytes" in refusal(UnsupportedFormat, write(tmp_path, "noise.bin", bytes(range(200, 256))))


def descriptors_of(path: Path) -> int:
    """How many descriptors of this process lead to the file; a mapping keeps one."""
    gc.collect()
    links = (entry for entry in os.scandir("/proc/self/fd") if entry.is_symlink())
    return sum(os.path.exists(link) and os.path.samefile(link, path) for link in links)


def test_closing_gives_back_the_descriptor_and_may_be_repeated(tmp_path: Path) -> None:
    path = write(tmp_path, "add.tflite", models.tflite_add())
    model = open_model(path)
    model.check()
    model.describe()
    assert descriptors_of(path) == 1
    model.close()
    model.close()
    assert descriptors_of(path) == 0


def test_refused_files_leave_no_descriptor_open(tmp_path: Path) -> None:
    path = write(tmp_path, "a.onnx", b"nothing of the kind")
    with pytest.raises(DamagedModel) as caught:
        open_model(path)
    assert descriptors_of(path) == 0, caught.value


def test_content_outlives_close_and_may_be_read_again(tmp_path: Path) -> None:
    model = open_model(write(tmp_path, "add.onnx", models.onnx_add()))
    held = model.content()
    model.close()
    assert bytes(held) == bytes(model.content()) == models.onnx_add()


def test_a_file_that_changed_under_an_open_model_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "add.onnx", models.onnx_add())
    model = open_model(path)
    model.close()
    path.write_bytes(models.onnx_mlp())
    with pytest.raises(DamagedModel, match="changed"):
        model.content()
    path.unlink()
    with pytest.raises(ModelNotFound):
        model.content()


def test_the_fingerprint_covers_external_files(tmp_path: Path) -> None:
    path = models.onnx_external_data(tmp_path)
    first = open_model(path)
    (tmp_path / "model.onnx.data").write_bytes(bytes(256))
    second = open_model(path)
    assert first.sha256 == second.sha256
    before = first.fingerprint
    assert before == second.fingerprint != first.sha256
    (tmp_path / "model.onnx.data").write_bytes(b"\1" * 256)
    assert open_model(path).fingerprint != before
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ModelNotFound, match=r"model\.onnx\.data"):
        _ = open_model(path).fingerprint


def test_threads_share_one_model_file(tmp_path: Path) -> None:
    model = open_model(write(tmp_path, "mlp.onnx", models.onnx_mlp()))
    seen: list[object] = []

    def use() -> None:
        for _ in range(20):
            model.check()
            seen.append(model.describe())
            model.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 80 and all(info is seen[0] for info in seen)
