"""Makes a Debian root for an emulated ARM machine, without running one program of it.

debootstrap chooses, fetches and verifies Debian's packages; they are unpacked and never configured, since a
maintainer's script would run emulated. Python wheels of the target's platform are unpacked beside them by the host's
pip. A finished root carries the digest of its recipe and is made anew only when the recipe changes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["ARCHITECTURES", "Architecture", "RootError", "build_root", "install_project", "require_tools"]

CHECKOUT = Path(__file__).resolve().parents[1]
SUITE = "bookworm"
PYTHON_VERSION = "3.11"  # Debian bookworm's, and the newest that tflite-runtime has wheels for
SITE_PACKAGES = f"usr/local/lib/python{PYTHON_VERSION}/dist-packages"
PROJECT = "srv/edge-sdk"
RECIPE_FILE = "recipe.sha256"

TESTING = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
PURE_DEPENDENCIES = ("urllib3", "paho-mqtt", "tqdm")


class RootError(Exception):
    """One line: what is missing or failed, and what to do."""


@dataclass(frozen=True)
class Architecture:
    """One kind of emulated machine.

    Attributes:
        name: Debian's name, which is also the name of the root.
        machine: what `uname -m` says there.
        qemu: the emulator, a static binary.
        default_cpu: the core emulated unless another is asked for.
        debian: packages from Debian beside the minimal system.
        wheels: requirements for pip, resolved with their dependencies.
        lone_wheels: requirements taken without theirs, because Debian provides these.
        platforms: wheel tags that the root's C library satisfies.
        source_extensions: distributions without a wheel for this machine that the host cross-compiles.
    """

    name: str
    machine: str
    qemu: str
    default_cpu: str
    debian: tuple[str, ...]
    wheels: tuple[str, ...]
    platforms: tuple[str, ...]
    lone_wheels: tuple[str, ...] = ()
    source_extensions: tuple[str, ...] = ()

    def recipe(self) -> str:
        """Digest of all that decides what the root holds."""
        sources = [Path(__file__).read_text(), Path(__file__).with_name("arm_msgspec.py").read_text()]
        return hashlib.sha256(json.dumps([asdict(self), SUITE, sources]).encode()).hexdigest()


ARCHITECTURES = {
    "arm64": Architecture(
        name="arm64",
        machine="aarch64",
        qemu="qemu-aarch64-static",
        default_cpu="cortex-a72",
        debian=("python3", "libstdc++6", "ca-certificates"),
        wheels=(
            "numpy",
            "onnxruntime",
            "ai-edge-litert",
            "msgspec",
            "pyyaml",
            "onnx",
            "opencv-python-headless",
            *PURE_DEPENDENCIES,
            *TESTING,
        ),
        platforms=("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"),
    ),
    "armhf": Architecture(
        name="armhf",
        machine="armv7l",
        qemu="qemu-arm-static",
        default_cpu="cortex-a7",
        debian=(
            "python3",
            "python3-numpy",
            "python3-yaml",
            "libpython3.11-dev",
            "libstdc++6",
            "libatomic1",
            "ca-certificates",
        ),
        wheels=(*PURE_DEPENDENCIES, *TESTING, "flatbuffers"),
        lone_wheels=("tflite-runtime==2.14.0",),
        platforms=("manylinux2014_armv7l", "manylinux_2_17_armv7l", "manylinux_2_31_armv7l", "manylinux_2_34_armv7l"),
        source_extensions=("msgspec",),
    ),
}


def require_tools(architecture: Architecture) -> None:
    """Checks that the host has what building and running need.

    Raises:
        RootError: naming each tool that is missing and the Debian package that brings it.
    """
    packages = {
        "debootstrap": "debootstrap",
        architecture.qemu: "qemu-user-static",
        "dpkg-deb": "dpkg",
        "unshare": "util-linux",
    }
    if architecture.source_extensions:
        packages["arm-linux-gnueabihf-gcc"] = "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
    missing = {package for tool, package in packages.items() if find_tool(tool) is None}
    if missing:
        raise RootError(
            f"{architecture.name}: tools are missing on this host: apt-get install {' '.join(sorted(missing))}"
        )


def find_tool(name: str) -> str | None:
    """Path of a program of the host, also where /usr/sbin is not on the path."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")


def run_tool(*command: str | Path, log: Path | None = None) -> str:
    """Runs a program of the host and gives its standard output.

    Raises:
        RootError: it failed; the last line it wrote is in the message, all of them are in `log`.
    """
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip()
    if log is not None:
        with log.open("a") as file:
            file.write(f"$ {' '.join(str(part) for part in command)}\n{said}\n")
    if done.returncode != 0:
        last = said.splitlines()[-1] if said else "it said nothing"
        raise RootError(f"{Path(str(command[0])).name} failed with exit code {done.returncode}: {last}")
    return done.stdout


