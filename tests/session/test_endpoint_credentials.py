"""Token, authority and client certificate with `load` and `edge-sdk run`, against `edge-sdk serve` that wants all."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import edge_sdk
from edge_sdk import EndpointAddress
from edge_sdk.cli import main
from edge_sdk.cli.endpoint_options import TOKEN_VARIABLE, add_credentials, endpoint_addresses
from tests import models
from tests.cloud_offload.endpoints import Endpoint, put, start_endpoint
from tests.wire.certificates import make_certificates

SECRET = "s3cret-token"
X = np.random.default_rng(0).standard_normal((1, 8), np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, `token`, `wrong-token`, `mlp.onnx` and `x.npy`."""
    folder = make_certificates(tmp_path_factory.mktemp("certificates"))
    (folder / "token").write_text(SECRET + "\n")
    (folder / "wrong-token").write_text("another\n")
    (folder / "mlp.onnx").write_bytes(models.onnx_mlp())
    np.save(folder / "x.npy", X)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Answers only those that show the token and a certificate of the authority."""
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "mlp", models.onnx_mlp())
    tls = ("--tls-cert", "server.pem", "--tls-key", "server.key", "--client-ca", "ca.pem", "--token-file", "token")
    arguments = [word if word.startswith("--") else str(folder / word) for word in tls]
    endpoint = start_endpoint(repository, tmp_path_factory.mktemp("cache"), *arguments)
    with edge_sdk.load(
        folder / "mlp.onnx", plan_budget_s=0, endpoints=[address(endpoint, folder)], codec="none"
    ) as session:
        while not (figures := session.split_figures()) or not figures.remote:  # until the tail is made
            session.run(X)
    yield endpoint
    endpoint.process.kill()
    endpoint.process.wait()


def address(server: Endpoint, folder: Path, token: str | None = SECRET, name: str = "device") -> EndpointAddress:
    return EndpointAddress(
        server.url, token=token, ca=folder / "ca.pem", cert=folder / f"{name}.pem", key=folder / f"{name}.key"
    )


def remote_of(place: str | EndpointAddress, folder: Path, until: int = 1) -> tuple[int, str, str]:
    """Asks until `until` requests were answered there, 20 times at most: how many were, the failure, the reason."""
    with edge_sdk.load(folder / "mlp.onnx", plan_budget_s=0, endpoints=[place], codec="none") as session:
        for _ in range(20):
            session.run(X)
            figures = session.split_figures()
            assert figures is not None
            if figures.remote >= until:
                break
        return figures.remote, figures.failure, session.plan.reason


def test_with_all_credentials_the_endpoint_answers_and_no_text_holds_the_token(
    server: Endpoint, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        remote, failure, reason = remote_of(address(server, folder), folder)
    assert remote > 0
    assert SECRET not in failure + reason + caplog.text


@pytest.mark.parametrize(
    ("token", "name", "told"),
    [(None, "device", "401"), ("another", "device", "401"), (SECRET, "stranger", "broke|ended|connect")],
)
def test_without_one_of_them_every_request_is_answered_here_and_the_failure_says_why(
    server: Endpoint, folder: Path, token: str | None, name: str, told: str
) -> None:
    remote, failure, reason = remote_of(address(server, folder, token, name), folder)
    assert remote == 0
    assert any(word in failure for word in told.split("|")), failure
    assert SECRET not in failure + reason


def test_without_the_authority_the_endpoint_is_not_spoken_to(server: Endpoint, folder: Path) -> None:
    remote, failure, _ = remote_of(server.url, folder)
    assert remote == 0
    assert "certificate" in failure


# --- the command ---


def run(server: Endpoint, folder: Path, *flags: str) -> int:
    paths = [flag if flag.startswith("--") else str(folder / flag) for flag in flags]
    model, x = str(folder / "mlp.onnx"), [str(folder / "x.npy")] * 6
    return main(
        ["run", model, "--plan-budget", "0", "--codec", "none", "--endpoint", server.url, *paths, "--input", *x]
    )


TLS = ("--ca", "ca.pem", "--client-cert", "device.pem", "--client-key", "device.key")


def answered(text: str) -> int:
    return int(text.partition("answered by an endpoint ")[2].partition(",")[0])


def test_the_command_takes_the_token_from_a_file_or_the_environment(
    server: Endpoint, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(server, folder, *TLS, "--token-file", "token") == 0
    by_file = capsys.readouterr()
    monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
    assert run(server, folder, *TLS) == 0
    by_variable = capsys.readouterr()
    assert run(server, folder, *TLS, "--token-file", "wrong-token") == 0
    refused = capsys.readouterr()

    assert answered(by_file.out) > 0 and answered(by_variable.out) > 0
    assert answered(refused.out) == 0 and "401" in refused.out
    for captured in (by_file, by_variable, refused):
        assert SECRET not in captured.out + captured.err
        assert "warning" not in captured.err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--token-file", "missing"), "missing: cannot be read"),
        (("--ca", "missing"), "missing: certificates cannot be read"),
        (("--ca", "ca.key"), "certificates cannot be read"),
        (("--client-key", "device.key"), "a key is given without its certificate"),
        (("--client-cert", "device.pem", "--client-key", "server.key"), "certificates cannot be read"),
        (("--client-cert", "device.pem", "--client-key", "sealed.key"), "certificates cannot be read"),
    ],
)
def test_files_that_cannot_be_used_end_the_command_with_one_line(
    server: Endpoint, folder: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], told: str
) -> None:
    assert run(server, folder, *flags) == 1
    line = capsys.readouterr().err
    assert told in line and line.count("\n") == 1


def test_flags_that_no_endpoint_can_use_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["run", str(folder / "mlp.onnx"), "--input", str(folder / "x.npy"), "--plan-budget", "0"]
    assert main([*asked, "--ca", str(folder / "ca.pem")]) == 1
    assert "--ca is given without an endpoint" in capsys.readouterr().err
    assert main([*asked, "--endpoint", "http://127.0.0.1:9", "--ca", str(folder / "ca.pem")]) == 1
    assert "no endpoint has such an address" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "warned"), [("gate.example", True), ("127.0.0.1", False), ("[::1]", False)])
def test_a_token_that_leaves_the_machine_as_plain_text_is_warned_of(
    folder: Path, capsys: pytest.CaptureFixture[str], host: str, warned: bool
) -> None:
    parser = argparse.ArgumentParser()
    add_credentials(parser)
    arguments = parser.parse_args(["--token-file", str(folder / "token")])
    (address,) = endpoint_addresses([f"http://{host}:9"], arguments)
    told = capsys.readouterr().err
    assert address.token == SECRET and SECRET not in told
    assert (f"the token travels to http://{host}:9 as plain text" in told) == warned
