"""ONNX's own backend tests (node, simple, light): whatever bare ONNX Runtime passes, a session passes.

`make test` fetches the data; where they are absent (a plain `pytest` without them) the tests skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_sdk

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

DATA = Path(__file__).parents[2] / ".cache" / "onnx-backend"
pytestmark = pytest.mark.skipif(not (DATA / ".complete").exists(), reason="`make test` fetches the data of these tests")

# As ONNX's own runner compares.
RELATIVE, ABSOLUTE = 1e-3, 1e-7


@dataclass(frozen=True)
class Case:
    """One model and one set of inputs with the outputs expected."""

    model: Path
    feeds: dict[str, Any]
    expected: list[Any]


def read_value(path: Path, type_proto: Any) -> Any:
    """The array, list or None in a `.pb` file whose message depends on the type of the value."""
    content = path.read_bytes()
    kind = type_proto.WhichOneof("value")
    if kind == "sequence_type":
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if kind == "optional_type":
        return onnx.numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(content))


def data_set_cases(folder: Path) -> Iterator[Case]:
    """The cases of a folder with `model.onnx` and `test_data_set_*`."""
    path = folder / "model.onnx"
    graph = onnx.load(path).graph
    for data_set in sorted(folder.glob("test_data_set_*")):
        feeds = {
            info.name: read_value(file, info.type)
            for index, info in enumerate(graph.input)
            if (file := data_set / f"input_{index}.pb").exists()
        }
        outputs = [read_value(data_set / f"output_{i}.pb", info.type) for i, info in enumerate(graph.output)]
        yield Case(path, feeds, outputs)


def light_case(path: Path) -> Case:
    """A classifier without its weights, with the ramp as input that ONNX's runner feeds."""
    from onnx.backend.test.runner import Runner

    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    feeds = {
        info.name: Runner.generate_dummy_data(info, seed=0, name=path.stem.removeprefix("light_"), random=False)
        for info in graph.input
        if info.name not in weights
    }
    outputs = [read_value(path.with_name(f"{path.stem}_output_{i}.pb"), o.type) for i, o in enumerate(graph.output)]
    return Case(path, feeds, outputs)


def bare(case: Case) -> list[Any]:
    """The outputs of ONNX Runtime as it is."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(case.model), settings, providers=["CPUExecutionProvider"])
    return list(session.run(None, case.feeds))


def ours(case: Case) -> list[Any]:
    """The outputs of a session. The files are ONNX's own, so the trial in a child process is left out."""
    weights = [name for name in case.feeds if name in initializers(case.model)]
    with edge_sdk.load(case.model, plan_budget_s=0, trusted=True, initializer_inputs=weights) as session:
        return list(session.run(case.feeds).values())


def initializers(path: Path) -> set[str]:
    """Names that a caller may feed although they have a default."""
    return {tensor.name for tensor in onnx.load(path, load_external_data=False).graph.initializer}


def agree(given: list[Any], expected: list[Any]) -> None:
    """Raises where outputs differ beyond the tolerance of ONNX's runner."""
    assert len(given) == len(expected)
    for one, other in zip(given, expected, strict=True):
        if other is None:
            assert one is None or one.item() is None
        elif isinstance(other, list):
            agree(list(one), other)
        elif np.asarray(other).dtype.kind in "OUS":
            np.testing.assert_array_equal(np.asarray(one).astype(str), np.asarray(other).astype(str))
        else:
            assert np.asarray(one).dtype == np.asarray(other).dtype
            np.testing.assert_allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE)


def passes(run: Callable[[Case], list[Any]], case: Case) -> bool:
    """Whether an engine gives the expected outputs."""
    try:
        agree(run(case), case.expected)
    except Exception:  # noqa: BLE001 - whatever bare ONNX Runtime does not pass is not asked of us
        return False
    return True


def folders() -> list[Path]:
    """All folders of node and simple tests."""
    return sorted([*(DATA / "node").glob("test_*"), *(DATA / "simple").glob("test_*")])


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_session_passes_where_bare_onnxruntime_passes(folder: Path) -> None:
    try:
        cases = list(data_set_cases(folder))
    except (TypeError, ValueError, NotImplementedError) as error:
        pytest.skip(f"onnx cannot read the data: {error}")
    asked = [case for case in cases if passes(bare, case)]
    if not asked:
        pytest.skip("bare onnxruntime does not pass")
    for case in asked:
        agree(ours(case), case.expected)


@pytest.mark.parametrize("path", sorted((DATA / "light").glob("*.onnx")), ids=lambda path: path.stem)
def test_light_models_pass_and_their_initialisers_leave_the_inputs(path: Path) -> None:
    case = light_case(path)
    agree(bare(case), case.expected)
    agree(ours(case), case.expected)
    with edge_sdk.load(path, plan_budget_s=0, trusted=True) as session:
        assert len(session.inputs) == len(case.feeds)
        assert any("taken out" in note for note in session.report().notes)
