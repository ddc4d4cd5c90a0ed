"""A tail laid out as other people's model servers want it: Triton's repository, OpenVINO Model Server's configuration.

Sources: Triton's model_repository.md and model_configuration.md (model_config.proto); OpenVINO Model Server's
config_model_list schema.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.errors import ModelError, StorageError, UnreadableInput
from edge_sdk.formats import open_model
from edge_sdk.graph.codec import read_record
from edge_sdk.graph.splitting import Split
from edge_sdk.storage import read_whole, write_whole
from edge_sdk.tensors import TensorSpec
from edge_sdk.wire.endpoint import TailIdentity

__all__ = ["PYTHON_BACKEND", "SERVERS", "export_tail", "triton_config"]

SERVERS = ("triton", "triton-python", "openvino")
_VERSION = "1"
_OPENVINO_CONFIG = "config.json"
_MAX_CONFIG_BYTES = 1 << 24
_TRITON_TYPES = {
    "float32": "TYPE_FP32", "float64": "TYPE_FP64", "float16": "TYPE_FP16", "bfloat16": "TYPE_BF16",
    "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32", "uint64": "TYPE_UINT64", "bool": "TYPE_BOOL",
    "string": "TYPE_STRING",
}  # fmt: skip

PYTHON_BACKEND = '''\
"""Runs model.onnx beside this file in Triton's Python back end."""

from pathlib import Path

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        path = Path(__file__).with_name("model.onnx")
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.inputs = [entry.name for entry in self.session.get_inputs()]
        self.outputs = [entry.name for entry in self.session.get_outputs()]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        try:
            feeds = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            wanted = [name for name in self.outputs if name in request.requested_output_names()]
            arrays = self.session.run(wanted, feeds)
        except Exception as error:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse([pb_utils.Tensor(*pair) for pair in zip(wanted, arrays)])
'''
"""A `model.py` for it."""


def export_tail(server: str, folder: Path, name: str, split: Split) -> list[Path]:
    """Writes a tail into a server's model repository.

    Args:
        server: "triton" (`NAME/1/model.onnx` and `NAME/config.pbtxt` for its ONNX Runtime back end), "triton-python"
            (the same with `NAME/1/model.py`, for its Python back end, which then needs onnxruntime) or "openvino"
            (`NAME/1/model.onnx` or `.tflite`, and an entry in `config.json`, where others stay).
        folder: the repository; created where it is missing.
        name: what the server calls the model.
        split: whose tail it is.

    Returns:
        The files written.

    Raises:
        ModelError: the server runs no such file, or `config.json` there is none of its configurations.
        StorageError: a file could not be written.
    """
    if server not in SERVERS:
        raise ModelError(f"there is no export for {server!r}; expected one of {', '.join(SERVERS)}")
    suffix = split.cut.format
    if server != "openvino" and suffix != "onnx":
        raise ModelError(f"{name}: Triton has no back end for TFLite; convert the model to ONNX, or export to openvino")
    version = folder / name / _VERSION
    files = {version / f"model.{suffix}": split.tail}
    if server == "openvino":
        files[folder / _OPENVINO_CONFIG] = _openvino_config(folder / _OPENVINO_CONFIG, folder, name)
    else:
        backend = "python" if server == "triton-python" else "onnxruntime"
        if backend == "python":
            files[version / "model.py"] = PYTHON_BACKEND.encode()
        files[folder / name / "config.pbtxt"] = triton_config(name, split.tail, backend).encode()
    try:
        version.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{version}: cannot be created: {error.strerror}") from error
    for path, content in files.items():
        write_whole(path, content)
    return list(files)


def triton_config(name: str, tail: bytes, backend: str = "onnxruntime") -> str:
    """Triton's configuration of an ONNX tail, as protobuf text. Its parameters tell which tail it is, if the file does.

    Args:
        name: what Triton calls it.
        tail: the model file.
        backend: "onnxruntime" or "python".

    Raises:
        ModelError: it takes or gives what Triton has no type for.
    """
    with open_model(tail, name=name) as model:
        info, record = model.describe(), read_record(model)
    identity = (
        {} if record is None else TailIdentity(record.source, record.cut, record.mark or record.codec).parameters()
    )
    parameters = "".join(
        f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(value)} }} }}\n"
        for key, value in identity.items()
    )
    inputs = [_tensor(spec, name) for spec in info.inputs if spec.name not in info.initializer_inputs]
    outputs = [_tensor(spec, name) for spec in info.outputs]
    return (
        f"name: {_quoted(name)}\nbackend: {_quoted(backend)}\nmax_batch_size: 0\n"
        f"input [\n{_joined(inputs)}\n]\noutput [\n{_joined(outputs)}\n]\n{parameters}"
    )  # fmt: skip


def _tensor(spec: TensorSpec, where: str) -> str:
    if spec.dtype not in _TRITON_TYPES or spec.shape is None or spec.kind != "tensor":
        raise ModelError(f"{where}: Triton has no form for {spec.name!r} {spec.describe()}; cut elsewhere")
    sizes = [str(size) if isinstance(size, int) else "-1" for size in spec.shape]
    # Triton wants at least one dimension; a scalar is told by an empty reshape.
    scalar = "" if sizes else " reshape: { shape: [ ] }"
    dims = ", ".join(sizes or ["1"])
    return f"  {{ name: {_quoted(spec.name)} data_type: {_TRITON_TYPES[spec.dtype]} dims: [ {dims} ]{scalar} }}"


def _joined(entries: Sequence[str]) -> str:
    return ",\n".join(entries)


def _quoted(text: str) -> str:
    """A string of protobuf's text form."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else "".join(f"\\{b:03o}" for b in c.encode()) for c in plain) + '"'


def _openvino_config(path: Path, folder: Path, name: str) -> bytes:
    """The configuration with an entry for this model, those of others left as they are."""
    record: object = {}
    if path.exists():
        try:
            record = json.loads(read_whole(path, _MAX_CONFIG_BYTES))
        except (ValueError, RecursionError, UnreadableInput) as error:
            raise ModelError(f"{path}: cannot be read as a configuration of OpenVINO Model Server: {error}") from None
    models = record.get("model_config_list", []) if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(models, list):
        raise ModelError(f"{path}: is no configuration of OpenVINO Model Server: expected a list model_config_list")
    kept = [entry for entry in models if not (isinstance(entry, dict) and _name_of(entry) == name)]
    entry = {"config": {"name": name, "base_path": str((folder / name).resolve())}}
    return json.dumps(record | {"model_config_list": [*kept, entry]}, indent=2).encode() + b"\n"


def _name_of(entry: dict[str, object]) -> object:
    config = entry.get("config")
    return config.get("name") if isinstance(config, dict) else None
