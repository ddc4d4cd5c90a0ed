"""PyTorch and TensorFlow by way of the user's own Python in a child process; without it, the exact command."""

from __future__ import annotations

import json
import os
import shlex
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.building import export_tensorflow, export_torch
from edge_sdk.building.conversion import convert, needs_converting
from edge_sdk.errors import MissingExtra, ModelError, ModelNotFound, UnsupportedFormat

models = pytest.importorskip("tests.models")
pytest.importorskip("onnxruntime")

TORCH_PYTHON = os.environ.get("EDGE_SDK_TEST_TORCH_PYTHON", "")
"""A Python with torch and onnxscript, for the slow test of the real thing."""


pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"PK\x03\x04")
    return path


def stand_in(folder: Path, body: str) -> str:
    """A Python that runs `body` in the place of the export; `task` is what it was asked for."""
    path = folder / "python"
    head = f"#!{sys.executable}\nimport json, os, sys\ntask = json.loads(sys.argv[2])\n"
    path.write_text(head + textwrap.dedent(body))
    path.chmod(0o755)
    return str(path)


def exporting(folder: Path, outputs: Any) -> str:
    """A stand-in that exports y = x + 1, with an example whose answer is `outputs`."""
    (folder / "add.onnx").write_bytes(models.onnx_add())
    np.savez(folder / "add.npz", input_0=np.zeros((2, 3), np.float32), output_0=np.asarray(outputs, np.float32))
    return stand_in(
        folder,
        f"""
        import shutil
        print("what exporters say goes nowhere")
        out = os.path.join(task["folder"], "model.onnx")
        shutil.copy({str(folder / "add.onnx")!r}, out)
        shutil.copy({str(folder / "add.npz")!r}, os.path.join(task["folder"], "example.npz"))
        result = {{"file": out, "how": "torch 0.0", "example": True}}
        json.dump(result, open(os.path.join(task["folder"], "result.json"), "w"))
        """,
    )


def folder_in(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_what_is_converted_and_what_is_not(tmp_path: Path, program: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    for source in (str(program), "pkg.module:make", "net.keras", "net.h5", str(tmp_path / "saved")):
        assert needs_converting(source), source
    for source in ("net.onnx", "net.tflite", str(tmp_path), "C:/net.onnx", "a:b:c", ":make"):
        assert not needs_converting(source), source
    with pytest.raises(UnsupportedFormat, match=r"expected \.pt2"):
        convert("net.onnx", tmp_path)


def test_the_export_is_compared_with_the_models_own_answer(tmp_path: Path, program: Path) -> None:
    made = convert(str(program), folder_in(tmp_path), exporting(tmp_path, np.ones((2, 3))))
    assert (made.file.name, made.how, made.error) == ("model.onnx", "torch 0.0", 0.0)


def test_an_export_that_answers_otherwise_is_refused(tmp_path: Path, program: Path) -> None:
    with pytest.raises(ModelError, match="is the model in eval mode"):
        convert(str(program), folder_in(tmp_path), exporting(tmp_path, np.full((2, 3), 1.1)))


def test_without_torch_the_command_is_told(tmp_path: Path, program: Path) -> None:
    python = stand_in(
        tmp_path,
        """
        result = {"missing": "torch", "message": "No module named 'torch'"}
        json.dump(result, open(os.path.join(task["folder"], "result.json"), "w"))
        """,
    )
    with pytest.raises(MissingExtra) as caught:
        convert(str(program), folder_in(tmp_path), python)
    message = str(caught.value)
    assert "\n" not in message
    command = shlex.split(message[message.index("python -c") :])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "command", "exec")
    assert f"torch.export.load({json.dumps(str(program))})" in command[2]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("pkg.nets:make", "from pkg.nets import make; model, inputs = make()"),
        ("saved", 'from_saved_model("saved")'),
        ("net.keras", 'from_keras_model(tf.keras.models.load_model("net.keras"))'),
    ],
)
def test_every_kind_has_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, told: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    (tmp_path / "net.keras").touch()
    with pytest.raises(ModelError) as caught:
        convert(source, folder_in(tmp_path), stand_in(tmp_path, "sys.exit('it went wrong')"))
    message = str(caught.value)
    assert "ended with exit code 1: it went wrong" in message
    command = shlex.split(message[message.index("python -c") :])
    compile(command[2], "command", "exec")
    assert told in command[2]