def build_root(architecture: Architecture, folder: Path, mirror: str) -> Path:
    """Makes the root, or finds it made already.

    Args:
        architecture: for which machine.
        folder: where roots, downloads and logs are kept.
        mirror: a Debian mirror's address.

    Returns:
        The root folder.

    Raises:
        RootError: a tool is missing, a download failed, or there is no right to make device nodes.
    """
    root = folder / architecture.name
    stamp = folder / f"{architecture.name}.{RECIPE_FILE}"
    if root.is_dir() and stamp.is_file() and stamp.read_text() == architecture.recipe():
        return root
    require_tools(architecture)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(root, ignore_errors=True)
    debs, log = folder / "debs" / architecture.name, folder / f"{architecture.name}.log"
    debs.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    _unpack_debian(architecture, root, debs, mirror, log)
    _install_wheels(architecture, root, folder, log)
    stamp.write_text(architecture.recipe())
    return root


def _unpack_debian(architecture: Architecture, root: Path, debs: Path, mirror: str, log: Path) -> None:
    run_tool(
        find_tool("debootstrap") or "debootstrap",
        f"--arch={architecture.name}",
        "--variant=minbase",
        "--foreign",
        f"--include={','.join(architecture.debian)}",
        f"--cache-dir={debs.resolve()}",
        SUITE,
        root,
        mirror,
        log=log,
    )
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", root], input=archive, check=True)
    shutil.rmtree(root / "var/cache/apt/archives")
    for name in ("proc", "sys", "dev"):  # inside a container debootstrap links these to the host's
        if (root / name).is_symlink():
            (root / name).unlink()
        (root / name).mkdir(exist_ok=True)
    for library in ("blas", "lapack"):  # update-alternatives, which nobody ran, would have made these links
        for real in root.glob(f"usr/lib/*/{library}/lib{library}.so.3"):
            link = real.parents[1] / real.name
            if not link.exists():
                link.symlink_to(f"{library}/{real.name}")


def _install_wheels(architecture: Architecture, root: Path, folder: Path, log: Path) -> None:
    pip_install(architecture, root, *architecture.wheels, log=log)
    if architecture.lone_wheels:
        pip_install(architecture, root, "--no-deps", *architecture.lone_wheels, log=log)
    if "msgspec" in architecture.source_extensions:
        from arm_msgspec import cross_compile_msgspec

        cross_compile_msgspec(root, root / SITE_PACKAGES, folder / "sources", log)


def pip_install(architecture: Architecture, root: Path, *arguments: str | Path, log: Path | None = None) -> None:
    """Unpacks wheels for the emulated machine into its root with the host's pip, and puts their commands on its path.

    Raises:
        RootError: there is no such wheel or no index in reach.
    """
    target = root / SITE_PACKAGES
    platforms = [f"--platform={tag}" for tag in architecture.platforms]
    choice = ["--python-version", PYTHON_VERSION, "--implementation", "cp", "--only-binary=:all:", *platforms]
    quiet: list[str | Path] = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--upgrade",
        "--target",
        target,
    ]
    run_tool(sys.executable, "-m", "pip", "install", *quiet, *choice, *arguments, log=log)
    commands = root / "usr/local/bin"
    commands.mkdir(parents=True, exist_ok=True)
    for script in (target / "bin").glob("*"):
        first, _, rest = script.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            (commands / script.name).write_bytes(b"#!/usr/bin/python3\n" + rest)
            (commands / script.name).chmod(0o755)
    shutil.rmtree(target / "bin", ignore_errors=True)


def install_project(architecture: Architecture, folder: Path) -> Path:
    """Builds the wheel of this checkout, installs it into the root and lays the tests beside it.

    Returns:
        The folder, as the emulated machine names it, that holds `tests` and `pyproject.toml`.

    Raises:
        RootError: the wheel cannot be built.
    """
    root, wheels = folder / architecture.name, folder / "wheels"
    log = folder / f"{architecture.name}.log"
    shutil.rmtree(wheels, ignore_errors=True)
    run_tool(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, CHECKOUT, log=log)
    (wheel,) = wheels.glob("edge_sdk-*.whl")
    for stale in (*(root / SITE_PACKAGES).glob("edge_sdk*"), root / SITE_PACKAGES / "device_profiles"):
        shutil.rmtree(stale, ignore_errors=True)
    pip_install(architecture, root, "--no-deps", "--no-index", "--force-reinstall", wheel, log=log)
    project = root / PROJECT
    shutil.rmtree(project, ignore_errors=True)
    for name in ("tests", "examples", "benchmarks"):
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", project)
    return Path("/") / PROJECT
