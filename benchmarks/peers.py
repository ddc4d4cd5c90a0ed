"""Other people's model servers, each in an environment of its own below `.cache/peers` of the checkout.

    python benchmarks/peers.py [--quick]       makes the environments and tells what can be used

mlserver and NVIDIA's Triton (its binary comes with the package nvidia-pytriton; of its back ends only the Python one).
They are installed with pip on first use, never into the project's own environment. Where one cannot be had, `Missing`
says why.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "peers"
PACKAGES = {
    "mlserver": ("mlserver==1.7.1", "onnxruntime"),
    "triton": ("nvidia-pytriton==0.7.0", "onnxruntime"),
    "openvino": ("openvino>=2025.0", "numpy"),
}
LIBPYTHON = "libpython3.11.so.1.0"
START_S = 60.0

_RUNTIME = '''\
"""Runs an ONNX model on onnxruntime; a tensor may also travel as base64 text, which is read faster than numbers."""

import base64

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse, ResponseOutput


class OnnxModel(MLModel):
    async def load(self):
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        as_text = any(entry.datatype == "BYTES" for entry in payload.inputs)
        names = [entry.name for entry in self.session.get_outputs()]
        arrays = self.session.run(names, {entry.name: self.array(entry) for entry in payload.inputs})
        made = [self.text(*pair) if as_text else NumpyCodec.encode_output(*pair) for pair in zip(names, arrays)]
        return InferenceResponse(model_name=self.name, outputs=made)

    def array(self, entry):
        if entry.datatype != "BYTES":
            return NumpyCodec.decode_input(entry)
        shape = next(e.shape for e in self.session.get_inputs() if e.name == entry.name)
        return np.frombuffer(base64.b64decode(entry.data[0]), np.float32).reshape(shape)

    def text(self, name, array):
        data = [base64.b64encode(array).decode()]
        return ResponseOutput(name=name, datatype="BYTES", shape=[1], data=data)
'''


class Missing(Exception):
    """A peer cannot be used here; says why."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")


def environment(name: str) -> Path:
    """The interpreter of a peer's environment, made where it is not there yet.

    Raises:
        Missing: it cannot be made.
    """
    home = FOLDER / name
    python, stamp = home / "bin" / "python", home / "complete"
    base = _python_311() if name == "triton" else sys.executable
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be making it
        if not (stamp.is_file() and stamp.read_text() == " ".join(PACKAGES[name])):
            _make(name, base, home)
            stamp.write_text(" ".join(PACKAGES[name]))
    return python


def _make(name: str, base: str, home: Path) -> None:
    python = home / "bin" / "python"
    for command in (
        [base, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]],
    ):
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            lines = (made.stderr or made.stdout).strip().splitlines() or ["no reason given"]
            raise Missing(f"{name}: {' '.join(command[1:4])} failed: {lines[-1][:200]}")


def _python_311() -> str:
    """Triton's Python back end is linked to one Python each; of those that its package holds, this is the system's."""
    python = "/usr/bin/python3.11" if Path("/usr/bin/python3.11").exists() else shutil.which("python3.11")
    if python is None:
        raise Missing("triton: there is no python3.11; apt-get install python3.11 python3.11-venv libpython3.11")
    try:
        ctypes.CDLL(LIBPYTHON)
    except OSError:
        raise Missing(f"triton: there is no {LIBPYTHON}; apt-get install libpython3.11") from None
    return python


@contextmanager
def mlserver(folder: Path, models: Mapping[str, bytes]) -> Iterator[Server]:
    """mlserver with ONNX models, in its own process without workers beside it, which is the faster way.

    Raises:
        Missing: it cannot be had, or does not start.
    """
    python = environment("mlserver")
    for name, content in models.items():
        home = folder / name
        home.mkdir(parents=True)
        (home / "model.onnx").write_bytes(content)
        (home / "onnx_runtime.py").write_text(_RUNTIME)
        settings = {
            "name": name,
            "implementation": "onnx_runtime.OnnxModel",
            "parameters": {"uri": str(home / "model.onnx")},
        }
        (home / "model-settings.json").write_text(json.dumps(settings))
    http, grpc, metrics = _free_ports(3)
    told = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (folder / "settings.json").write_text(json.dumps(told | {"parallel_workers": 0, "debug": False}))
    command = [str(python.with_name("mlserver")), "start", str(folder)]
    paths = os.pathsep.join(str(folder / name) for name in models)
    with _running("mlserver", command, http, folder, {"PYTHONPATH": paths}, models) as server:
        yield server


@contextmanager
def triton(repository: Path, work: Path) -> Iterator[Server]:
    """Triton with a repository of models for its Python back end.

    Args:
        work: an empty folder for what it needs beside.

    Raises:
        Missing: it cannot be had, or does not start.
    """
    python = environment("triton")
    packages = python.parents[1] / "lib" / "python3.11" / "site-packages"
    parts = packages / "pytriton" / "tritonserver"
    backend = work / "backends" / "python"
    shutil.copytree(parts / "backends" / "python", backend)
    shutil.copy2(parts / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", backend)
    (port,) = _free_ports(1)
    command = [str(parts / "bin" / "tritonserver"), "--model-repository", str(repository)]
    command += ["--backend-directory", str(backend.parent), "--http-address", "127.0.0.1", "--http-port", str(port)]
    command += ["--allow-grpc=false", "--allow-metrics=false", "--log-info=false"]
    environ = {
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
    }
    with _running("triton", command, port, work, environ, [path.name for path in repository.iterdir()]) as server:
        yield server


@contextmanager
def _running(
    name: str, command: list[str], port: int, work: Path, environ: dict[str, str], models: Iterable[str]
) -> Iterator[Server]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    log = work / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=work, env={**inherited, **environ})
    server = Server(f"http://127.0.0.1:{port}", process)
    try:
        end_s = time.monotonic() + START_S
        # A server may call itself ready while it knows of no model yet.
        while not all(_ready(f"{server.url}/v2/{path}/ready") for path in ("health", *(f"models/{m}" for m in models))):
            if process.poll() is not None or time.monotonic() > end_s:
                lines = log.read_text(errors="replace").strip().splitlines() or ["no reason given"]
                said = next((line for line in lines if line.startswith("E") or "Error" in line), lines[-1])
                raise Missing(f"{name} does not start: {said[:300]}")
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now; others may take them before the server does, but hardly ever will."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the same")
    parser.parse_args()
    for name in PACKAGES:
        try:
            print(f"{name:<10} {environment(name)}")
        except Missing as error:
            print(f"{name:<10} cannot be used: {error}")


if __name__ == "__main__":
    main()
