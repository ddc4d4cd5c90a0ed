"""A cascade asks its big model only where the small one is unsure; early exits of a split model do the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from onnx import helper

from edge_sdk.engines.base import LoadOptions, NodePlacement, PlacementReport, Runner, ThreadPlacement
from edge_sdk.engines.registry import engines_for
from edge_sdk.errors import EngineError, InputError, InputValueError, ModelError, SessionClosed
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import cut_at
from edge_sdk.graph.cuts_exits import exit_cut
from edge_sdk.graph.splitting import split_model
from edge_sdk.metrics import Histogram
from edge_sdk.offload import CascadeRunner, EarlyExit, Gate, LocalTail, SplitRunner, SplitSpec
from edge_sdk.tensors import Array, TensorSpec
from edge_sdk.wire.endpoint import Endpoint
from edge_sdk.wire.simulated import SimulatedEndpoint, SimulatedTimeline
from tests.models import constant, onnx_bytes, value

GATE = Gate("margin", 0.5, "y", "probabilities")
SURE, UNSURE = np.array([[0.9, 0.1]], np.float32), np.array([[0.6, 0.4]], np.float32)
BIG = np.array([[0.0, 1.0]], np.float32)


class Answering(Runner):
    """Gives what a function gives."""

    engine = "test"

    def __init__(self, compute: Callable[[Any], Array], name: str = "model", **specs: Any) -> None:
        self.model, self.options, self.queue = name, LoadOptions(), Histogram()
        self.inputs = specs.get("inputs", (TensorSpec("x", "float32", (1, 2)),))
        self.outputs = specs.get("outputs", (TensorSpec("y", "float32", (1, 2)),))
        self._compute, self.calls, self.closed = compute, 0, False

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self.calls += 1
        assert set(feeds) == {spec.name for spec in self.inputs}
        return {"y": np.array(self._compute(feeds["x"]))}

    def placement(self) -> PlacementReport:
        return PlacementReport((ThreadPlacement(1, (0,)),), (NodePlacement("cpu", 3),), verified=True)

    def close(self) -> None:
        self.closed = True


def failing(error: Exception) -> Callable[[Any], Array]:
    def fail(_: Any) -> Array:
        raise error

    return fail


def cascade(big: Callable[[Any], Array] = lambda x: BIG, **options: Any) -> CascadeRunner:
    """A small model that repeats its input, and a big one."""
    return CascadeRunner(Answering(lambda x: x, "small"), Answering(big, "big"), GATE, **options)


class TestWhoAnswers:
    def test_the_small_one_where_it_is_sure_and_the_big_one_otherwise(self) -> None:
        runner = cascade()
        np.testing.assert_array_equal(runner.run({"x": SURE})["y"], SURE)
        np.testing.assert_array_equal(runner.run({"x": UNSURE})["y"], BIG)
        figures = runner.figures()
        assert (figures.requests, figures.small, figures.escalated, figures.stood) == (2, 1, 1, 0)
        assert figures.escalated_share == 0.5
        assert runner.big.calls == 1  # type: ignore[attr-defined]

    @pytest.mark.parametrize(("given", "expected"), [(SURE, SURE), (UNSURE, BIG)])
    def test_out_is_written_into_whoever_answers(self, given: Array, expected: Array) -> None:
        target = np.full((1, 2), 7, np.float32)
        assert cascade().run({"x": given}, out={"y": target})["y"] is target
        np.testing.assert_array_equal(target, expected)

    def test_the_small_one_is_fed_only_what_it_takes(self) -> None:
        two = (TensorSpec("x", "float32", (1, 2)), TensorSpec("mask", "float32", (1, 2)))
        runner = CascadeRunner(Answering(lambda x: x, "small"), Answering(lambda x: BIG, "big", inputs=two), GATE)
        np.testing.assert_array_equal(runner.run({"x": SURE, "mask": SURE})["y"], SURE)

    def test_cascades_stand_on_cascades(self) -> None:
        middle = CascadeRunner(
            Answering(lambda x: np.add(x, (0.1, -0.1)), "middle"), Answering(lambda x: BIG, "big"), GATE
        )
        runner = CascadeRunner(Answering(lambda x: x, "small"), middle, GATE)
        runner.run({"x": np.array([[0.7, 0.3]], np.float32)})
        assert (runner.figures().escalated, middle.figures().small) == (1, 1)

    def test_counts_hold_with_many_threads(self) -> None:
        runner = cascade()
        threads = [
            threading.Thread(target=lambda: [runner.run({"x": x}) for x in (SURE, UNSURE) * 25]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (runner.figures().small, runner.figures().escalated) == (100, 100)


class TestWhenTheBigOneFails:
    def test_the_failure_is_raised_and_counted(self) -> None:
        runner = cascade(failing(EngineError("no memory")))
        with pytest.raises(EngineError, match="no memory"):
            runner.run({"x": UNSURE})
        assert (runner.figures().escalated, runner.figures().failure) == (1, "no memory")
        np.testing.assert_array_equal(runner.run({"x": SURE})["y"], SURE)

    def test_the_unsure_answer_stands_where_that_is_allowed(self) -> None:
        runner = cascade(failing(EngineError("no memory")), allow_unsure=True)
        target = np.zeros((1, 2), np.float32)
        np.testing.assert_array_equal(runner.run({"x": UNSURE}, out={"y": target})["y"], UNSURE)
        np.testing.assert_array_equal(target, UNSURE)
        assert (runner.figures().stood, runner.figures().failure) == (1, "no memory")

    def test_feeds_that_do_not_fit_are_the_callers_mistake_either_way(self) -> None:
        with pytest.raises(InputError, match="bad"):
            cascade(failing(InputError("bad")), allow_unsure=True).run({"x": UNSURE})


class TestThePair:
    @pytest.mark.parametrize(
        ("specs", "said"),
        [
            ({"outputs": (TensorSpec("z", "float32", (1, 2)),)}, "no output 'y' for the gate"),
            ({"outputs": (TensorSpec("y", "uint8", (1, 2)),)}, "gives it as uint8"),
            ({"inputs": (TensorSpec("other", "float32", (1, 2)),)}, "takes input 'other'"),
        ],
        ids=["gate", "dtype", "input"],
    )
    def test_two_that_do_not_answer_to_one_signature_are_refused(self, specs: Any, said: str) -> None:
        with pytest.raises(ModelError, match=said):
            CascadeRunner(Answering(lambda x: x, "small", **specs), Answering(lambda x: x, "big"), GATE)

    def test_both_are_in_the_placement_and_are_closed(self) -> None:
        runner = cascade()
        report = runner.placement()
        assert (len(report.threads), report.nodes, report.verified) == (2, (NodePlacement("cpu", 6),), True)
        runner.close()
        assert runner.small.closed and runner.big.closed  # type: ignore[attr-defined]
        with pytest.raises(SessionClosed):
            runner.run({"x": SURE})


def two_exits() -> bytes:
    """trunk = relu(x); early = trunk @ [[1, -1], [-1, 1]]; final = relu(2 * trunk) @ [[0, 1], [1, 0]]."""
    return onnx_bytes(
        [
            helper.make_node("Relu", ["x"], ["trunk"]),
            helper.make_node("MatMul", ["trunk", "w1"], ["early"]),
            helper.make_node("Mul", ["trunk", "two"], ["more"]),
            helper.make_node("Relu", ["more"], ["last"]),
            helper.make_node("MatMul", ["last", "w2"], ["final"]),
        ],
        [value("x", [1, 2])],
        [value("early", [1, 2]), value("final", [1, 2])],
        [
            constant("w1", [[1, -1], [-1, 1]]),
            constant("two", [2.0]),
            constant("w2", [[0, 1], [1, 0]]),
        ],
    )


EXIT = EarlyExit(Gate("margin", 0.9, "early"), {"final": "early"})


def split_with_exit(timeline: SimulatedTimeline) -> tuple[SplitRunner, SimulatedEndpoint]:
    """The model of two exits, its head here and its tail at a simulated endpoint."""
    model = open_model(two_exits(), name="exits")
    graph = open_graph(model)
    split = split_model(model, exit_cut(graph, "early"), graph=graph)
    engine = engines_for("onnx")[0]
    tail = engine.load(open_model(split.tail, name="tail"), LoadOptions())
    info = model.describe()
    endpoint = SimulatedEndpoint({"tail": tail.run}, timeline=timeline)
    spec = SplitSpec(
        name="exits", inputs=info.inputs, outputs=info.outputs, tail="tail", travels=split.sent, gives=tail.outputs
    )
    head = engine.load(open_model(split.head, name="head"), LoadOptions())
    endpoints: list[Endpoint] = [endpoint]
    return SplitRunner(spec, head, LocalTail(lambda: tail), endpoints, early=EXIT, timeline=timeline), endpoint


@pytest.mark.usefixtures("untried")
class TestEarlyExits:
    def test_the_cut_leaves_the_exit_to_the_head_and_is_found_again_by_its_tensors(self) -> None:
        graph = open_graph(two_exits())
        cut = exit_cut(graph, "early")
        assert (cut.head_outputs, cut.tail_outputs) == (("early",), ("final",))
        assert cut_at(graph, cut.tensors) == cut
        with pytest.raises(ModelError, match="'nowhere' is no output of the model; it gives 'early', 'final'"):
            exit_cut(graph, "nowhere")
        with pytest.raises(ModelError, match="it is no early exit"):
            exit_cut(
                open_graph(onnx_bytes([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])),
                "y",
            )

    def test_the_tail_is_asked_only_if_the_exit_is_unsure(self) -> None:
        runner, endpoint = split_with_exit(SimulatedTimeline())
        with closing(runner):
            sure = runner.run({"x": np.array([[3, 0]], np.float32)})
            np.testing.assert_array_equal(sure["final"], [[3, -3]])
            np.testing.assert_array_equal(sure["early"], [[3, -3]])
            assert endpoint.requests == 0
            unsure = runner.run({"x": np.array([[1, 1]], np.float32)})
            np.testing.assert_array_equal(unsure["final"], [[2, 2]])
            np.testing.assert_array_equal(unsure["early"], [[0, 0]])
            figures = runner.figures()
            assert (endpoint.requests, figures.early, figures.remote, figures.requests) == (1, 1, 1, 2)

    def test_what_stands_for_another_output_is_an_array_of_its_own(self) -> None:
        runner, _ = split_with_exit(SimulatedTimeline())
        with closing(runner):
            outputs = runner.run({"x": np.array([[3, 0]], np.float32)})
            outputs["final"] += 1
            np.testing.assert_array_equal(outputs["early"], [[3, -3]])

    def test_streams_keep_their_order(self) -> None:
        runner, _ = split_with_exit(SimulatedTimeline())
        frames = [np.array([[3 * (n % 2), 0.1]], np.float32) for n in range(6)]
        with closing(runner):
            answers = [outputs["final"] for outputs in runner.run_stream({"x": frame} for frame in frames)]
            for frame, answer in zip(frames, answers, strict=True):
                np.testing.assert_array_equal(answer, runner.run({"x": frame})["final"])
            assert runner.figures().early == 6

    @pytest.mark.parametrize(
        ("early", "said"),
        [
            (EarlyExit(EXIT.gate, {}), "no exit stands for output 'final'"),
            (EarlyExit(EXIT.gate, {"final": "final"}), "'final' is no output of the head; it gives 'early'"),
            (EarlyExit(Gate("margin", 0.5, "other"), {"final": "early"}), "'other' is no output of the head"),
        ],
    )
    def test_an_exit_that_does_not_fit_is_refused(self, early: EarlyExit, said: str) -> None:
        specs = (TensorSpec("early", "float32", (1, 2)), TensorSpec("final", "float32", (1, 2)))
        with pytest.raises(InputValueError, match=said):
            early.check(specs, specs[1:])
        with pytest.raises(InputValueError, match="cannot stand for 'final'"):
            EXIT.check((specs[0], TensorSpec("final", "float32", (1, 3))), (TensorSpec("final", "float32", (1, 3)),))
