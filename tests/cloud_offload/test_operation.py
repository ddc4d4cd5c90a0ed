"""An endpoint at work: crowds, deadlines, reloads under load, who may ask, and how it ends."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from edge_sdk.wire.body import Body, decode_response, encode_request
from edge_sdk.wire.exchange import HEADER_LENGTH
from tests.awaiting import until
from tests.cloud_offload.endpoints import Endpoint, Start, add_constant, put, slow

ROW = np.zeros((1, 2), np.float32)
FOREVER, A_WHILE = np.array(2**40), np.array(1_000_000)


def in_progress(endpoint: Endpoint) -> int:
    lines = endpoint.ask("GET", "/metrics").body.decode().splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("edge_in_progress{")))


@contextmanager
def busy_with(endpoint: Endpoint, count: int) -> Iterator[None]:
    """While `count` requests that never end are in progress; each on a connection of its own."""
    threads = [
        threading.Thread(target=lost, args=(endpoint, "slow", {"n": FOREVER}), daemon=True) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    until(lambda: in_progress(endpoint) >= count)
    yield


def length_of(body: Body) -> dict[str, str]:
    return {"Inference-Header-Content-Length": str(body.header_length)}


def lost(endpoint: Endpoint, model: str, inputs: dict[str, Any]) -> None:
    """Asks, whatever comes of it: the test kills the endpoint meanwhile."""
    try:
        endpoint.infer(model, inputs)
    except (OSError, http.client.HTTPException):
        pass


# --- crowds and deadlines ---


def test_a_full_queue_answers_503_with_retry_after_and_other_models_go_on(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "slow", slow())
    put(tmp_path, "add", add_constant(1.0))
    endpoint = start(tmp_path, "--queue", "1")
    with busy_with(endpoint, 1):
        answer = endpoint.infer("slow", {"n": A_WHILE})
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert endpoint.infer("add", {"x": ROW}).status == 200


def test_a_client_with_too_many_requests_is_answered_429(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "slow", slow())
    endpoint = start(tmp_path, "--per-client", "1")
    with busy_with(endpoint, 1):
        answer = endpoint.infer("slow", {"n": A_WHILE})
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert endpoint.ask("GET", "/v2/health/live").status == 200


def test_a_client_cannot_pass_for_others(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "slow", slow())
    endpoint = start(tmp_path, "--per-client", "1")
    with busy_with(endpoint, 1):
        answer = endpoint.infer("slow", {"n": A_WHILE}, {"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"})
        assert answer.status == 429
    assert all(event.get("client", "127.0.0.1") == "127.0.0.1" for event in endpoint.events)


@pytest.mark.parametrize("how", [{"headers": {"deadline-ms": "50"}}, {"parameters": {"timeout": 50_000}}])
def test_a_deadline_that_passes_is_answered_504_while_it_is_still_computed(
    tmp_path: Path, start: Start, how: dict[str, Any]
) -> None:
    put(tmp_path, "slow", slow())
    endpoint = start(tmp_path)
    answer = endpoint.infer("slow", {"n": FOREVER}, **how)
    assert answer.status == 504
    assert "deadline" in answer.json()["error"]


def test_a_deadline_that_has_passed_is_not_computed_at_all(shared: Endpoint) -> None:
    assert shared.infer("add", {"x": np.zeros((2, 3), np.float32)}, {"deadline-ms": "0"}).status == 504


def test_a_request_waiting_behind_others_is_told_when_its_deadline_passes(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "slow", slow())
    endpoint = start(tmp_path, "--threads", "1")
    with busy_with(endpoint, 1):
        assert endpoint.infer("slow", {"n": np.array(1)}, {"deadline-ms": "50"}).status == 504


def test_requests_of_several_clients_are_computed_together(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "add", add_constant(1.0))
    endpoint = start(tmp_path, "--threads", "1", "--batch-delay-ms", "100")
    assert endpoint.wait_for("loaded")["batches"] is True
    rows = [np.full((1 + i % 3, 2), i, np.float32) for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda x: endpoint.infer("add", {"x": x}), rows))
    for x, answer in zip(rows, answers, strict=True):
        assert np.array_equal(answer.response().outputs["y"], x + 1)
    page = endpoint.ask("GET", "/metrics").body.decode()
    computations = next(line for line in page.splitlines() if line.startswith("edge_batch_requests_count"))
    assert float(computations.split()[-1]) < 12


# --- reload, load, unload ---


def test_a_reload_under_load_loses_no_request_and_gives_no_wrong_answer(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "add", add_constant(1.0))
    endpoint = start(tmp_path)
    done = threading.Event()
    values: list[set[float]] = []

    def ask() -> None:
        seen: set[float] = set()
        while not done.is_set():
            answer = endpoint.infer("add", {"x": ROW})
            assert answer.status == 200, answer.body
            seen.add(float(answer.response().outputs["y"][0, 0]))
        values.append(seen)

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            for value in (2.0, 3.0, 4.0):
                put(tmp_path, "add", add_constant(value))
                assert endpoint.ask("POST", "/v2/repository/models/add/load").status == 200
                assert endpoint.infer("add", {"x": ROW}).response().outputs["y"][0, 0] == value
        finally:
            done.set()
        for future in asking:
            future.result()
    assert set().union(*values) <= {1.0, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_reload_while_batches_are_computed_loses_none_and_mixes_none(
    tmp_path: Path, start: Start, count: int
) -> None:
    put(tmp_path, "add", add_constant(1.0))
    endpoint = start(tmp_path, "--batch-delay-ms", "2")
    numbers = iter(range(count))
    turn = threading.Lock()
    reloads = 0

    def ask() -> list[float]:
        seen = []
        connection = endpoint.connect()
        while True:
            with turn:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return seen
            x = np.full((1 + number % 3, 2), number, np.float32)
            body = encode_request({"x": x})
            connection.request("POST", "/v2/models/add/infer", body.joined(), {HEADER_LENGTH: str(body.header_length)})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, content
            outputs = decode_response(memoryview(content), int(answer.headers[HEADER_LENGTH])).outputs
            added = set((outputs["y"] - x).ravel().tolist())
            assert len(added) == 1, "rows of one request were computed by two models, or are another's"
            seen += added

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        while not all(future.done() for future in asking):
            reloads += 1
            put(tmp_path, "add", add_constant(float(1 + reloads % 4)))
            assert endpoint.ask("POST", "/v2/repository/models/add/load").status == 200
        seen = [value for future in asking for value in future.result()]
    assert len(seen) == count and set(seen) <= {1.0, 2.0, 3.0, 4.0}
    assert reloads >= 1
    page = endpoint.ask("GET", "/metrics").body.decode()
    line = next(line for line in page.splitlines() if line.startswith("edge_batch_requests_count"))
    assert float(line.split()[-1]) < count, "requests were computed together"


def test_a_request_in_progress_finishes_on_the_model_it_began_with(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "slow", slow())
    endpoint = start(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(endpoint.infer, "slow", {"n": A_WHILE})
        until(lambda: running.done() or in_progress(endpoint) == 1)
        assert endpoint.ask("POST", "/v2/repository/models/slow/unload").status == 200
        assert endpoint.ask("GET", "/v2/models/slow/ready").status == 404
        assert running.result().response().outputs["turns"] == A_WHILE


def test_a_version_that_cannot_be_loaded_leaves_the_one_before(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "add", add_constant(1.0))
    endpoint = start(tmp_path)
    put(tmp_path, "add", b"broken", version=2)
    assert endpoint.ask("POST", "/v2/repository/models/add/load").status == 400
    assert endpoint.infer("add", {"x": ROW}).response().model_version == "1"
    put(tmp_path, "add", add_constant(2.0), version=2)
    assert endpoint.ask("POST", "/v2/repository/models/add/load").status == 200
    assert endpoint.infer("add", {"x": ROW}).response().model_version == "2"
    assert endpoint.infer("add/versions/1", {"x": ROW}).status == 404


def test_unloaded_models_come_back_when_loaded_again(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "add", add_constant(1.0))
    endpoint = start(tmp_path, "--watch", "0.05")
    assert endpoint.ask("POST", "/v2/repository/models/add/unload").status == 200
    put(tmp_path, "other", add_constant(2.0))
    endpoint.wait_for("loaded", model="other")  # so the folder was looked at since
    assert endpoint.infer("add", {"x": ROW}).status == 404
    assert endpoint.ask("POST", "/v2/repository/models/add/load").status == 200
    assert endpoint.infer("add", {"x": ROW}).status == 200


def test_with_watch_changes_of_the_folder_are_taken_up(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "add", add_constant(1.0))
    endpoint = start(tmp_path, "--watch", "0.05")
    put(tmp_path, "add", add_constant(5.0))
    endpoint.wait_for("loaded", count=2)
    assert endpoint.infer("add", {"x": ROW}).response().outputs["y"][0, 0] == 5


# --- who may ask ---


def test_with_a_token_file_only_known_tokens_are_answered(tmp_path: Path, start: Start) -> None:
    put(tmp_path / "models", "add", add_constant(1.0))
    (tmp_path / "tokens").write_text("# of the gate camera\nfirst\nsecond\n")
    endpoint = start(tmp_path / "models", "--token-file", str(tmp_path / "tokens"))
    for header in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic first"}):
        for path in ("/v2", "/metrics", "/v2/models/add"):
            refused = endpoint.ask("GET", path, None, header)
            assert refused.status == 401
            assert refused.headers["www-authenticate"] == "Bearer"
    for token in ("first", "second"):
        assert endpoint.infer("add", {"x": ROW}, {"Authorization": f"Bearer {token}"}).status == 200
    assert endpoint.ask("GET", "/v2/health/ready").status == 200
    assert not any("first" in str(event) for event in endpoint.events)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and server and client certificates with their keys."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        try:
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("openssl is not installed")

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl("req", "-x509", *new, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        extension = "subjectAltName=IP:127.0.0.1"
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", extension, "-addext", "basicConstraints=CA:FALSE"]
        openssl("req", "-x509", *new, *signed, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    return folder


def test_with_a_client_ca_only_clients_with_its_certificate_are_answered(
    tmp_path: Path, start: Start, authority: Path
) -> None:
    put(tmp_path, "add", add_constant(1.0))
    server = ["--tls-cert", str(authority / "server.pem"), "--tls-key", str(authority / "server.key")]
    endpoint = start(tmp_path, *server, "--client-ca", str(authority / "ca.pem"))
    assert endpoint.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(authority / "ca.pem"))
    with pytest.raises(OSError):
        endpoint.ask("GET", "/v2", context=context)
    context.load_cert_chain(authority / "client.pem", authority / "client.key")
    assert endpoint.ask("GET", "/v2", context=context).status == 200


def test_it_listens_on_this_machine_alone_unless_told(shared: Endpoint) -> None:
    assert shared.url.startswith("http://127.0.0.1:")


def test_each_token_has_a_limit_of_its_own(tmp_path: Path, start: Start) -> None:
    put(tmp_path / "models", "slow", slow())
    (tmp_path / "tokens").write_text("first\nsecond\n")
    endpoint = start(tmp_path / "models", "--per-client", "1", "--token-file", str(tmp_path / "tokens"))
    first, second = ({"Authorization": f"Bearer {token}"} for token in ("first", "second"))
    asking = endpoint.connect()
    body = encode_request({"n": FOREVER})
    asking.request("POST", "/v2/models/slow/infer", body.joined(), {**first, **length_of(body)})
    until(lambda: endpoint.ask("GET", "/v2/models/slow", None, first).status == 429)
    assert endpoint.infer("slow", {"n": A_WHILE}, second).status == 200
    asking.close()


# --- what it tells of itself ---


def test_a_client_cannot_write_lines_of_the_log(shared: Endpoint) -> None:
    fake = '{"event": "listening", "time": "now", "url": "http://evil"}'
    for text in (
        f"\n{fake}\n",
        f"\r{fake}\r",
        f'"}}\n{fake}',
        "\u2028" + fake,
        "\x1b[2J" + fake,
        "\x00",
        "\x85" + fake,
    ):
        shared.ask("GET", f"/v2/models/{quote(text, safe='')}/ready")
        shared.ask("POST", f"/v2/models/marked/infer?{quote(text)}", text.encode(), {"X-Forwarded-For": "evil"})
        shared.infer("add", {text: ROW}, request_id=text)
    shared.ask("GET", "/v2/models/the-last-one/ready")
    shared.wait_for("request", path="/v2/models/the-last-one/ready")
    assert all("time" in event for event in shared.events), "a line is no JSON"
    assert not [event for event in shared.events if event.get("url") == "http://evil" or event.get("client") == "evil"]


def test_names_that_a_client_makes_up_are_no_labels_of_metrics(shared: Endpoint) -> None:
    def labels() -> set[str]:
        lines = shared.ask("GET", "/metrics").body.decode().splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    for _ in range(2):  # the statuses themselves, and the latencies' first samples, are new once
        before = labels()
        for number in range(30):
            name = f"made-up-{number}"
            shared.infer(name, {"x": ROW})
            shared.infer(f"add/versions/{number + 50}", {"x": ROW})
            shared.infer(f"mlp@{name}", {"x": ROW})
            shared.ask(f"M{number}", f"/{name}")
            shared.ask("POST", f"/v2/repository/models/{name}/load")
    assert labels() == before


# --- the end ---


def test_sigterm_under_load_gives_every_client_a_right_answer_or_none(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "add", add_constant(1.0))
    endpoint = start(tmp_path)
    begun = threading.Semaphore(0)

    def ask() -> int:
        count = 0
        while True:
            try:
                answer = endpoint.infer("add", {"x": ROW + count})
            except (OSError, http.client.BadStatusLine):
                return count  # no answer at all: whoever asks tries elsewhere
            assert answer.status == 200, answer.body
            assert np.array_equal(answer.response().outputs["y"], ROW + count + 1)
            count += 1
            begun.release()

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        for _ in range(40):
            begun.acquire()
        assert endpoint.terminate() == 0
        assert sum(future.result() for future in asking) >= 40


def test_sigterm_lets_requests_in_progress_finish(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "slow", slow())
    endpoint = start(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(endpoint.infer, "slow", {"n": A_WHILE})
        until(lambda: running.done() or in_progress(endpoint) == 1)
        assert endpoint.terminate() == 0
        assert running.result().response().outputs["turns"] == A_WHILE
    with pytest.raises(OSError):
        endpoint.ask("GET", "/v2/health/live")


def test_a_computation_without_end_does_not_keep_it_from_ending(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "slow", slow())
    endpoint = start(tmp_path, "--drain", "1")
    with busy_with(endpoint, 1):
        assert endpoint.terminate() == 0


def test_after_a_kill_it_starts_again_from_the_same_folder(tmp_path: Path, start: Start) -> None:
    put(tmp_path, "add", add_constant(1.0))
    first = start(tmp_path)
    first.process.kill()
    first.process.wait()
    assert start(tmp_path).infer("add", {"x": ROW}).status == 200
