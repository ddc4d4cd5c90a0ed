"""Custom-op libraries for LiteRT: native code that is loaded only if its hash is the one stated."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.engines import CustomOps, LoadOptions
from edge_sdk.engines.litert import LiteRtEngine
from edge_sdk.engines.litert_custom_ops import exported_functions
from edge_sdk.errors import EngineError, UnsupportedOp
from edge_sdk.formats import open_model
from tests import models

pytest.importorskip("ai_edge_litert")

CODE = """
int calls, empty;
void ExampleOpsRegisterer(void* resolver) { if (resolver) calls++; else empty++; }
int other_function(void) { return 7; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> CustomOps:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build a library with")
    folder = tmp_path_factory.mktemp("ops")
    (folder / "ops.c").write_text(CODE)
    path = folder / "libops.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, folder / "ops.c"], check=True)
    return CustomOps(str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def load(content: bytes, *libraries: CustomOps) -> None:
    runner = LiteRtEngine().load(open_model(content), LoadOptions(custom_ops=libraries))
    assert runner.run({"x": np.zeros((2, 3), np.float32)})["y"].tolist() == [[1] * 3] * 2
    runner.close()


def test_every_function_named_registerer_is_called_with_the_engines_table_of_ops(library: CustomOps) -> None:
    calls = ctypes.c_int.in_dll(ctypes.CDLL(library.path), "calls")
    before = calls.value
    load(models.tflite_add(), library)
    assert calls.value == before + 1
    assert ctypes.c_int.in_dll(ctypes.CDLL(library.path), "empty").value == 0


def test_a_library_with_another_hash_is_not_loaded(library: CustomOps) -> None:
    with pytest.raises(EngineError, match=r"has sha256 .*, expected 00; it is not loaded"):
        load(models.tflite_add(), CustomOps(library.path, "00"))


def test_a_library_that_does_not_bring_the_op_changes_nothing(library: CustomOps) -> None:
    with pytest.raises(UnsupportedOp, match="Frobnicate"):
        load(models.tflite_custom_op(), library)


def test_what_is_no_library_of_ops_is_told(tmp_path: Path) -> None:
    text = tmp_path / "ops.so"
    text.write_text("nothing native")
    for content, words in ((b"nothing native", "is no shared library"), (_plain_library(), "no function whose name")):
        text.write_bytes(content)
        with pytest.raises(EngineError, match=words):
            load(models.tflite_add(), CustomOps(str(text), hashlib.sha256(content).hexdigest()))


def test_exported_functions_are_read_from_the_file_alone(library: CustomOps) -> None:
    assert {"ExampleOpsRegisterer", "other_function"} <= set(exported_functions(Path(library.path)))
    assert "calls" not in exported_functions(Path(library.path)), "a variable is no function"


@settings(max_examples=80)
@given(data=st.data())
def test_a_damaged_library_is_refused_or_read_but_never_crashes_the_reader(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(_plain_library()[:20_000])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(4, 63))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("damaged") / "ops.so"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        names = exported_functions(file)
    except EngineError as error:
        assert str(file) in str(error)
    else:
        assert all(isinstance(name, str) for name in names)


def _plain_library() -> bytes:
    """Some shared library that every Python brings."""
    import _ctypes

    return Path(_ctypes.__file__).read_bytes()
