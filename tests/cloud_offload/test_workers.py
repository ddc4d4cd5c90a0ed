"""An endpoint of several processes: one to its clients, whatever happens to any of them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cloud_offload.observing import joined_pages
from edge_sdk.cli import main
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.retry import Retry
from tests.cloud_offload.endpoints import ROOT, Endpoint, Start, add_constant, put, slow, start_endpoint

ROW = np.zeros((1, 2), np.float32)
ENOUGH = 24
"""Connections after which either of two workers was met, but for one time in millions."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the shared endpoint."""
    folder = tmp_path_factory.mktemp("repository")
    put(folder, "add", add_constant(1.0))
    put(folder, "slow", slow())
    return folder


@pytest.fixture(scope="module")
def pair(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Two workers, for all tests that leave them as they were; it ends in the last one."""
    endpoint = start_endpoint(repository, tmp_path_factory.mktemp("cache"), "--workers", "2")
    yield endpoint
    end(endpoint)


def end(endpoint: Endpoint) -> None:
    """Kills the parent; its workers end when they see that."""
    endpoint.process.kill()
    endpoint.process.wait()


def worker_pids(endpoint: Endpoint) -> dict[int, int]:
    """The latest process of each worker by its number."""
    return {e["worker"]: e["worker_pid"] for e in endpoint.events if e["event"] == "worker ready"}


def answered_by(endpoint: Endpoint, sample: str = "edge_requests_total") -> dict[str, float]:
    """The sum of a metric for each worker."""
    found = {"1": 0.0, "2": 0.0}
    for line in endpoint.ask("GET", "/metrics").body.decode().splitlines():
        if line.startswith(sample + "{") and (worker := re.search(r'worker="(\d+)"', line)):
            found[worker[1]] += float(line.split()[-1])
    return found


def begun(endpoint: Endpoint, model: str) -> float:
    """Requests to a model that are answered or in progress."""
    lines = endpoint.ask("GET", "/metrics").body.decode().splitlines()
    kinds = (f'edge_inferences_total{{model="{model}"', f'edge_in_progress{{model="{model}"')
    return sum(float(line.split()[-1]) for line in lines if line.startswith(kinds))


def statuses(endpoint: Endpoint, path: str) -> set[int]:
    """What all workers answer: they are asked on many connections."""
    before = answered_by(endpoint)
    found = {endpoint.ask("GET", path).status for _ in range(ENOUGH)}
    while any(count == before[worker] for worker, count in answered_by(endpoint).items()):
        found |= {endpoint.ask("GET", path).status for _ in range(ENOUGH)}
    return found


def values(endpoint: Endpoint, model: str) -> set[float]:
    """What the workers compute from zeros."""
    return {float(endpoint.infer(model, {"x": ROW}).response().outputs["y"][0, 0]) for _ in range(ENOUGH)}


def test_one_line_tells_the_address_when_all_are_ready(pair: Endpoint) -> None:
    events = [event["event"] for event in pair.events]
    assert events.count("listening") == 1
    assert events[: events.index("listening")].count("worker ready") == 2
    assert not pair.url.endswith(":0")


def test_connections_are_shared_between_them(pair: Endpoint) -> None:
    connections = [pair.connect() for _ in range(16)]
    before = answered_by(pair)
    for connection in connections:
        connection.request("GET", "/v2")
        assert connection.getresponse().read()
    after = answered_by(pair)
    assert all(after[worker] - before[worker] >= 2 for worker in ("1", "2"))
    for connection in connections:
        connection.close()


def test_metrics_of_any_are_those_of_all(pair: Endpoint) -> None:
    statuses(pair, "/v2")
    pages = [pair.ask("GET", "/metrics").body.decode() for _ in range(ENOUGH)]
    for page in pages:
        assert {'worker="1"', 'worker="2"'} <= set(re.findall(r'worker="\d+"', page))
        assert page.count("# TYPE edge_requests_total counter") == 1


def test_pages_are_joined_by_family() -> None:
    page = '# HELP a_total What\n# TYPE a_total counter\na_total{{of="x\\"y"}} {}\n# TYPE b gauge\nb {}\n'
    joined = joined_pages({2: page.format(3.0, 4.0), 1: page.format(1.0, 2.0)}).decode()
    assert joined.splitlines() == [
        "# HELP a_total What",
        "# TYPE a_total counter",
        'a_total{of="x\\"y",worker="1"} 1.0',
        'a_total{of="x\\"y",worker="2"} 3.0',
        "# HELP b ",
        "# TYPE b gauge",
        'b{worker="1"} 2.0',
        'b{worker="2"} 4.0',
    ]


def test_what_one_is_asked_to_load_or_unload_all_do(pair: Endpoint, repository: Path) -> None:
    put(repository, "more", add_constant(1.0))
    assert statuses(pair, "/v2/models/more") == {404}
    assert pair.ask("POST", "/v2/repository/models/more/load").status == 200
    assert statuses(pair, "/v2/models/more") == {200}
    put(repository, "more", add_constant(2.0))
    assert pair.ask("POST", "/v2/repository/models/more/load").status == 200
    assert values(pair, "more") == {2.0}
    assert pair.ask("POST", "/v2/repository/models/more/unload").status == 200
    assert statuses(pair, "/v2/models/more") == {404}


def test_what_cannot_be_loaded_or_unloaded_is_told(pair: Endpoint, repository: Path) -> None:
    assert pair.ask("POST", "/v2/repository/models/none/load").status == 404
    assert pair.ask("POST", "/v2/repository/models/none/unload").status == 404
    put(repository, "bad", b"no model")
    answer = pair.ask("POST", "/v2/repository/models/bad/load")
    assert answer.status == 400
    assert "'bad' cannot be loaded" in answer.json()["error"]


def test_a_killed_worker_costs_no_request_and_comes_back(pair: Endpoint, repository: Path) -> None:
    put(repository, "gone", add_constant(1.0))
    assert pair.ask("POST", "/v2/repository/models/gone/load").status == 200
    assert pair.ask("POST", "/v2/repository/models/gone/unload").status == 200
    wrong: list[object] = []
    stop = threading.Event()
    clients = [threading.Thread(target=ask_on, args=(pair.url, stop, wrong)) for _ in range(4)]
    for client in clients:
        client.start()
    pids = worker_pids(pair)
    os.kill(pids[1], signal.SIGKILL)
    ended = pair.wait_for("worker ended", worker=1)
    pair.wait_for("worker ready", 2, worker=1)
    stop.set()
    for client in clients:
        client.join()
    assert ended["code"] == -signal.SIGKILL
    assert wrong == []
    assert worker_pids(pair)[2] == pids[2]
    assert statuses(pair, "/v2/models/gone") == {404}  # also the new one knows that it was unloaded


def ask_on(url: str, stop: threading.Event, wrong: list[object]) -> None:
    """Requests one after the other until `stop`; what is not answered as it should be goes to `wrong`."""
    with closing(HttpEndpoint(url, retry=Retry(attempts=6))) as endpoint:
        while not stop.is_set():
            try:
                answer = endpoint.infer("add", {"x": ROW}).outputs["y"]
            except Exception as error:  # noqa: BLE001 - the test tells it
                wrong.append(error)
                return
            if not np.array_equal(answer, ROW + 1):
                wrong.append(answer)


def test_sigterm_lets_all_finish_what_they_have(pair: Endpoint) -> None:
    """The last test of the shared endpoint."""
    connections = [pair.connect() for _ in range(8)]
    for connection in connections:
        connection.request("GET", "/v2")
        connection.getresponse().read()
    body = json.dumps({"inputs": [{"name": "n", "datatype": "INT64", "shape": [], "data": [100_000]}]})
    for connection in connections:
        connection.request("POST", "/v2/models/slow/infer", body)
    while begun(pair, "slow") < len(connections):
        pass
    pids = worker_pids(pair).values()
    pair.process.send_signal(signal.SIGTERM)
    assert [connection.getresponse().status for connection in connections] == [200] * len(connections)
    assert pair.process.wait(60) == 0
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_processes_that_end_at_once_end_the_endpoint(tmp_path: Path) -> None:
    """Their own reason is told, once, though both have it."""
    told = serve(tmp_path, "--tls-cert", str(tmp_path / "cert.pem"))
    assert told.returncode == 1
    assert len(told.stderr.splitlines()) == 1
    assert "cert.pem" in told.stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
def test_no_worker_outlives_its_parent(tmp_path: Path, start: Start) -> None:
    endpoint = start(tmp_path, "--workers", "2")
    pids = worker_pids(endpoint).values()
    end(endpoint)
    endpoint.wait_for("ended")  # they hold its stderr, which ends with the last of them
    while any(alive(pid) for pid in pids):
        pass


def test_tls_with_several_processes(tmp_path: Path, start: Start) -> None:
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    try:
        subprocess.run(["openssl", *new, *names], cwd=tmp_path, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    (tmp_path / "models").mkdir()
    files = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    endpoint = start(tmp_path / "models", "--workers", "2", *files)
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    assert endpoint.url.startswith("https://")
    with pytest.raises((OSError, http.client.HTTPException)):
        endpoint.ask("GET", "/v2", context=None)
    assert {endpoint.ask("GET", "/v2", context=context).status for _ in range(8)} == {200}
    assert endpoint.terminate() == 0


def serve(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Two workers that are to fail."""
    command = [sys.executable, "-m", "edge_sdk.cli", "serve", str(repository), "--port", "0", "--workers", "2"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environ, timeout=60)


def test_uploads_need_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path), "--port", "0", "--workers", "2", "--upload-mb", "1"]) == 1
    assert "--upload-mb goes with one process" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "none"), "--port", "0", "--workers", "2"]) == 1
    assert "none" in capsys.readouterr().err
