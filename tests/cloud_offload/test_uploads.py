"""A device sends a bundle, once: what an endpoint takes, what it refuses, and what it checks before it serves it."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")

from cloud_offload.refusals import Refusal
from cloud_offload.settings import ServeSettings
from cloud_offload.store import Store
from cloud_offload.upload_files import EXPIRES_S, IDLE_S, MOST_UPLOADS, Upload, UploadFiles
from cloud_offload.uploads import Uploads
from edge_sdk import bundle
from edge_sdk.errors import InputError
from tests.bundle.making import alter_manifest, golden, make, member, replace_member
from tests.cloud_offload.endpoints import Endpoint, Start, add_constant, put, start_endpoint
from tests.cloud_offload.uploading import PARTIAL, begin, content_of, offset_of, place, send, sha256, small_bundle

X = np.ones((1, 8), np.float32)
HUGE = 10**12


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def taking(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """One endpoint that takes uploads, for all tests that use names of their own."""
    put(repository, "plain", add_constant(1.0))
    small_bundle(repository / "folder.edge", as_zip=False)
    endpoint = start_endpoint(repository, tmp_path_factory.mktemp("cache"), "--upload-mb", "16")
    yield endpoint
    endpoint.process.kill()
    endpoint.process.wait()


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return content_of(tmp_path / "made.edge")


def upload(endpoint: Endpoint, name: str, content: bytes, query: str = "") -> Any:
    assert begin(endpoint, name, content, query).status == 201
    return send(endpoint, name, content)


# --- the way of an upload ---


def test_a_bundle_that_was_sent_is_checked_and_served(taking: Endpoint, repository: Path, content: bytes) -> None:
    begun = begin(taking, "sent", content)
    assert begun.status == 201
    assert begun.headers["location"] == place("sent", content)
    assert begun.headers["upload-offset"] == "0"
    assert begun.headers["upload-limit"] == f"max-size={16 * 2**20}"
    answer = send(taking, "sent", content)
    assert (answer.status, answer.headers["upload-complete"]) == (204, "?1")
    assert taking.infer("sent", {"x": X}).status == 200
    assert (repository / "sent.edge").read_bytes() == content
    with bundle.open(repository / "sent.edge") as opened:
        assert taking.ask("GET", "/v2/models/sent").json()["parameters"]["edge_bundle"] == opened.digest


def test_it_may_come_in_pieces_and_each_goes_on_where_the_last_ended(taking: Endpoint, content: bytes) -> None:
    begin(taking, "pieces", content)
    for start in range(0, len(content), 300):
        assert taking.infer("pieces", {"x": X}).status == 404
        assert offset_of(taking, "pieces", content) == start
        assert send(taking, "pieces", content, start, start + 300).status == 204
    assert taking.infer("pieces", {"x": X}).status == 200


def test_nothing_of_it_is_in_the_repository_until_it_is_whole(
    taking: Endpoint, repository: Path, content: bytes
) -> None:
    begin(taking, "half", content)
    send(taking, "half", content, 0, 500)
    assert not (repository / "half.edge").exists()
    names = [entry["name"] for entry in taking.ask("POST", "/v2/repository/index").json()]
    assert "half" not in names and not any("upload" in name for name in names)


def test_the_same_bundle_need_not_be_sent_again(taking: Endpoint, content: bytes) -> None:
    upload(taking, "twice", content)
    for _ in range(2):
        again = begin(taking, "twice", content)
        assert (again.status, again.headers["upload-complete"]) == (200, "?1")
        assert again.headers["upload-offset"] == str(len(content))
    assert taking.ask("HEAD", place("twice", content)).headers["upload-complete"] == "?1"


def test_other_content_needs_to_be_asked_for_and_takes_over_in_one_step(
    taking: Endpoint, content: bytes, tmp_path: Path
) -> None:
    upload(taking, "changing", content)
    other = content_of(tmp_path / "other.edge", hidden=5)
    refused = begin(taking, "changing", other)
    assert refused.status == 409
    assert "replace" in refused.json()["error"]
    assert taking.infer("changing", {"x": X}).status == 200
    before = taking.infer("changing", {"x": X}).response().outputs["y"]
    assert upload(taking, "changing", other, "?replace=true").status == 204
    assert not np.array_equal(taking.infer("changing", {"x": X}).response().outputs["y"], before)


@pytest.mark.parametrize("name", ["plain", "folder"])
def test_what_is_a_folder_there_is_not_replaced(taking: Endpoint, content: bytes, name: str) -> None:
    refused = begin(taking, name, content, "?replace=true")
    assert refused.status == 409
    assert "folder" in refused.json()["error"]


def test_an_upload_can_be_given_up(taking: Endpoint, repository: Path, content: bytes) -> None:
    begin(taking, "given-up", content)
    send(taking, "given-up", content, 0, 500)
    assert taking.ask("DELETE", place("given-up", content)).status == 204
    assert taking.ask("GET", place("given-up", content)).status == 404
    assert begin(taking, "given-up", content).headers["upload-offset"] == "0"


def test_what_came_before_the_connection_broke_is_kept_to_the_byte(taking: Endpoint, tmp_path: Path) -> None:
    content = content_of(tmp_path / "made.edge", hidden=60_000)
    begin(taking, "broken-off", content)
    at = 1_234_567
    head = (
        f"PATCH {place('broken-off', content)} HTTP/1.1\r\nHost: here\r\nContent-Type: application/partial-upload\r\n"
    )
    head += f"Upload-Offset: 0\r\nUpload-Complete: ?1\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(taking.url).port or 0)) as sock:
        sock.sendall(head.encode() + content[:at])
    taking.wait_for("request", method="PATCH", path=place("broken-off", content), status=499)
    assert offset_of(taking, "broken-off", content) == at
    assert send(taking, "broken-off", content, at).status == 204
    assert taking.infer("broken-off", {"x": X}).status == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_somebody_elses_client_uploads_in_two_pieces(taking: Endpoint, content: bytes, tmp_path: Path) -> None:
    def curl(*arguments: str) -> str:
        command = ["curl", "--silent", "--show-error", "--fail", "--include", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.lower()

    (tmp_path / "first").write_bytes(content[:400])
    (tmp_path / "rest").write_bytes(content[400:])
    digest = base64.b64encode(bytes.fromhex(sha256(content))).decode()
    begun = curl(
        "--request", "POST", f"{taking.url}/v2/repository/models/curled/uploads",
        "--header", f"Upload-Length: {len(content)}", "--header", "Upload-Complete: ?0",
        "--header", f"Repr-Digest: sha-256=:{digest}:",
    )  # fmt: skip
    assert "201 created" in begun and f"location: {place('curled', content)}" in begun
    where = f"{taking.url}{place('curled', content)}"
    for name, offset, complete in (("first", 0, "?0"), ("rest", 400, "?1")):
        assert f"upload-offset: {offset}" in curl("--head", where)
        told = curl(
            "--request", "PATCH", where, "--data-binary", f"@{tmp_path / name}",
            "--header", "Content-Type: application/partial-upload",
            "--header", f"Upload-Offset: {offset}", "--header", f"Upload-Complete: {complete}",
        )  # fmt: skip
        assert f"upload-complete: {complete}" in told
    assert taking.infer("curled", {"x": X}).status == 200


# --- two at once ---


def test_two_devices_that_send_the_same_bundle_end_with_one(taking: Endpoint, content: bytes) -> None:
    def device(_: int) -> None:
        while True:
            begun = begin(taking, "shared", content)
            if begun.headers["upload-complete"] == "?1":
                return
            answer = send(taking, "shared", content, int(begun.headers["upload-offset"]))
            assert answer.status in (204, 409, 503), answer.body

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(device, range(4)))
    assert taking.infer("shared", {"x": X}).status == 200


def test_a_second_connection_waits_for_the_first_unless_that_stalled(taking: Endpoint, content: bytes) -> None:
    begin(taking, "stalled", content)
    head = f"PATCH {place('stalled', content)} HTTP/1.1\r\nHost: here\r\nContent-Type: application/partial-upload\r\n"
    head += f"Upload-Offset: 0\r\nUpload-Complete: ?1\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(taking.url).port or 0)) as sock:
        sock.sendall(head.encode() + content[:100])
        while send(taking, "stalled", content, 50).status != 503:
            pass  # the first one has not arrived yet
        while (answer := send(taking, "stalled", content)).status == 503:
            assert int(answer.headers["retry-after"]) >= 1
        # The first one has made way, and what it brought is kept.
        assert (answer.status, answer.headers["upload-offset"]) == (409, "100")
        assert send(taking, "stalled", content, 100).status == 204
    assert taking.infer("stalled", {"x": X}).status == 200


# --- what is refused ---


def test_a_repository_that_cannot_be_written_to_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(InputError, match="cannot be written to"):
        Uploads(ServeSettings(repository=tmp_path, upload_mb=1), cast(Store, None))


def test_tokens_apply(tmp_path: Path, start: Start, content: bytes) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    (tmp_path / "repository").mkdir()
    endpoint = start(tmp_path / "repository", "--upload-mb", "1", "--token-file", str(tmp_path / "tokens"))
    assert begin(endpoint, "m", content).status == 401
    known = {"Authorization": "Bearer secret"}
    assert begin(endpoint, "m", content, headers=known).status == 201
    assert send(endpoint, "m", content).status == 401
    assert send(endpoint, "m", content, **known).status == 204


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e%2fx", "a%2fb", ".hidden", "a%20b", "n%C3%A4me", "a@b", "x" * 201, "%00", "-x"]
)
def test_no_name_leads_out_of_the_repository(taking: Endpoint, repository: Path, content: bytes, name: str) -> None:
    before = sorted(repository.parent.iterdir())
    assert begin(taking, name, content).status in (400, 404)
    assert sorted(repository.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Upload-Length": ""}, "Upload-Length"),
        ({"Upload-Length": "0"}, "Upload-Length"),
        ({"Upload-Length": "-5"}, "upload-length"),
        ({"Upload-Length": "1e3"}, "upload-length"),
        ({"Upload-Complete": "?1"}, "Upload-Complete"),
        ({"Upload-Complete": "yes"}, "upload-complete"),
        ({"Repr-Digest": ""}, "Repr-Digest"),
        ({"Repr-Digest": "sha-256=:AAAA:"}, "Repr-Digest"),
        ({"Repr-Digest": "md5=:" + base64.b64encode(bytes(32)).decode() + ":"}, "Repr-Digest"),
    ],
)
def test_an_upload_begins_with_size_and_hash(
    taking: Endpoint, content: bytes, headers: dict[str, str], told: str
) -> None:
    refused = begin(taking, "new", content, headers=headers)
    assert refused.status == 400
    assert told in refused.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Offset": "7"}, 409),
        ({"Upload-Offset": "99999999999"}, 409),
        ({"Upload-Offset": "x"}, 400),
        ({"Upload-Complete": "maybe"}, 400),
        ({"Upload-Complete": "?0"}, 400),
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
def test_bytes_that_do_not_go_on_where_it_stands_are_refused(
    taking: Endpoint, content: bytes, headers: dict[str, str], status: int
) -> None:
    begin(taking, "wrong", content)
    answer = send(taking, "wrong", content, **headers)
    assert answer.status == status
    if status == 409:
        assert answer.headers["upload-offset"] == "0"
    assert offset_of(taking, "wrong", content) == 0


def test_more_bytes_than_were_told_are_refused(taking: Endpoint, content: bytes) -> None:
    begin(taking, "long", content)
    assert taking.ask(
        "PATCH", place("long", content), content + b"x", {**PARTIAL, "Upload-Offset": "0", "Upload-Complete": "?1"}
    ).status == 400  # fmt: skip
    connection = taking.connect()
    told = {**PARTIAL, "Upload-Offset": "0", "Upload-Complete": "?1"}
    connection.request("PATCH", place("long", content), iter([content, b"more"]), told, encode_chunked=True)
    assert connection.getresponse().status == 400
    connection.close()


def test_what_began_nowhere_is_not_here(taking: Endpoint) -> None:
    assert send(taking, "nowhere", b"x").status == 404
    assert taking.ask("GET", "/v2/repository/models/nowhere/uploads/abc").status == 404
    assert taking.ask("PUT", place("nowhere", b"x")).status == 405


def test_a_bundle_larger_than_allowed_is_refused_before_a_byte_of_it_travels(taking: Endpoint) -> None:
    refused = begin(taking, "large", b"large", size=17 * 2**20)
    assert refused.status == 413
    assert str(16 * 2**20) in refused.json()["error"]


@pytest.mark.parametrize("damage", ["hash", "no zip", "truncated", "manifest", "model", "bomb", "golden"])
def test_what_is_no_sound_bundle_is_never_served(
    taking: Endpoint, repository: Path, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "made.edge"
    if damage == "golden":
        make(path, as_zip=True, golden=[golden("small", "large", value=1e6)]).close()
    else:
        small_bundle(path).close()
    if damage == "manifest":
        alter_manifest(path, lambda raw: raw.update(release=7), resign=False)
    if damage == "model":
        with bundle.open(path) as opened:
            name = opened.variants[0].file
        replace_member(path, name, member(path, name)[:-1] + b"\xff")
    if damage == "bomb":
        replace_member(path, "x", bytes(20_000_000))
    content = path.read_bytes()
    content = {"no zip": b"no bundle at all", "truncated": content[:-20]}.get(damage, content)
    name = f"bad-{damage.replace(' ', '-')}"
    begin(taking, name, content)
    if damage == "hash":
        changed = content[:200] + bytes([content[200] ^ 1]) + content[201:]
        answer = taking.ask(
            "PATCH", place(name, content), changed, {**PARTIAL, "Upload-Offset": "0", "Upload-Complete": "?1"}
        )
    else:
        answer = send(taking, name, content)
    assert answer.status == 400
    told = answer.json()["error"]
    assert name in told and str(repository) not in told and ".uploads" not in told
    assert not (repository / f"{name}.edge").exists()
    assert taking.infer(name, {"x": X}).status == 404
    again = taking.ask("GET", place(name, content))  # as a client would whose connection broke meanwhile
    assert (again.status, again.json()["error"]) == (400, told)


def test_a_bundle_that_cannot_take_over_leaves_the_one_before(
    taking: Endpoint, repository: Path, content: bytes, tmp_path: Path
) -> None:
    upload(taking, "stays", content)
    before = taking.infer("stays", {"x": X}).response().outputs["y"]
    make(tmp_path / "wrong.edge", as_zip=True, golden=[golden("small", "large", value=1e6)]).close()
    wrong = (tmp_path / "wrong.edge").read_bytes()
    assert upload(taking, "stays", wrong, "?replace=true").status == 400
    assert (repository / "stays.edge").read_bytes() == content
    assert np.array_equal(taking.infer("stays", {"x": X}).response().outputs["y"], before)


# --- anything at all ---

HEADERS = ("Upload-Offset", "Upload-Length", "Upload-Complete", "Repr-Digest", "Content-Type", "Transfer-Encoding")
values = st.sampled_from(
    ["0", "1", "?0", "?1", "99999999999999", "-1", "", "application/partial-upload", "sha-256=:=:"]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"]),
    st.sampled_from(["", "/", "/" + "a" * 64, "/" + "A" * 64, "/x/y", "?replace=maybe", "/%00"]),
    st.dictionaries(
        st.sampled_from(HEADERS[:5]), values | st.text(st.characters(codec="ascii", categories=["L", "N", "P"]))
    ),
    st.binary(max_size=64),
)
def test_no_request_makes_it_fail(
    taking: Endpoint, method: str, rest: str, headers: dict[str, str], body: bytes
) -> None:
    answer = taking.ask(method, f"/v2/repository/models/fuzzed/uploads{rest}", body or None, headers)
    assert answer.status < 500
    assert taking.ask("GET", "/v2/health/live").status == 200


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_altered_bundle_is_served_or_makes_it_fail(taking: Endpoint, data: st.DataObject, content: bytes) -> None:
    altered = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place_ = data.draw(st.integers(0, len(altered) - 1))
        altered[place_] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del altered[data.draw(st.integers(1, len(altered) - 1)) :]
    begun = begin(taking, "altered", bytes(altered), "?replace=true")
    if begun.status == 201:
        # Some bytes of a zip, as those of its times, mean nothing to anyone.
        assert send(taking, "altered", bytes(altered)).status in (204, 400)
    assert taking.ask("GET", "/v2/health/ready").status == 200


# --- the files of uploads ---


def upload_of(name: str = "m", size: int = 100, replace: bool = False) -> Upload:
    return Upload(name=name, sha256=sha256(name.encode()), size_bytes=size, replace=replace)


def refused(files: UploadFiles, upload: Upload) -> int:
    with pytest.raises(Refusal) as caught:
        files.begin(upload)
    return caught.value.status


def test_unfinished_uploads_count_at_their_full_size(tmp_path: Path) -> None:
    files = UploadFiles(tmp_path, 250)
    files.begin(upload_of("a"))
    files.begin(upload_of("b"))
    assert refused(files, upload_of("c")) == 507
    files.drop("a", upload_of("a").sha256)
    assert files.begin(upload_of("c")) == 0


def test_bundles_in_the_repository_count_too_but_not_the_one_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "m.edge").write_bytes(bytes(200))
    files = UploadFiles(tmp_path, 250)
    assert refused(files, upload_of("m")) == 507
    assert files.begin(upload_of("m", replace=True)) == 0


def test_more_than_the_disk_has_is_refused_before_a_byte_of_it_travels(tmp_path: Path) -> None:
    assert refused(UploadFiles(tmp_path, 2**62), upload_of(size=2**61)) == 507


def test_only_so_many_may_be_unfinished_and_idle_ones_make_way(tmp_path: Path) -> None:
    now = time.time()
    files = UploadFiles(tmp_path, 10**6, clock=lambda: now)
    for number in range(MOST_UPLOADS):
        files.begin(upload_of(f"m{number}"))
    assert refused(files, upload_of("one-more")) == 503
    now += IDLE_S + 60
    assert files.begin(upload_of("one-more")) == 0
    assert len(list(files.folder.glob("*.json"))) == MOST_UPLOADS


def test_what_expired_goes_and_what_belongs_to_nothing(tmp_path: Path) -> None:
    now = time.time()
    files = UploadFiles(tmp_path, 10**6, clock=lambda: now)
    files.begin(upload_of("old"))
    (files.folder / "0123.edge").write_bytes(b"left by a kill")
    (files.folder / "4567.json").write_bytes(b"{")
    now += EXPIRES_S + 60
    files.sweep()
    assert list(files.folder.iterdir()) == []


def test_an_upload_that_was_begun_goes_on_after_a_restart(tmp_path: Path) -> None:
    UploadFiles(tmp_path, 1000).begin(upload_of())
    UploadFiles(tmp_path, 1000).append(upload_of(), 0, b"abc")
    assert UploadFiles(tmp_path, 1000).begin(upload_of(replace=True)) == 3
    found = UploadFiles(tmp_path, 1000).find("m", upload_of().sha256)
    assert found == upload_of(replace=True)


def test_bytes_at_another_place_are_refused_and_change_nothing(tmp_path: Path) -> None:
    files = UploadFiles(tmp_path, 1000)
    files.begin(upload_of())
    files.append(upload_of(), 0, b"abc")
    for offset in (0, 2, 4, HUGE):
        with pytest.raises(Refusal) as caught:
            files.append(upload_of(), offset, b"x")
        assert caught.value.status == 409
    assert files.path(upload_of()).read_bytes() == b"abc"
