"""Cross-compiles msgspec for armv7l, for which the Python package index has no wheel.

msgspec is Python beside one C file without dependencies. The Python part and the metadata come from the wheel for the
host, the C file from the source archive of the same version, the headers from the root.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

from arm_roots import RootError, run_tool

__all__ = ["cross_compile_msgspec"]

REQUIREMENT = "msgspec>=0.19"
EXTENSION = "_core.cpython-311-arm-linux-gnueabihf.so"


def cross_compile_msgspec(root: Path, target: Path, folder: Path, log: Path) -> None:
    """Puts msgspec for armv7l and CPython 3.11 into `target`.

    Args:
        root: an armhf root with the headers of Python 3.11.
        target: the root's folder of installed distributions.
        folder: where downloads are kept.
        log: file that what pip and the compiler say is added to.

    Raises:
        RootError: a download or the compiler failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder)
    host = ("--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64")
    run_tool(*download, *host, REQUIREMENT, log=log)
    wheel = _only(folder, "msgspec-*.whl")
    version = wheel.name.split("-")[1]
    run_tool(*download, "--no-binary=:all:", f"msgspec=={version}", log=log)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    for foreign in (target / "msgspec").glob("*.so"):
        foreign.unlink()
    with tarfile.open(_only(folder, "msgspec-*.tar.gz")) as archive:
        archive.extractall(folder, filter="data")
    include = root / "usr/include"
    run_tool(
        *("arm-linux-gnueabihf-gcc", "-shared", "-fPIC", "-O2", "-g0"),
        *("-I", include / "python3.11", "-idirafter", include),
        folder / f"msgspec-{version}/src/msgspec/_core.c",
        *("-lm", "-o", target / "msgspec" / EXTENSION),
        log=log,
    )
    for tag in target.glob("msgspec-*.dist-info/WHEEL"):
        lines = [line for line in tag.read_text().splitlines() if not line.startswith("Tag:")]
        tag.write_text("\n".join([*(line for line in lines if line), "Tag: cp311-cp311-linux_armv7l"]) + "\n")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise RootError(f"{folder}: {len(found)} files match {pattern}, expected one")
    return found[0]
