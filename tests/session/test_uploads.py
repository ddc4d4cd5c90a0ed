"""`edge_sdk.load(bundle, endpoints=…, upload=True)`: the bundle travels beside the session, and its tails run there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import edge_sdk
from edge_sdk.cli import main
from edge_sdk.errors import InputError
from edge_sdk.offload.uploading_behind import UploadsBehind
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.retry import Retry
from tests import models
from tests.cloud_offload.endpoints import Endpoint, start_endpoint
from tests.cloud_offload.uploading import small_bundle

X = np.random.default_rng(0).standard_normal((1, 8), np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("repository")
    endpoint = start_endpoint(folder, tmp_path_factory.mktemp("cache"), "--upload-mb", "4")
    yield endpoint
    endpoint.process.kill()
    endpoint.process.wait()


def answer(session: edge_sdk.Session) -> np.ndarray:
    return next(iter(session.run(X).values()))


@pytest.mark.parametrize("as_zip", [True, False])
def test_requests_run_here_until_the_bundle_is_there_and_then_their_tails_there(
    tmp_path: Path, server: Endpoint, as_zip: bool
) -> None:
    name = "zipped" if as_zip else "folder"
    path = tmp_path / f"{name}.edge"
    small_bundle(path, as_zip=as_zip).close()
    with edge_sdk.load(path, plan_budget_s=0) as session:
        expected = answer(session)
    with edge_sdk.load(path, plan_budget_s=0, endpoints=[server.url], codec="none", upload=True) as session:
        while not any(e["event"] == "tail made" and e["model"].startswith(name) for e in server.events):
            np.testing.assert_allclose(answer(session), expected, rtol=1e-5)
        assert any(f"uploaded: {name!r}" in event for event in session.report().events)
    assert server.ask("GET", f"/v2/models/{name}").status == 200


def test_where_it_is_refused_everything_runs_here(tmp_path: Path, server: Endpoint) -> None:
    small_bundle(tmp_path / "first" / "taken.edge", hidden=5).close()
    small_bundle(tmp_path / "taken.edge").close()
    assert main(["upload", str(tmp_path / "first" / "taken.edge"), "--endpoint", server.url]) == 0
    with edge_sdk.load(tmp_path / "taken.edge", plan_budget_s=0) as session:
        expected = answer(session)
    with edge_sdk.load(
        tmp_path / "taken.edge", plan_budget_s=0, endpoints=[server.url], codec="none", upload=True
    ) as session:
        while not session.report().events:
            np.testing.assert_allclose(answer(session), expected, rtol=1e-5)
        assert "other content" in session.report().events[0]
        figures = session.split_figures()
    assert figures is not None and figures.remote == 0


def test_the_command_tells_what_came_of_it(
    tmp_path: Path, server: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    small_bundle(tmp_path / "told.edge").close()
    np.save(tmp_path / "x.npy", X)
    command = ["run", str(tmp_path / "told.edge"), "--input", str(tmp_path / "x.npy"), "--plan-budget", "0"]
    told = ""
    while "there already: 'told'" not in told:
        assert main([*command, "--endpoint", server.url, "--upload"]) == 0
        told = capsys.readouterr().out
        assert "told" in told or "still on its way" in told


def test_an_endpoint_that_is_away_is_tried_again(tmp_path: Path, server: Endpoint) -> None:
    small_bundle(tmp_path / "later.edge").close()
    told: list[str] = []
    away, here = HttpEndpoint("http://127.0.0.1:9"), HttpEndpoint(server.url)
    pauses = Retry(first_pause_s=0.001, longest_pause_s=0.001)
    uploads = UploadsBehind(tmp_path / "later.edge", [away, here], None, told.append, pauses, patience_s=0.0)
    uploads.start()
    while not told:
        pass
    assert told == [f"uploaded: 'later' at {server.url}"]
    assert not uploads.wait(0.0), "the other endpoint is tried again"
    uploads.stop()
    assert uploads.wait()


@pytest.mark.parametrize(
    ("given", "told"), [({}, "upload is given without endpoints"), ({"endpoints": ["http://127.0.0.1:9"]}, "bundles")]
)
def test_only_a_bundle_is_sent_and_only_to_an_endpoint(tmp_path: Path, given: dict[str, object], told: str) -> None:
    (tmp_path / "mlp.onnx").write_bytes(models.onnx_mlp())
    with pytest.raises(InputError, match=told):
        edge_sdk.load(tmp_path / "mlp.onnx", plan_budget_s=0, upload=True, **given)  # type: ignore[arg-type]
