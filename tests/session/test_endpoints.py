"""`edge_sdk.load(..., endpoints=…)`: head here, tail at an endpoint in a process of its own, and the way back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import edge_sdk
from edge_sdk.cli import main
from edge_sdk.engines import LoadOptions, Runner
from edge_sdk.engines.registry import find_engine
from edge_sdk.errors import EndpointUnreachable, InputError, ModelError
from edge_sdk.formats import ModelFile
from edge_sdk.wire.endpoint import Answer
from edge_sdk.wire.simulated import SimulatedEndpoint
from tests import models
from tests.cloud_offload.endpoints import Endpoint, put, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Endpoint]:
    put(tmp_path / "repository", "mlp", models.onnx_mlp())
    with running(tmp_path / "repository", tmp_path / "endpoint-cache") as endpoint:
        yield endpoint


X = np.random.default_rng(0).standard_normal((1, 8), np.float32)


def whole(model: Path) -> np.ndarray:
    with edge_sdk.load(model, plan_budget_s=0) as session:
        return next(iter(session.run(X).values()))


def test_the_tail_runs_there_and_here_once_the_endpoint_is_killed(server: Endpoint, model: Path) -> None:
    expected = whole(model)

    with edge_sdk.load(model, plan_budget_s=0, endpoints=[server.url], codec="none") as session:
        there = []
        while (answered := session.split_figures()) is None or not answered.remote:  # until the tail is made
            there.append(next(iter(session.run(X).values())))
        server.process.kill()
        server.process.wait()
        here = [next(iter(session.run(X).values())) for _ in range(20)]
        figures = session.split_figures()

    assert figures is not None
    assert figures.requests == len(there) + 20 and figures.remote + figures.local == figures.requests
    assert figures.local == answered.local + 20
    for found in there + here:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_endpoint_makes_the_tail_before_the_first_request(server: Endpoint, model: Path) -> None:
    with edge_sdk.load(model, plan_budget_s=0, endpoints=[server.url], codec="none") as session:
        assert server.wait_for("tail made")
        figures = session.split_figures()
    assert figures is not None and figures.requests == 0


def test_the_plan_says_where_it_is_cut_and_what_travels(server: Endpoint, model: Path) -> None:
    with edge_sdk.load(model, plan_budget_s=0, endpoints=[server.url], codec="none") as session:
        assert session.plan.kind == "split"
        assert server.url in session.plan.reason
        assert "bytes travel" in session.plan.reason
        assert [spec.name for spec in session.inputs] == ["x"]


def test_an_endpoint_that_is_not_there_costs_no_request(model: Path) -> None:
    with edge_sdk.load(model, plan_budget_s=0, endpoints=["http://127.0.0.1:9"], codec="none") as session:
        found = next(iter(session.run(X).values()))

    np.testing.assert_allclose(found, whole(model), rtol=1e-5)


def test_head_and_local_tail_run_on_the_engine_that_was_asked_for(model: Path) -> None:
    real = find_engine("onnxruntime")
    loaded: list[str] = []

    class Watched(type(real)):  # type: ignore[misc]
        def load(self, model: ModelFile, options: LoadOptions) -> Runner:
            loaded.append(model.name)
            return super().load(model, options)

    with edge_sdk.load(
        model, engine=Watched(), plan_budget_s=0, endpoints=["http://127.0.0.1:9"], codec="none"
    ) as session:
        session.run(X)

    assert {"mlp.onnx (head)", "mlp.onnx (tail)"} <= set(loaded)


def test_frames_of_a_stream_keep_their_order(server: Endpoint, model: Path) -> None:
    frames = [X * scale for scale in range(1, 9)]

    with edge_sdk.load(model, plan_budget_s=0) as session:
        expected = [next(iter(session.run(frame).values())) for frame in frames]
    with edge_sdk.load(model, plan_budget_s=0, endpoints=[server.url], codec="none") as session:
        found = [next(iter(answer.values())) for answer in session.stream(frames, ahead=3)]

    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_on_a_stream_the_head_of_the_next_frame_runs_while_one_is_away(model: Path) -> None:
    real = find_engine("onnxruntime")
    second_head, overlapped = threading.Event(), threading.Event()
    heads: list[None] = []

    class Watched(type(real)):  # type: ignore[misc]
        def load(self, model: ModelFile, options: LoadOptions) -> Runner:
            runner = super().load(model, options)
            if model.name == "mlp.onnx (head)":
                run = runner.run

                def counted(feeds: Any, out: Any = None) -> Any:
                    heads.append(None)
                    if len(heads) == 2:
                        second_head.set()
                    return run(feeds, out)

                runner.run = counted
            return runner

    class Waiting(SimulatedEndpoint):
        def infer(self, *arguments: Any, **options: Any) -> Answer:
            if second_head.wait(60):  # as long as this one is away
                overlapped.set()
            raise EndpointUnreachable("gone")

    frames = [X * scale for scale in range(1, 6)]
    with edge_sdk.load(model, plan_budget_s=0) as session:
        expected = [session.run(frame)["y"] for frame in frames]
    with edge_sdk.load(model, engine=Watched(), plan_budget_s=0, endpoints=[Waiting({})], codec="none") as session:
        found = [answer["y"] for answer in session.stream(frames)]
        assert overlapped.is_set()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"cut": "t"}, "cut is given without endpoints"),
        ({"deadline_ms": 5.0}, "deadline_ms is given without endpoints"),
        ({"endpoints": "http://here"}, r"expected a list of addresses"),
        ({"endpoints": ["http://127.0.0.1:9"], "deadline_ms": 0.0}, "expected milliseconds"),
        ({"endpoints": ["gopher://here"]}, "gopher"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(model: Path, given: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        edge_sdk.load(model, plan_budget_s=0, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("cut", ["no such tensor", "0123456789ab", ["x", "h2"]])
def test_what_is_no_cut_is_refused_by_name(model: Path, cut: str | list[str]) -> None:
    with pytest.raises(ModelError):
        edge_sdk.load(model, plan_budget_s=0, endpoints=["http://127.0.0.1:9"], cut=cut)


def test_the_command_tells_who_answered(
    server: Endpoint, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", X)

    assert (
        main(["run", str(model), "--input", str(tmp_path / "x.npy"), "--endpoint", server.url, "--codec", "none"]) == 0
    )

    told = capsys.readouterr().out
    assert "answered by an endpoint" in told
    assert "cut at" in told
