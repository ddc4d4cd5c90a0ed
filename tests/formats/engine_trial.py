"""A child process that loads and runs model files with the real engine, so that a crash is seen and survived.

Reads one JSON line a file, `{"path", "format"}`, and answers each with the line "loaded" as soon as that is done, and
then "ok" or the first line of the error. Where the process dies instead, the file it was given last is the cause.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

import numpy as np

MEMORY_BYTES = 6 << 30


def run_onnx(path: str) -> None:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    print("loaded", flush=True)
    feeds = {}
    for item in session.get_inputs():
        shape = [d if isinstance(d, int) and d >= 0 else 2 for d in item.shape or ()]
        feeds[item.name] = _array(item.type, shape)
    session.run(None, feeds)


def _array(kind: str, shape: list[int]) -> Any:
    if kind == "tensor(string)":
        return np.full(shape, "a", object)
    names = {"float": "float32", "double": "float64"}
    inner = kind.removeprefix("tensor(").removesuffix(")")
    return np.ones(shape, names.get(inner, inner))


def run_tflite(path: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    print("loaded", flush=True)
    for item in interpreter.get_input_details():
        interpreter.set_tensor(item["index"], np.ones(item["shape"], item["dtype"]))
    interpreter.invoke()
    for item in interpreter.get_output_details():
        interpreter.get_tensor(item["index"])


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # The engines write to stderr as they please.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            run_onnx(job["path"]) if job["format"] == "onnx" else run_tflite(job["path"])
            answer = "ok"
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is an answer; only its death is not
            answer = f"{type(error).__name__}: {error}".splitlines()[0]
        print(answer[:300], flush=True)


if __name__ == "__main__":
    main()
