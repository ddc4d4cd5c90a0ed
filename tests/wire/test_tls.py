"""Over TLS the endpoint is who it should be, and so is the device."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import DeadlineExceeded, EndpointUnreachable, InputError
from edge_sdk.wire.connections import TlsFiles
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.retry import NO_RETRY
from tests.wire.certificates import make_certificates
from tests.wire.endpoint_process import Handler

H = np.arange(200_000, dtype=np.float32)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def url(certificates: Path) -> Iterator[str]:
    """Of an endpoint that wants to see a certificate of `ca`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    Handler.mode = "well"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def device(url: str, folder: Path, ca: str | None = "ca.pem", name: str | None = "device") -> HttpEndpoint:
    files = TlsFiles(
        ca=str(folder / ca) if ca else None,
        certificate=str(folder / f"{name}.pem") if name else None,
        key=str(folder / f"{name}.key") if name else None,
    )
    return HttpEndpoint(url, tls=files, retry=NO_RETRY)


def test_tensors_travel_encrypted(url: str, certificates: Path) -> None:
    endpoint = device(url, certificates)
    for _ in range(3):
        np.testing.assert_array_equal(endpoint.infer("m", {"h": H}).outputs["y"], H * 3)
    endpoint.close()


@pytest.mark.parametrize("mode", ["stall", "drip"])
def test_a_deadline_ends_an_encrypted_request_too(url: str, certificates: Path, mode: str) -> None:
    endpoint = device(url, certificates)
    endpoint.infer("m", {"h": H})
    Handler.mode = mode
    with pytest.raises(DeadlineExceeded):
        endpoint.infer("m", {"h": H}, deadline=Deadline.after(200))


def test_an_endpoint_of_an_unknown_authority_is_not_spoken_to(url: str, certificates: Path) -> None:
    for ca in ("stranger-ca.pem", None):
        with pytest.raises(EndpointUnreachable, match=r"cannot connect.*certificate"):
            device(url, certificates, ca=ca).infer("m", {"h": H})


def test_a_certificate_for_another_host_is_not_accepted(url: str, certificates: Path) -> None:
    with pytest.raises(EndpointUnreachable, match=r"cannot connect.*(match|mismatch)"):
        device(url.replace("127.0.0.1", "localhost"), certificates).infer("m", {"h": H})


@pytest.mark.parametrize("name", [None, "stranger"])
def test_a_device_that_the_endpoint_does_not_know_gets_no_answer(
    url: str, certificates: Path, name: str | None
) -> None:
    with pytest.raises(EndpointUnreachable):
        device(url, certificates, name=name).infer("m", {"h": H})


def test_files_that_hold_no_certificate_are_named(certificates: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.pem"):
        device("https://127.0.0.1", certificates, ca="missing.pem")
    with pytest.raises(InputError, match=r"server\.key"):
        device("https://127.0.0.1", certificates, ca="server.key")


def test_a_sealed_key_is_told_and_no_pass_phrase_is_asked_for(certificates: Path) -> None:
    files = TlsFiles(certificate=str(certificates / "device.pem"), key=str(certificates / "sealed.key"))
    with pytest.raises(InputError, match=r"sealed\.key"):
        HttpEndpoint("https://127.0.0.1", tls=files)
