"""`edge-sdk serve`: what keeps it from starting is one line."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cloud_offload.settings import VersionPolicy
from edge_sdk.cli import main
from edge_sdk.errors import InputError


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "none"), "--port", "0"]) == 1
    assert "none" in capsys.readouterr().err.splitlines()[-1]


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main(["serve", str(tmp_path), "--port", str(other.getsockname()[1])]) == 1
    assert "cannot be listened on" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--token-file", "--tls-cert"])
def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert main(["serve", str(tmp_path), "--port", "0", flag, str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err.splitlines()[-1]


def test_a_token_file_without_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokens").write_text("# none yet\n")
    assert main(["serve", str(tmp_path), "--port", "0", "--token-file", str(tmp_path / "tokens")]) == 1
    assert "holds no token" in capsys.readouterr().err


def test_a_client_ca_needs_a_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path), "--port", "0", "--client-ca", "ca.pem"]) == 1
    assert "--tls-cert" in capsys.readouterr().err


def test_version_policies() -> None:
    assert VersionPolicy.parse("all").choose((1, 2, 3)) == (1, 2, 3)
    assert VersionPolicy.parse("latest:2").choose((1, 2, 3)) == (2, 3)
    assert VersionPolicy.parse("1,3,9").choose((1, 2, 3)) == (1, 3)
    for text in ("", "latest", "latest:0", "latest:x", "-1", "1,,2", "٣"):
        with pytest.raises(InputError):
            VersionPolicy.parse(text)
