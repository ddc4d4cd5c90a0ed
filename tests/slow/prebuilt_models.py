"""A pytest plug-in for a machine without the distribution `onnx`: `tests.models` works with files built elsewhere.

`write(folder)` runs where `onnx` is installed; `pytest -p tests.slow.prebuilt_models` runs where it is not. There every
function of `tests.models` that needs no argument gives the bytes that were written, and a test that puts an ONNX graph
together by itself is skipped. TFLite models are built in place: LiteRT's schema is plain Python and is laid in the
folder too, without the engine it belongs to.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER_VARIABLE = "EDGE_SDK_PREBUILT_MODELS"
SCHEMA = "ai_edge_litert.schema_py_generated"


def write(folder: Path) -> None:
    """Writes the ONNX models of `tests.models` and LiteRT's schema below `folder`."""
    from tests import models

    folder.mkdir(parents=True, exist_ok=True)
    for name, build in models.ONNX_MODELS.items():
        (folder / f"{name}.onnx").write_bytes(build())
    schema = find_spec(SCHEMA)
    assert schema is not None
    assert schema.origin is not None
    package, module = SCHEMA.split(".")
    (folder / package).mkdir(exist_ok=True)  # a namespace package: the engine is not there
    shutil.copy(schema.origin, folder / package / f"{module}.py")


class _Absent(ModuleType):
    """Stands for `onnx` while `tests.models` is imported: has every attribute, and building with any of them skips."""

    __path__: list[str] = []  # noqa: RUF012 - what makes a module a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{self.__name__}.{name}")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        import pytest

        pytest.skip(f"{self.__name__} is not installed on this machine", allow_module_level=True)


def _reader(path: Path) -> Callable[..., bytes]:
    def read(*arguments: Any, **options: Any) -> bytes:
        import pytest

        if arguments or options:
            pytest.skip(f"{path.stem} was built for its default arguments only", allow_module_level=True)
        return path.read_bytes()

    return read


def pytest_configure() -> None:
    """Replaces the ONNX builders before the first test module is imported."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    sys.path.append(str(folder))
    absent = {name: _Absent(name) for name in ("onnx", "onnx.helper", "onnx.numpy_helper")}
    sys.modules.update(absent)
    try:
        models = importlib.import_module("tests.models")
    finally:
        for name in absent:  # so that `importorskip("onnx")` still skips
            del sys.modules[name]
    for path in folder.glob("*.onnx"):
        setattr(models, path.stem, _reader(path))
        models.ONNX_MODELS[path.stem] = getattr(models, path.stem)