def test_a_child_that_is_killed(tmp_path: Path, program: Path) -> None:
    python = stand_in(tmp_path, "import signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ModelError, match="ended with signal 9: without a word"):
        convert(str(program), folder_in(tmp_path), python)


def test_a_python_or_a_file_that_is_not_there(tmp_path: Path, program: Path) -> None:
    with pytest.raises(ModelError, match="cannot be started"):
        convert(str(program), folder_in(tmp_path), str(tmp_path / "none"))
    with pytest.raises(ModelNotFound):
        convert(str(tmp_path / "none.pt2"), tmp_path)


# --- the scripts, with stand-ins for the libraries ---


class Tensor:
    """What the script needs of a tensor."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array, np.float32)

    def detach(self) -> Tensor:
        return self

    cpu = detach

    def numpy(self) -> Any:
        return self.array


class Module:
    """What the script needs of a module: y = x + 1."""

    evaluated = False

    def parameters(self) -> list[Any]:
        return []

    def eval(self) -> Module:
        self.evaluated = True
        return self

    def __call__(self, x: Tensor) -> dict[str, Any]:
        return {"y": Tensor(x.array + 1), "more": [Tensor([1.0])]}


class NoGradient:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def torch_stand_in(fails: str = "") -> Any:
    """A `torch` whose exporters write a word; the newer one raises where `fails` says how."""

    class Exported:
        def save(self, path: str, external_data: bool) -> None:
            Path(path).write_text(f"exported, external_data={external_data}")

    def export(_model: Any, _inputs: Any = None, path: str = "", *, dynamo: bool, **_: Any) -> Any:
        if dynamo and fails:
            raise ModuleNotFoundError(fails)
        if not dynamo:
            Path(path).write_text("traced")
        return Exported()

    return types.SimpleNamespace(
        __version__="0.0",
        Tensor=Tensor,
        nn=types.SimpleNamespace(Module=Module),
        onnx=types.SimpleNamespace(export=export),
        no_grad=NoGradient,
    )


def nets(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    monkeypatch.setitem(sys.modules, "nets_of_a_user", types.SimpleNamespace(**functions))  # type: ignore[arg-type]


@pytest.mark.parametrize(("fails", "written"), [("", "exported, external_data=False"), ("no onnxscript", "traced")])
def test_the_torch_script_exports_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, written: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_stand_in(fails))
    module = Module()
    nets(monkeypatch, make=lambda: (module, Tensor([[1.0]])))
    done = export_torch.main({"source": "nets_of_a_user:make", "folder": str(tmp_path)})
    assert Path(done["file"]).read_text() == written
    assert done["how"].startswith("torch 0.0, torch.onnx.export")
    assert (fails in done["how"]) and module.evaluated and done["example"]
    with np.load(tmp_path / "example.npz") as example:
        assert example["output_0"].tolist() == [[2.0]]
        assert example["output_1"].tolist() == [1.0]


def test_the_torch_script_tells_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # type: ignore[arg-type]
    assert export_torch.main({"source": "x.pt2", "folder": str(tmp_path)})["missing"] == "torch"
    monkeypatch.setitem(sys.modules, "torch", torch_stand_in())
    nets(monkeypatch, make=lambda: 3)
    done = export_torch.main({"source": "nets_of_a_user:make", "folder": str(tmp_path)})
    assert done == {"message": "TypeError: nets_of_a_user:make gave a int; expected (model, example_inputs)"}


def test_the_tensorflow_script_converts_folders_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Converter:
        def __init__(self, what: str) -> None:
            self.what = what

        from_saved_model = classmethod(lambda cls, path: cls(f"saved {Path(path).name}"))
        from_keras_model = classmethod(lambda cls, model: cls(f"keras {model}"))

        def convert(self) -> bytes:
            return self.what.encode()

    library = types.SimpleNamespace(
        __version__="0.0",
        lite=types.SimpleNamespace(TFLiteConverter=Converter),
        keras=types.SimpleNamespace(models=types.SimpleNamespace(load_model=lambda path, compile: Path(path).name)),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", library)  # type: ignore[arg-type]
    (tmp_path / "saved").mkdir()
    for source, content in ((str(tmp_path / "saved"), b"saved saved"), ("net.keras", b"keras net.keras")):
        done = export_tensorflow.main({"source": source, "folder": str(tmp_path)})
        assert Path(done["file"]).read_bytes() == content
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # type: ignore[arg-type]
    assert export_tensorflow.main({"source": "x", "folder": str(tmp_path)})["missing"] == "tensorflow"


@pytest.mark.slow
@pytest.mark.skipif(not TORCH_PYTHON, reason="EDGE_SDK_TEST_TORCH_PYTHON names no Python with torch")
def test_the_real_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net.py").write_text(
        "import torch\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.5)\n"
        "    return torch.nn.Sequential(*layers), (torch.rand(1, 3, 8, 8),)\n"
    )
    monkeypatch.chdir(tmp_path)
    made = convert("own_net:make", folder_in(tmp_path), TORCH_PYTHON)
    assert made.error is not None and made.error < 1e-4
