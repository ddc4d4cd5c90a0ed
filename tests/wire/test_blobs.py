"""Sending a file to endpoints that behave in every way that is left: pieces, pauses, and when it gives up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import (
    DeadlineExceeded,
    EdgeError,
    EndpointError,
    EndpointRefused,
    EndpointUnreachable,
    InvalidAnswer,
    UnreadableInput,
)
from edge_sdk.wire import blobs
from edge_sdk.wire.blobs import Blob, Sent, send_blob
from edge_sdk.wire.exchange import Reply
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.retry import Retry

CONTENT = bytes(range(256)) * 40
PIECE = 1000


@pytest.fixture(autouse=True)
def small_pieces_and_no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PIECE_BYTES", "LEAST_PIECE_BYTES", "MOST_PIECE_BYTES"):
        monkeypatch.setattr(blobs, name, PIECE)
    monkeypatch.setattr(blobs, "PAUSES", Retry(first_pause_s=0.0, longest_pause_s=0.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.blob"
    path.write_bytes(CONTENT)
    return path


class Receiver:
    """Keeps what comes as an endpoint does, unless `misdeed` does something else with a request.

    Attributes:
        asked: method and offset of each request.
    """

    name = "http://there"

    def __init__(self, misdeed: Callable[[int, str], object] = lambda number, method: None) -> None:
        self.kept: bytearray | None = None
        self.asked: list[tuple[str, str]] = []
        self._misdeed = misdeed

    def call(
        self, method: str, target: str, headers: Mapping[str, str], parts: Sequence[bytes], timeout_s: float, where: str
    ) -> Reply:
        self.asked.append((method, headers.get("Upload-Offset", "")))
        done = self._misdeed(len(self.asked), method)
        if isinstance(done, Exception):
            raise done
        if isinstance(done, tuple):
            return reply(*done)
        if method == "POST":
            self.kept = bytearray() if self.kept is None else self.kept
        if self.kept is None:
            raise EndpointRefused("no such upload", 404)
        if method == "PATCH":
            if int(headers["Upload-Offset"]) != len(self.kept):
                raise EndpointRefused("wrong offset", 409)
            self.kept += b"".join(parts)
        if isinstance(done, str):
            raise EndpointUnreachable(done)  # it arrived, but the answer did not
        return reply(str(len(self.kept)), "?1" if len(self.kept) == len(CONTENT) else "?0")


def reply(offset: str, complete: str) -> Reply:
    headers = Message()
    headers["Upload-Offset"], headers["Upload-Complete"] = offset, complete
    return Reply(204, cast(Any, headers), memoryview(b""))


def sent(path: Path, receiver: Receiver, **options: Any) -> Sent:
    with Blob(path) as blob:
        return send_blob(cast(HttpEndpoint, receiver), "/uploads", blob, **options)


def test_it_travels_in_pieces(path: Path) -> None:
    receiver = Receiver()
    seen: list[int] = []
    assert sent(path, receiver, progress=lambda there, _: seen.append(there)) == Sent(len(CONTENT), 0)
    assert receiver.kept == CONTENT
    assert seen == [*range(0, len(CONTENT), PIECE), len(CONTENT)]


def test_lost_answers_cost_a_question_and_no_byte(path: Path) -> None:
    receiver = Receiver(lambda number, method: "lost" if method == "PATCH" and number % 2 else None)
    sent(path, receiver)
    assert receiver.kept == CONTENT
    assert len({offset for method, offset in receiver.asked if method == "PATCH"}) == len(
        [1 for method, _ in receiver.asked if method == "PATCH"]
    ), "no piece was sent twice"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.integers(1, 40),
        st.sampled_from(
            [
                "lost",
                EndpointUnreachable("broke"),
                DeadlineExceeded("late"),
                EndpointRefused("busy", 503, 0.0),
                EndpointRefused("stalled", 408),
                ("", ""),
            ]
        ),
        max_size=20,
    )
)
def test_whatever_passes_it_arrives_whole(path: Path, faults: dict[int, Any]) -> None:
    first = faults.get(1)
    receiver = Receiver(lambda number, _: faults.get(number))
    assert receiver.kept is None
    done = sent(path, receiver)
    assert receiver.kept == CONTENT
    assert done.sent_bytes <= len(CONTENT)
    assert first is None or len(receiver.asked) > 1


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413, 500, 507])
def test_what_is_final_ends_it_at_once(path: Path, status: int) -> None:
    receiver = Receiver(lambda number, _: EndpointRefused("no", status))
    with pytest.raises(EndpointRefused):
        sent(path, receiver)
    assert len(receiver.asked) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda number, method: ("0", "?0"), InvalidAnswer),
        (lambda number, method: ("99999999", "?0"), InvalidAnswer),
        (lambda number, method: ("x", "?1"), InvalidAnswer),
        (lambda number, method: ("-1", "?1"), InvalidAnswer),
        (lambda number, method: ("1", "true"), InvalidAnswer),
        (lambda number, method: (str(number % 2 * 500), "?0"), EndpointError),
        (lambda number, method: EndpointRefused("gone", 404) if method != "POST" else None, EndpointRefused),
        (lambda number, method: EndpointUnreachable("away"), EndpointUnreachable),
    ],
    ids=["never moves", "beyond the end", "no number", "below 0", "no flag", "to and fro", "forgets", "away"],
)
def test_an_endpoint_that_makes_no_sense_does_not_keep_it_for_ever(
    path: Path, answer: Callable[[int, str], object], error: type[EdgeError]
) -> None:
    with pytest.raises(error) as caught:
        sent(path, Receiver(answer), patience_s=0.05)
    assert "\n" not in str(caught.value)


def test_an_upload_that_the_endpoint_forgot_begins_again(path: Path) -> None:
    receiver = Receiver()

    def forget(number: int, method: str) -> None:
        if number == 5:
            receiver.kept = None

    receiver._misdeed = forget
    sent(path, receiver)
    assert receiver.kept == CONTENT
    assert [method for method, _ in receiver.asked].count("POST") == 2


def test_it_can_be_stopped_between_pieces(path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(EndpointUnreachable, match="stopped after 3000 of 10240"):
        sent(path, Receiver(), stop=stop, progress=lambda there, _: stop.set() if there == 3000 else None)


def test_a_file_that_shrinks_meanwhile_is_told(path: Path) -> None:
    def shrink(there: int, _: int) -> None:
        if there == 3000:
            path.write_bytes(b"")

    with pytest.raises(UnreadableInput, match="became shorter"):
        sent(path, Receiver(), progress=shrink)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="none"):
        Blob(tmp_path / "none")
