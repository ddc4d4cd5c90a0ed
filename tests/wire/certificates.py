"""Certificates for tests, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["make_certificates"]


def make_certificates(folder: Path) -> Path:
    """`ca.pem`, `server.pem` for 127.0.0.1, `device.pem`; `stranger.pem` of another authority; each with its key.

    `sealed.key` is the device's key under a pass phrase.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for authority in ("ca", "stranger-ca"):
        run("req", "-x509", *key, "-subj", f"/CN={authority}",
            "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-addext", "keyUsage=keyCertSign")  # fmt: skip
    for name, authority in (("server", "ca"), ("device", "ca"), ("stranger", "stranger-ca")):
        run("req", "-x509", *key, "-subj", f"/CN={name}", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
            "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
            "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    run("pkey", "-in", "device.key", "-aes256", "-passout", "pass:open sesame", "-out", "sealed.key")
    return folder
