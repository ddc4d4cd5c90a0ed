"""The HTTP client against a real endpoint in a process of its own, which behaves well and then as badly as it can."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edge_sdk.errors import (
    DeadlineExceeded,
    EdgeError,
    EndpointMismatch,
    EndpointRefused,
    EndpointUnreachable,
    InputError,
    InvalidAnswer,
    WireError,
)
from edge_sdk.tensors import TensorSpec
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.endpoint import TailIdentity
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.limits import Limits
from edge_sdk.wire.overdue import Transfer
from edge_sdk.wire.retry import NO_RETRY
from tests.wire.endpoint_process import HEADER_LENGTH, EndpointProcess, endpoint_process
from tests.wire.fault_proxy import FaultProxy

H = np.arange(12, dtype=np.float32).reshape(3, 4)
EXPECTED = (TensorSpec("y", "float32", (3, 4)),)
IDENTITY = TailIdentity("sha256:1234", "c0ffee")


@pytest.fixture(scope="module")
def server() -> Iterator[EndpointProcess]:
    with endpoint_process() as process:
        yield process


@pytest.fixture
def endpoint(server: EndpointProcess) -> Iterator[HttpEndpoint]:
    server.mode("well")
    client = HttpEndpoint(server.url, retry=NO_RETRY)
    yield client
    client.close()


@pytest.fixture
def proxy(server: EndpointProcess) -> Iterator[FaultProxy]:
    server.mode("well")
    between = FaultProxy(server.port)
    yield between
    between.close()


class TestWithoutBinaryData:
    """A server may list its extensions without the one for binary data: then tensors travel as JSON."""

    def test_tensors_travel_as_json(self, server: EndpointProcess, endpoint: HttpEndpoint) -> None:
        server.mode("json")
        for _ in range(3):
            np.testing.assert_array_equal(endpoint.infer("m", {"h": H}, expected=EXPECTED).outputs["y"], H * 3)
        seen = server.seen()
        assert seen["count"] == 4  # the server was tried with binary data once
        assert seen["headers"]["Content-Type"] == "application/json"

    def test_whatever_json_cannot_tell_is_refused_here(self, server: EndpointProcess, endpoint: HttpEndpoint) -> None:
        server.mode("json")
        with pytest.raises(WireError, match="NaN"):
            endpoint.infer("m", {"h": np.full_like(H, np.nan)})

    def test_other_trouble_stays_what_it_is(self, server: EndpointProcess, endpoint: HttpEndpoint) -> None:
        server.mode("json-broken")
        with pytest.raises(EndpointRefused, match="500"):
            endpoint.infer("m", {"h": H})

    def test_a_server_that_has_it_is_asked_once_and_kept_to_it(
        self, server: EndpointProcess, endpoint: HttpEndpoint
    ) -> None:
        server.mode("500")
        for _ in range(2):
            with pytest.raises(EndpointRefused, match="a bug"):
                endpoint.infer("m", {"h": H})
        assert server.seen()["count"] == 2
        server.mode("well")
        endpoint.infer("m", {"h": H})
        assert HEADER_LENGTH in server.seen()["headers"]


class TestWhileAllIsWell:
    def test_arrays_go_and_come(self, endpoint: HttpEndpoint) -> None:
        answer = endpoint.infer("m", {"h": H}, expected=EXPECTED)
        np.testing.assert_array_equal(answer.outputs["y"], H * 3)
        assert answer.model_version == "1"

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "float16", "float32", "float64"])
    @pytest.mark.parametrize("shape", [(0,), (1,), (2, 3), (1, 3, 64, 64)])
    def test_of_any_dtype_and_shape(self, endpoint: HttpEndpoint, dtype: str, shape: tuple[int, ...]) -> None:
        h = np.ones(shape, dtype)
        y = endpoint.infer("m", {"h": h}).outputs["y"]
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, h * 3)

    def test_that_do_not_lie_in_one_piece_too(self, endpoint: HttpEndpoint) -> None:
        np.testing.assert_array_equal(endpoint.infer("m", {"h": H.T[::2]}).outputs["y"], H.T[::2] * 3)

    def test_larger_than_the_sockets_buffers(self, endpoint: HttpEndpoint) -> None:
        h = np.arange(3_000_000, dtype=np.float32)
        np.testing.assert_array_equal(endpoint.infer("m", {"h": h}).outputs["y"], h * 3)

    def test_answers_lie_where_engines_can_read_them_without_a_copy(self, endpoint: HttpEndpoint) -> None:
        for length in range(1, 40):
            y = endpoint.infer("m" * length, {"h": H}).outputs["y"]
            assert y.ctypes.data % 64 == 0
            assert not y.flags.owndata

    def test_one_connection_serves_one_request_after_the_other(self, server: EndpointProcess) -> None:
        between = FaultProxy(server.port)
        endpoint = HttpEndpoint(between.url)
        for _ in range(5):
            endpoint.infer("m", {"h": H})
        assert len(between._sockets) == 2
        between.close()

    def test_many_threads_at_once_each_get_their_own_answer(self, endpoint: HttpEndpoint) -> None:
        wrong: list[object] = []

        def run(number: int) -> None:
            for step in range(20):
                h = np.full((50,), number * 100 + step, np.float32)
                y = endpoint.infer("m", {"h": h}).outputs["y"]
                if not np.array_equal(y, h * 3):
                    wrong.append((number, step, y))

        threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_the_link_becomes_known(self, endpoint: HttpEndpoint) -> None:
        for size in [10, 100_000] * 6:
            endpoint.infer("m", {"h": np.zeros(size, np.float32)})
        estimate = endpoint.link.estimate()
        assert estimate is not None
        assert estimate.requests == 12
        assert endpoint.link.late_ms() is not None

    def test_metadata_and_readiness(self, server: EndpointProcess, endpoint: HttpEndpoint) -> None:
        metadata = endpoint.metadata("a model/ü")
        assert metadata.name == "a%20model%2F%C3%BC"
        assert metadata.parameters["edge_cut"] == "c0ffee"
        assert endpoint.ready()
        assert endpoint.ready("m")
        server.mode("busy")
        assert not endpoint.ready("m")

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_requests_may_be_compressed(self, server: EndpointProcess, coding: str) -> None:
        server.mode("well")
        h = np.zeros(10_000, np.float32)
        endpoint = HttpEndpoint(server.url, coding=coding)
        np.testing.assert_array_equal(endpoint.infer("m", {"h": h}).outputs["y"], h)
        headers = server.seen()["headers"]
        assert headers["Content-Encoding"] == coding
        assert int(headers["Content-Length"]) < 1000

    def test_answers_are_asked_for_as_they_are_unless_requests_are_compressed(
        self, server: EndpointProcess, endpoint: HttpEndpoint
    ) -> None:
        endpoint.infer("m", {"h": H})
        assert server.seen()["headers"]["Accept-Encoding"] == "identity"
        HttpEndpoint(server.url, coding="gzip").infer("m", {"h": H})
        assert "gzip" in server.seen()["headers"]["Accept-Encoding"]

    @pytest.mark.parametrize("mode", ["gzip", "chunked"])
    def test_answers_may_come_compressed_or_in_chunks(
        self, server: EndpointProcess, endpoint: HttpEndpoint, mode: str
    ) -> None:
        server.mode(mode)
        np.testing.assert_array_equal(endpoint.infer("m", {"h": H}).outputs["y"], H * 3)

    def test_headers_tell_deadline_token_and_where_tensors_begin(self, server: EndpointProcess) -> None:
        server.mode("well")
        HttpEndpoint(server.url, token="s3cret").infer("m", {"h": H}, deadline=Deadline.after(5000))
        headers = server.seen()["headers"]
        assert headers["Authorization"] == "Bearer s3cret"
        assert 0 < int(headers["deadline-ms"]) <= 5000
        assert int(headers[HEADER_LENGTH]) == int(headers["Content-Length"]) - H.nbytes


class TestWhenTheEndpointMisbehaves:
    @pytest.mark.parametrize(
        "mode, kind, reason",
        [
            ("500", EndpointRefused, "a bug of two lines"),
            ("busy", EndpointRefused, "queue is full"),
            ("hangup", EndpointUnreachable, "without an answer"),
            ("garbage", InvalidAnswer, "no HTTP"),
            ("html", InvalidAnswer, "broken"),
            ("short", EndpointUnreachable, "broke after"),
            ("huge", InvalidAnswer, "more than"),
            ("shapes", InvalidAnswer, r"float32\[11\], expected float32\[3, 4\]"),
            ("names", InvalidAnswer, "lacks output 'y'"),
            ("nan", InvalidAnswer, "NaN"),
            ("yesterday", EndpointMismatch, "sha256:old"),
            ("reloaded", EndpointMismatch, "sha256:old"),
            ("unknown", EndpointRefused, "no such model"),
        ],
    )
    def test_the_error_says_what_was_wrong_in_one_line(
        self, server: EndpointProcess, endpoint: HttpEndpoint, mode: str, kind: type[EdgeError], reason: str
    ) -> None:
        server.mode(mode)
        with pytest.raises(kind, match=reason) as caught:
            endpoint.infer("m", {"h": H}, expected=EXPECTED, identity=IDENTITY, refuse_nan=True)
        assert type(caught.value) is kind or kind is EndpointUnreachable
        assert server.url in str(caught.value)
        assert "\n" not in str(caught.value)
        server.mode("well")
        np.testing.assert_array_equal(endpoint.infer("m", {"h": H}).outputs["y"], H * 3)

    def test_a_small_answer_that_expands_without_end_is_refused(self, server: EndpointProcess) -> None:
        server.mode("bomb")
        endpoint = HttpEndpoint(server.url, limits=Limits(max_body_bytes=1 << 20))
        with pytest.raises(InvalidAnswer, match="once decompressed"):
            endpoint.infer("m", {"h": H})

    @pytest.mark.parametrize("mode", ["stall", "drip"])
    def test_a_deadline_holds_even_if_bytes_trickle_in(
        self, server: EndpointProcess, endpoint: HttpEndpoint, mode: str
    ) -> None:
        server.mode(mode)
        with pytest.raises(DeadlineExceeded, match="within the deadline"):
            endpoint.infer("m", {"h": H}, deadline=Deadline.after(100))

    def test_without_a_deadline_the_endpoints_own_timeout_holds(self, server: EndpointProcess) -> None:
        server.mode("stall")
        with pytest.raises(DeadlineExceeded):
            HttpEndpoint(server.url, timeout_s=0.1).infer("m", {"h": H})

    def test_a_deadline_that_has_passed_sends_nothing(self, server: EndpointProcess, endpoint: HttpEndpoint) -> None:
        before = server.seen()["count"]
        with pytest.raises(DeadlineExceeded):
            endpoint.infer("m", {"h": H}, deadline=Deadline.after(0))
        assert server.seen()["count"] == before

    def test_a_request_may_be_given_up_from_another_thread(
        self, server: EndpointProcess, endpoint: HttpEndpoint
    ) -> None:
        server.mode("stall")
        transfer = Transfer()
        before = server.seen()["count"]
        raised: list[BaseException] = []

        def run() -> None:
            try:
                endpoint.infer("m", {"h": H}, transfer=transfer)
            except EdgeError as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while server.seen()["count"] == before:
            pass
        transfer.give_up()
        thread.join()
        assert isinstance(raised[0], EndpointUnreachable)
        assert endpoint.breaker.state == "closed", "the endpoint is not to blame"

    @pytest.mark.parametrize("mode", ["busy-once", "hangup-once"])
    def test_what_may_pass_is_tried_again(self, server: EndpointProcess, mode: str) -> None:
        server.mode(mode)
        endpoint = HttpEndpoint(server.url)
        np.testing.assert_array_equal(endpoint.infer("m", {"h": H}).outputs["y"], H * 3)

    def test_a_kept_connection_that_ended_meanwhile_costs_no_try(
        self, server: EndpointProcess, endpoint: HttpEndpoint
    ) -> None:
        endpoint.infer("m", {"h": H})
        server.mode("hangup-once")
        np.testing.assert_array_equal(endpoint.infer("m", {"h": H}).outputs["y"], H * 3)

    def test_a_restart_with_another_tail_is_noticed_before_a_tensor_is_sent(self) -> None:
        with endpoint_process() as first:
            endpoint = HttpEndpoint(first.url)
            endpoint.infer("m", {"h": H}, identity=IDENTITY)
            port = first.port
            first.kill()
            with endpoint_process(port) as second:
                second.mode("yesterday")
                with pytest.raises(EndpointMismatch):
                    endpoint.infer("m", {"h": H}, identity=IDENTITY)
                assert second.seen()["count"] == 0

    def test_where_nobody_listens_it_says_so(self) -> None:
        with endpoint_process() as process:
            port = process.port
        with pytest.raises(EndpointUnreachable, match="cannot connect: Connection refused"):
            HttpEndpoint(f"http://127.0.0.1:{port}", retry=NO_RETRY).infer("m", {"h": H})


class TestWhenTheLinkMisbehaves:
    def test_an_answer_cut_at_any_byte_is_an_error_and_never_a_wrong_answer(self, proxy: FaultProxy) -> None:
        whole = len(H.tobytes()) + 500
        for at in range(0, whole, 7):
            proxy.truncate_at = at
            endpoint = HttpEndpoint(proxy.url, retry=NO_RETRY)
            try:
                y = endpoint.infer("m", {"h": H}, expected=EXPECTED).outputs["y"]
            except EdgeError as error:
                assert isinstance(error, (EndpointUnreachable, InvalidAnswer)), f"byte {at}: {error!r}"
            else:
                np.testing.assert_array_equal(y, H * 3)
            endpoint.close()

    def test_a_garbled_head_is_an_error_of_ours_and_never_a_bare_one(self, proxy: FaultProxy) -> None:
        for at in range(0, 400, 5):
            proxy.garble_at = at
            endpoint = HttpEndpoint(proxy.url, retry=NO_RETRY)
            try:
                endpoint.infer("m", {"h": H}, expected=EXPECTED, deadline=Deadline.after(100))
            except EdgeError as error:
                assert "\n" not in str(error)
            endpoint.close()

    def test_a_link_that_stalls_in_the_middle_ends_at_the_deadline(self, proxy: FaultProxy) -> None:
        endpoint = HttpEndpoint(proxy.url)
        endpoint.infer("m", {"h": H})
        proxy.stall()
        with pytest.raises(DeadlineExceeded):
            endpoint.infer("m", {"h": np.zeros(10_000_000, np.float32)}, deadline=Deadline.after(200))

    def test_after_a_cut_the_next_request_connects_anew(self, proxy: FaultProxy) -> None:
        endpoint = HttpEndpoint(proxy.url, retry=NO_RETRY)
        endpoint.infer("m", {"h": H})
        proxy.cut()
        with pytest.raises(EndpointUnreachable):
            endpoint.infer("m", {"h": H})
        proxy.restore()
        np.testing.assert_array_equal(endpoint.infer("m", {"h": H}).outputs["y"], H * 3)


class TestWhatIsRefusedAtOnce:
    @pytest.mark.parametrize(
        "url",
        [
            "", "localhost:8000", "ftp://host", "http://", "http://host:port", "http://host:99999", "http://ho st",
            "http://user:secret@host", "http://host/?q=1", "http://host/#f", "http://host\r\nX: y", "http://[::1",
        ],
    )  # fmt: skip
    def test_addresses_that_are_none(self, url: str) -> None:
        with pytest.raises(InputError, match="endpoint"):
            HttpEndpoint(url)

    @pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "ü"])
    def test_tokens_that_no_header_can_carry(self, token: str) -> None:
        with pytest.raises(InputError, match="token"):
            HttpEndpoint("http://host", token=token)

    def test_an_array_that_the_protocol_cannot_carry(self, endpoint: HttpEndpoint) -> None:
        with pytest.raises(WireError):
            endpoint.infer("m", {"h": np.zeros(3, np.complex64)})
