"""`edge_sdk.load(..., endpoints=…)` with nothing pinned: the planner chooses where the model runs, and says why."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import edge_sdk
from edge_sdk.errors import InputError
from edge_sdk.offloading.guide import LinkGuide
from edge_sdk.tensors import Array
from tests import models
from tests.cloud_offload.endpoints import Endpoint, put, running

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("endpoint")
    put(folder / "repository", "mlp", models.onnx_mlp())
    with running(folder / "repository", folder / "endpoint-cache") as endpoint:
        yield endpoint


X = np.random.default_rng(0).standard_normal((1, 8), np.float32)


def answer(session: edge_sdk.Session) -> Array:
    return next(iter(session.run(X).values()))


def test_a_model_that_takes_less_here_than_the_way_there_stays(server: Endpoint, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[server.url]) as session:
        plan = session.plan
        answer(session)
        figures = session.split_figures()
    assert plan.kind == "local"
    assert "a split does not pay" in plan.reason
    assert figures is not None and (figures.requests, figures.local) == (1, 1)


def test_what_stays_here_is_timed_before_and_after_the_ways_over_the_link(
    server: Endpoint, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    took_ms = iter([0.1, 0.3])
    monkeypatch.setattr("edge_sdk.offloading.automatic.timed_ms", lambda *_: next(took_ms))
    with edge_sdk.load(model, endpoints=[server.url]) as session:
        plan = session.plan
    assert plan.kind == "local" and plan.measured is not None
    assert plan.measured.latency_ms == pytest.approx(0.2)
    assert next(took_ms, None) is None


def test_a_way_that_was_prepared_later_is_in_the_plan_as_it_was_measured(
    server: Endpoint, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with edge_sdk.load(model, endpoints=[server.url]) as session:
        assert session.plan.kind == "local"
        monkeypatch.setattr(LinkGuide, "next_way", lambda guide, able: next(iter(guide._ways())))
        until_s = time.monotonic() + 30
        while session.plan.kind == "local" and time.monotonic() < until_s:
            answer(session)
        remote = session.plan.remote
    assert remote is not None and remote.measured


def test_the_table_holds_every_way_with_its_parts(server: Endpoint, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[server.url]) as session:
        plan = session.plan
    rows = [row for row in plan.candidates if row.remote is not None]
    assert {"split", "offload"} == {row.kind for row in rows}
    for row in rows:
        remote, figures = row.remote, row.predicted
        assert remote is not None and figures is not None
        assert remote.endpoint == server.url
        assert remote.up_bytes > 0
        assert figures.latency_ms == pytest.approx(remote.head_ms + remote.link_ms + remote.endpoint_ms, abs=1e-3)
    assert plan.links[0].endpoint == server.url
    assert not plan.links[0].stated


def test_asking_takes_time_on_the_device_also_where_nothing_was_asked_yet(server: Endpoint, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[server.url]) as session:
        plan = session.plan
    whole_there = [row.remote for row in plan.candidates if row.kind == "offload" and row.remote is not None]
    assert plan.kind == "local" and whole_there
    for remote in whole_there:
        assert not remote.measured
        assert remote.head_ms > 0, "no op runs here, but a thread wakes and the protocol is written"


@pytest.mark.parametrize("kind", ["split", "offload"])
def test_whichever_kind_is_asked_for_answers_as_the_whole_does(server: Endpoint, model: Path, kind: str) -> None:
    with edge_sdk.load(model) as session:
        expected = answer(session)
    with edge_sdk.load(model, endpoints=[server.url], ways=[kind]) as session:
        plan = session.plan
        found = [answer(session) for _ in range(5)]
        figures = session.split_figures()
    assert plan.kind == kind
    assert plan.remote is not None and plan.remote.measured
    assert plan.chosen in plan.candidates and plan.chosen.remote == plan.remote
    assert "predicted" in plan.reason and "on the link" in plan.reason
    assert figures is not None and figures.remote > 0
    assert figures.requests == 5, "those that tried it out are not the session's"
    for one in found:
        np.testing.assert_allclose(one, expected, rtol=1e-5)


def test_staying_is_told_as_it_was_timed_though_another_way_was_chosen(server: Endpoint, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[server.url], ways=["split"]) as session:
        plan = session.plan
    assert plan.kind == "split"
    told = re.search(r"against (\S+) ms here", plan.reason)
    here = [row.measured for row in plan.candidates if row.kind == "local" and row.measured is not None]
    assert told is not None and told[1] in [f"{figures.latency_ms:.3g}" for figures in here]


def test_an_input_that_must_stay_is_never_sent(server: Endpoint, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[server.url], ways=["split", "offload"], keep_input_local=True) as session:
        plan = session.plan
    assert plan.kind == "split"
    assert plan.holds["keep_input_local"] == 1.0
    sends = [row for row in plan.candidates if row.kind == "offload"]
    assert sends and not any(row.feasible for row in sends)
    assert "must stay on the device" in sends[0].reason


def test_nothing_is_sent_that_is_larger_than_allowed(server: Endpoint, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[server.url], ways=["split", "offload"], max_bytes=0) as session:
        plan = session.plan
        answer(session)
    assert plan.kind == "local"
    assert all("more than max_bytes=0" in row.reason for row in plan.candidates if row.remote is not None)


def test_without_an_endpoint_that_answers_all_of_it_runs_here(model: Path) -> None:
    with edge_sdk.load(model, endpoints=[NOBODY], ways=["split"]) as session:
        assert session.plan.kind == "local"
        assert "Connection refused" in session.plan.reason
        assert answer(session).shape


def test_the_second_load_makes_nothing_anew(server: Endpoint, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[server.url], ways=["split"]) as session:
        first = session.plan
    with edge_sdk.load(model, endpoints=[server.url], ways=["split"]) as session:
        second = session.plan
    assert second.planning_ms < first.planning_ms
    assert second.kind == "split"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"ways": ["cloud"]}, "expected some of local, split, offload, cascade"),
        ({"ways": "split"}, "as a list"),
        ({"ways": []}, "expected some of"),
        ({"max_bytes": -1}, "max_bytes is -1"),
        ({"max_leakage": 2.0}, "expected a share from 0 to 1"),
        ({"radio": "5g"}, "expected one of wifi, lte, 3g, wired"),
        ({"coding": "zstd"}, "without a cut or codec"),
        ({"coding": "gif@3", "cut": "h2"}, "input coding 'gif@3' is not known"),
    ],
)
def test_what_does_not_fit_is_told(model: Path, asked: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told.replace("(", r"\(")):
        edge_sdk.load(model, endpoints=[NOBODY], **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [{"ways": ["split"]}, {"keep_input_local": True}, {"max_bytes": 9}, {"radio": "lte"}])
def test_what_says_nothing_without_endpoints_is_told(model: Path, asked: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(asked))} is given without endpoints"):
        edge_sdk.load(model, **asked)  # type: ignore[arg-type]


def test_the_plan_is_another_after_the_endpoint_is_gone(model: Path, tmp_path: Path) -> None:
    put(tmp_path / "repository", "mlp", models.onnx_mlp())
    with (
        running(tmp_path / "repository", tmp_path / "endpoint-cache") as endpoint,
        edge_sdk.load(model, endpoints=[endpoint.url], ways=["split"]) as session,
    ):
        expected = answer(session)
        assert session.plan.kind == "split"
        endpoint.process.kill()
        endpoint.process.wait()
        for _ in range(2000):  # each of them answered
            np.testing.assert_allclose(answer(session), expected, rtol=1e-5)
            if session.plan.kind == "local":
                break
        assert session.plan.kind == "local"
        assert session.plan.remote is None
        assert any("goes local" in event for event in session.report().events)


def test_a_model_that_carries_state_keeps_to_one_way(tmp_path: Path) -> None:
    """Another way would begin with zeros where the one before left off."""
    put(tmp_path / "repository", "counter", models.onnx_state())
    path = tmp_path / "counter.onnx"
    path.write_bytes(models.onnx_state())
    with (
        running(tmp_path / "repository", tmp_path / "endpoint-cache") as endpoint,
        edge_sdk.load(path, endpoints=[endpoint.url], ways=["offload"], state={"state": "next_state"}) as session,
    ):
        one = np.ones((1, 2), np.float32)
        found = [float(session.run({"x": one})["y"][0, 0]) for _ in range(3)]
        assert session.plan.kind == "offload"
        endpoint.process.kill()
        endpoint.process.wait()
        found += [float(session.run({"x": one})["y"][0, 0]) for _ in range(2000)]
    assert found == [float(number) for number in range(1, 2004)]
