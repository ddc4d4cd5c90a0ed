"""The device's side of an upload: what is sent, what is not, and how it goes on after an interruption."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import edge_sdk
from edge_sdk import bundle
from edge_sdk.cli import main
from edge_sdk.errors import BundleDamaged, BundleError, EndpointRefused, EndpointUnreachable
from edge_sdk.offload.uploading import upload
from edge_sdk.wire.http import HttpEndpoint
from tests import models
from tests.cloud_offload.endpoints import Endpoint, put, start_endpoint
from tests.cloud_offload.uploading import content_of, small_bundle
from tests.wire.fault_proxy import FaultProxy

X = np.ones((1, 8), np.float32)
LARGE = 60_000
"""Hidden units of a bundle of 2.9 MB."""
MIDDLE = 20_000
"""Of one of 1 MB."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "repository").mkdir()
    return tmp_path


class Server:
    """An endpoint that may be killed and started again where it was."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.arguments = folder, ("--upload-mb", "32", *arguments)
        self.running = self._started("0")
        self.port = urlsplit(self.running.url).port or 0

    def _started(self, port: str) -> Endpoint:
        return start_endpoint(self.folder / "repository", self.folder / "cache", "--port", port, *self.arguments)

    @property
    def url(self) -> str:
        return self.running.url

    def kill(self) -> None:
        self.running.process.kill()
        self.running.process.wait()

    def start_again(self) -> None:
        self.running = self._started(str(self.port))


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    """An endpoint of the test's own, to do things to."""
    made = Server(folder)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One endpoint for all tests that leave it standing; their bundles have names of their own."""
    folder = tmp_path_factory.mktemp("standing")
    (folder / "repository").mkdir()
    made = Server(folder)
    yield made
    made.kill()


@pytest.fixture
def endpoint(standing: Server) -> Iterator[HttpEndpoint]:
    client = HttpEndpoint(standing.url)
    yield client
    client.close()


@pytest.fixture
def proxy(standing: Server) -> Iterator[FaultProxy]:
    made = FaultProxy(standing.port)
    yield made
    made.close()


# --- once ---


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_bundle_is_sent_once_whether_it_is_a_folder_or_a_file(
    folder: Path, endpoint: HttpEndpoint, as_zip: bool
) -> None:
    name = "file" if as_zip else "folder"
    made = small_bundle(folder / f"{name}.edge", as_zip=as_zip)
    first = upload(made, endpoint)
    assert (first.name, first.already_there, first.sent_bytes) == (name, False, first.size_bytes)
    assert first.digest == made.digest == endpoint.metadata(name).parameters["edge_bundle"]
    again = upload(folder / f"{name}.edge", endpoint)
    assert again.already_there and again.sent_bytes == 0
    assert list(endpoint.infer(name, {"x": X}).outputs) == ["y"]


def test_under_another_name_and_in_the_place_of_another(folder: Path, endpoint: HttpEndpoint) -> None:
    upload(small_bundle(folder / "a.edge"), endpoint, name="model")
    other = small_bundle(folder / "b.edge", hidden=5)
    with pytest.raises(EndpointRefused, match="other content") as caught:
        upload(other, endpoint, name="model")
    assert caught.value.status == 409
    upload(other, endpoint, name="model", replace=True)
    assert endpoint.metadata("model").parameters["edge_bundle"] == other.digest


def test_an_endpoint_that_inference_leaves_alone_for_now_takes_it_all_the_same(
    folder: Path, endpoint: HttpEndpoint
) -> None:
    for _ in range(3):
        endpoint.breaker.failed(endpoint.breaker.admit() or 0)
    assert endpoint.breaker.state == "open"
    assert upload(small_bundle(folder / "rested.edge"), endpoint).sent_bytes > 0


def test_a_bundle_in_memory_or_damaged_is_told_before_anything_is_sent(folder: Path, endpoint: HttpEndpoint) -> None:
    content = content_of(folder / "mlp.edge")
    with bundle.open(content) as opened, pytest.raises(BundleError, match="memory"):
        upload(opened, endpoint)
    (folder / "mlp.edge").write_bytes(content[:-30])
    with pytest.raises(BundleDamaged):
        upload(folder / "mlp.edge", endpoint)


def test_an_endpoint_without_uploads_says_so(folder: Path) -> None:
    running = start_endpoint(folder / "repository", folder / "cache")
    client = HttpEndpoint(running.url)
    try:
        with pytest.raises(EndpointRefused, match="--upload-mb"):
            upload(small_bundle(folder / "mlp.edge"), client)
    finally:
        client.close()
        running.process.kill()
        running.process.wait()


def test_nothing_answers_there(folder: Path) -> None:
    with pytest.raises(EndpointUnreachable, match="cannot connect"):
        upload(small_bundle(folder / "mlp.edge"), HttpEndpoint("http://127.0.0.1:9"), patience_s=0)


def test_the_command_sends_it_and_tells_what_was_sent(
    folder: Path, standing: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(folder / "told.edge")
    small_bundle(folder / "told.edge").close()
    assert main(["upload", path, "--endpoint", standing.url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["sent_bytes"]) == ("told", os.path.getsize(path))
    assert main(["upload", path, "--endpoint", standing.url]) == 0
    assert "there already" in capsys.readouterr().out
    small_bundle(folder / "other.edge", hidden=5).close()
    assert main(["upload", str(folder / "other.edge"), "--endpoint", standing.url, "--name", "told"]) == 1
    assert "other content" in capsys.readouterr().err


# --- interrupted ---


class Watched:
    """Progress that does something once half has arrived, and remembers how far it was each time."""

    def __init__(self, act: object = None) -> None:
        self.act, self.offsets = act, [0]

    def __call__(self, there: int, total: int) -> None:
        self.offsets.append(there)
        act, half = self.act, there >= total / 8
        if callable(act) and half and there < total:
            self.act = None
            act()

    @property
    def never_back(self) -> bool:
        return self.offsets == sorted(self.offsets)


def test_after_the_endpoint_was_killed_and_started_again_it_goes_on_at_the_byte(folder: Path, server: Server) -> None:
    endpoint = HttpEndpoint(server.url)
    made = small_bundle(folder / "mlp.edge", hidden=LARGE)
    watched = Watched(lambda: (server.kill(), threading.Thread(target=server.start_again).start()))
    done = upload(made, endpoint, progress=watched)
    assert watched.act is None and watched.never_back
    assert done.sent_bytes == done.size_bytes
    assert endpoint.metadata("mlp").parameters["edge_bundle"] == made.digest


def test_a_later_call_goes_on_where_an_interrupted_one_stopped(folder: Path, endpoint: HttpEndpoint) -> None:
    made = small_bundle(folder / "stopped.edge", hidden=LARGE, as_zip=False)
    stop = threading.Event()
    with pytest.raises(EndpointUnreachable, match="stopped after"):
        upload(made, endpoint, progress=Watched(stop.set), stop=stop)
    done = upload(made, endpoint)
    assert 0 < done.resumed_bytes < done.size_bytes
    assert done.resumed_bytes + done.sent_bytes == done.size_bytes


def test_a_link_that_is_cut_costs_no_byte_that_had_arrived(folder: Path, proxy: FaultProxy) -> None:
    made = small_bundle(folder / "cut.edge", hidden=LARGE)
    client = HttpEndpoint(proxy.url)
    watched = Watched(lambda: (proxy.cut(), proxy.restore()))
    done = upload(made, client, progress=watched)
    assert watched.act is None and watched.never_back
    assert done.sent_bytes == done.size_bytes
    client.close()


def test_an_answer_that_is_lost_does_not_make_its_bytes_travel_again(folder: Path, proxy: FaultProxy) -> None:
    made = small_bundle(folder / "lost.edge", hidden=LARGE)
    client = HttpEndpoint(proxy.url)

    def lose_answers() -> None:
        proxy.cut()
        proxy.restore()
        proxy.truncate_at = 20
        threading.Timer(0.2, proxy.restore).start()

    watched = Watched(lose_answers)
    done = upload(made, client, progress=watched)
    assert watched.never_back
    assert done.sent_bytes < done.size_bytes, "what arrived although its answer was lost was sent again"
    client.close()


@pytest.mark.parametrize("fault", ["slow", "lossy"])
def test_over_a_poor_link_it_arrives(folder: Path, proxy: FaultProxy, fault: str) -> None:
    made = small_bundle(folder / f"{fault}.edge", hidden=MIDDLE)
    proxy.pause_s = 0.01 if fault == "slow" else 0.0
    proxy.lost_share = 0.1 if fault == "lossy" else 0.0
    client = HttpEndpoint(proxy.url)
    assert upload(made, client).sent_bytes > 0
    assert client.metadata(fault).parameters["edge_bundle"] == made.digest
    client.close()


@pytest.mark.slow
def test_whatever_befalls_link_and_endpoint_no_request_is_lost_and_the_bundle_arrives(
    folder: Path, server: Server
) -> None:
    """Cuts, stalls, losses, and the endpoint killed twice, all in the middle of uploads, beside inference."""
    pytest.importorskip("onnx")
    whole = folder / "split.onnx"
    whole.write_bytes(models.onnx_mlp(8, 16, 4))
    put(folder / "repository", "split", whole.read_bytes())
    with edge_sdk.load(whole, plan_budget_s=0) as session:
        expected = next(iter(session.run(X).values()))
    proxy = FaultProxy(server.port)
    faults = iter([proxy.cut, server.kill, proxy.stall, proxy.cut, server.kill, proxy.cut])
    done = threading.Event()

    def ask() -> int:
        asked = 0
        with edge_sdk.load(whole, plan_budget_s=0, endpoints=[proxy.url], codec="none") as session:
            while asked < 2000 or not done.is_set():
                np.testing.assert_allclose(next(iter(session.run(X).values())), expected, rtol=1e-5)
                asked += 1
            figures = session.split_figures()
        assert figures is not None and figures.requests == figures.remote + figures.local == asked
        return asked

    def misfortune(there: int, total: int) -> None:
        """The next fault, while the upload is on its way; all is well again soon after."""
        if 0 < there < total and (fault := next(faults, None)) is not None:
            fault()
            again = server.start_again if fault == server.kill else proxy.restore
            threading.Timer(0.2, again).start()

    client = HttpEndpoint(proxy.url)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            for number in range(3):
                made = small_bundle(folder / f"chaos{number}.edge", hidden=MIDDLE + number)
                sent = upload(made, client, progress=misfortune)
                assert sent.sent_bytes <= sent.size_bytes, "no byte that had arrived travelled again"
        finally:
            done.set()
        assert asking.result() >= 2000
    for number in range(3):
        assert client.metadata(f"chaos{number}").parameters["edge_bundle"]
    assert next(faults, None) is None, "every fault happened"
    client.close()
    proxy.close()


# --- the disk is full, and inference goes on ---


def asking(server: Server, whole: Path, count: int, done: threading.Event) -> int:
    """Asks a split model, and the endpoint for the whole, `count` times or more, until `done`; returns how often.

    Every answer is right, and the endpoint itself gives one each time.
    """
    with edge_sdk.load(whole, plan_budget_s=0) as session:
        expected = next(iter(session.run(X).values()))
    asked = 0
    client = HttpEndpoint(server.url)
    with edge_sdk.load(whole, plan_budget_s=0, endpoints=[server.url], codec="none", endpoint_model="split") as session:
        while asked < count or not done.is_set():
            np.testing.assert_allclose(next(iter(session.run(X).values())), expected, rtol=1e-5)
            there = client.infer("split", {"x": X}).outputs
            np.testing.assert_allclose(next(iter(there.values())), expected, rtol=1e-5)
            asked += 1
        figures = session.split_figures()
    client.close()
    assert figures is not None and figures.requests == figures.remote + figures.local == asked
    return asked


def full_disk(folder: Path, server: Server, fill: object, make_room: object, count: int) -> None:
    """Uploads while there is no room, beside inference; then there is room."""
    whole = folder / "split.onnx"
    whole.write_bytes(models.onnx_mlp(8, 16, 4))
    made = small_bundle(folder / "mlp.edge", hidden=MIDDLE)
    client = HttpEndpoint(server.url)
    done = threading.Event()
    uploads = folder / "repository" / ".uploads"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(asking, server, whole, count, done)
        try:
            for _ in range(3):
                with pytest.raises(EndpointRefused, match="no room") as caught:
                    upload(made, client, progress=fill)  # type: ignore[arg-type]
                assert caught.value.status == 507
                assert list(uploads.iterdir()) == [], "a full disk is not left fuller"
            assert callable(make_room)
            make_room()
            assert upload(made, client).sent_bytes > 0
        finally:
            done.set()
        assert asked.result() >= count
    assert client.metadata("mlp").parameters["edge_bundle"] == made.digest
    client.close()


ROOM = 400_000
COUNTS = [60, pytest.param(2000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_no_room_is_told_inference_goes_on_and_the_upload_succeeds_later(
    folder: Path, server: Server, count: int
) -> None:
    """The limit of the process for the size of a file stands for the full disk: it needs no privilege."""
    pytest.importorskip("onnx")
    put(folder / "repository", "split", models.onnx_mlp(8, 16, 4))
    assert server.running.ask("POST", "/v2/repository/models/split/load").status == 200
    pid, most = server.running.process.pid, resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (ROOM, most))
    full_disk(folder, server, None, lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most)), count)


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """The repository on a file system of 8 MB; needs to be root."""
    repository = folder / "repository"
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(repository)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield repository
    subprocess.run(["umount", "-l", str(repository)], check=True)


@pytest.mark.parametrize("count", COUNTS)
def test_a_disk_that_fills_up_in_the_middle_of_an_upload(small_disk: Path, folder: Path, count: int) -> None:
    pytest.importorskip("onnx")
    put(small_disk, "split", models.onnx_mlp(8, 16, 4))
    server = Server(folder)
    filler = small_disk / "other-data"

    def fill(there: int, total: int) -> None:
        """Others fill the disk once the upload has begun."""
        if there == 0:
            filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - ROOM))

    try:
        with pytest.raises(EndpointRefused, match="the disk is full after"):
            upload(small_bundle(folder / "first.edge", hidden=MIDDLE), HttpEndpoint(server.url), progress=fill)
        full_disk(folder, server, None, filler.unlink, count)
    finally:
        server.kill()
