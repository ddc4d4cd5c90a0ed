"""The engines without us, as their own documentation calls them: what a session is measured against.

Nothing of the package is imported here before the engine has answered, so that its start and memory are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["BARE_ENGINES", "load_bare"]

BARE_ENGINES = {"onnxruntime": "onnx", "litert": "tflite"}
"""Engine to the format of the models it runs."""

Feeds = dict[str, Any]
MakeRequest = Callable[[Feeds], Callable[[], object]]


def load_bare(engine: str, path: str, threads: int | None) -> tuple[str, str, MakeRequest]:
    """Loads a model on one of `BARE_ENGINES`.

    Args:
        engine: its name.
        path: the model file.
        threads: None for the engine's own default.

    Returns:
        Version of the library, where it computes in one phrase, and what makes a request of feeds by name, in the
        model's order. A request belongs to one caller.

    Raises:
        Exception: whatever the engine raises.
    """
    where = "its own default threads" if threads is None else f"{threads} thread{'s' * (threads != 1)}"
    version, make_request = (_onnxruntime if engine == "onnxruntime" else _litert)(path, threads)
    return version, where, make_request


def _onnxruntime(path: str, threads: int | None) -> tuple[str, MakeRequest]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    if threads is not None:
        settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    def make_request(feeds: Feeds) -> Callable[[], object]:
        return lambda: session.run(None, feeds)

    return str(onnxruntime.__version__), make_request


def _litert(path: str, threads: int | None) -> tuple[str, MakeRequest]:
    try:
        from ai_edge_litert.interpreter import Interpreter

        library = "ai-edge-litert"
    except ImportError:
        from tflite_runtime.interpreter import Interpreter

        library = "tflite-runtime"
    from importlib.metadata import version

    first = _interpreter(Interpreter, path, threads)
    first.allocate_tensors()
    waiting = [first]

    def make_request(feeds: Feeds) -> Callable[[], object]:
        # An interpreter is not re-entrant: each caller has one of its own.
        interpreter = waiting.pop() if waiting else _interpreter(Interpreter, path, threads)
        return _litert_request(interpreter, feeds)

    return version(library), make_request


def _interpreter(make: Callable[..., Any], path: str, threads: int | None) -> Any:
    return make(model_path=path, num_threads=threads)


def _litert_request(interpreter: Any, feeds: Feeds) -> Callable[[], object]:
    # In the model's order: names may be given twice in a file.
    pairs = [(d["index"], array) for d, array in zip(interpreter.get_input_details(), feeds.values(), strict=True)]
    for detail, (index, array) in zip(interpreter.get_input_details(), pairs, strict=True):
        if list(array.shape) != detail["shape"].tolist():
            interpreter.resize_tensor_input(index, array.shape)
    interpreter.allocate_tensors()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def request() -> object:
        for index, array in pairs:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return request
