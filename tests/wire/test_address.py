"""`EndpointAddress`: what a device shows an endpoint, and that no text ever holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk import EndpointAddress
from edge_sdk.errors import EdgeError, InputError, InputValueError, UnreadableInput
from edge_sdk.wire.address import read_token

SECRET = "s3cret-token"


def test_no_text_form_holds_the_token() -> None:
    address = EndpointAddress("http://127.0.0.1:9", token=SECRET)
    client = address.open()
    for held in (address, client, client.name):
        assert SECRET not in f"{held} {held!r}"


@pytest.mark.parametrize("url", [f"http://me:{SECRET}@host", f"http://me:{SECRET}@host:port"])
def test_an_address_with_a_password_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InputError) as caught:
        EndpointAddress(url).open()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "schlüssel", "\x7f"])
def test_a_token_that_no_header_can_carry_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(InputError, match="the token is empty or holds") as caught:
        EndpointAddress("http://127.0.0.1:9", token=token).open()
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (EndpointAddress("http://host", ca="ca.pem"), "certificates are for https"),
        (EndpointAddress("https://host", key="device.key"), "a key is given without its certificate"),
        (EndpointAddress("https://host", ca="no/such/file"), "no/such/file"),
    ],
)
def test_files_that_cannot_be_used_are_refused(address: EndpointAddress, told: str) -> None:
    with pytest.raises(InputError, match=told):
        address.open()


def test_a_token_file_holds_one_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"# of the gate camera\n\n  {SECRET}  \n")
    assert read_token(file) == SECRET
    file.write_text(f"{SECRET}\nanother\n")
    with pytest.raises(InputValueError, match=r"token: holds 2 tokens; expected one") as caught:
        read_token(file)
    assert SECRET not in str(caught.value)
    with pytest.raises(UnreadableInput, match="missing"):
        read_token(tmp_path / "missing")


def test_every_refusal_is_an_edge_error_of_one_line() -> None:
    for url in ("", "host", "ftp://host", "http://", "http://host?query", "https://[::1"):
        with pytest.raises(EdgeError) as caught:
            EndpointAddress(url).open()
        assert "\n" not in str(caught.value)
