"""Weighs the base install: builds the wheel, installs it into an empty environment, counts and weighs all that came.

    python packaging/weigh.py
    python packaging/weigh.py --json --venv /tmp/weighed

The environment has no pip of its own, so everything in it came with edge-sdk. Sizes are bytes of files as installed,
compiled modules among them; 1 MB is 10^6 bytes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import venv
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Weight:
    """One distribution and the bytes of its files."""

    name: str
    version: str
    bytes: int


@dataclass(frozen=True)
class Weights:
    """All that pip brought. `bytes` also counts files that no distribution lists."""

    bytes: int
    distributions: tuple[Weight, ...]


class WeighingError(Exception):
    """One line: which step failed and what it said."""


def run_python(*arguments: str | Path) -> str:
    """Runs this interpreter and gives its standard output.

    Raises:
        WeighingError: it failed.
    """
    command = [sys.executable, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise WeighingError(f"python {' '.join(command[1:4])} … failed with exit code {done.returncode}: {last}")
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """Builds the wheel of this checkout into `folder`.

    Raises:
        WeighingError: the build failed.
    """
    run_python("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, CHECKOUT)
    (wheel,) = folder.glob("edge_sdk-*.whl")
    return wheel


def install(wheel: Path, environment: Path) -> Path:
    """Installs `wheel` and what it requires into a new environment without pip; gives its site-packages.

    Raises:
        WeighingError: a requirement cannot be had.
    """
    venv.create(environment, with_pip=False, clear=True, symlinks=True)
    interpreter = environment / "bin" / "python"
    run_python("-m", "pip", "--python", interpreter, "--disable-pip-version-check", "install", "--quiet", wheel)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    return site_packages


def weigh(site_packages: Path) -> Weights:
    """Counts and weighs the distributions in `site_packages`, heaviest first."""
    rows = []
    for distribution in importlib.metadata.distributions(path=[str(site_packages)]):
        located = [Path(str(file.locate())) for file in distribution.files or ()]
        size = sum(path.stat().st_size for path in located if path.is_file())
        rows.append(Weight(distribution.metadata["Name"], distribution.version, size))
    total = sum(path.stat().st_size for path in site_packages.rglob("*") if path.is_file() and not path.is_symlink())
    return Weights(total, tuple(sorted(rows, key=lambda row: -row.bytes)))


def main() -> int:
    """Prints the weights; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--venv", type=Path, help="keep the environment and the wheel here (default: a temporary folder)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-sdk-weigh-") as name:
        folder = arguments.venv or Path(name) / "venv"
        try:
            wheel = build_wheel(Path(name))
            weights = weigh(install(wheel, folder))
            if arguments.venv:
                (folder / wheel.name).write_bytes(wheel.read_bytes())
        except WeighingError as error:
            print(f"weigh: {error}", file=sys.stderr)
            return 1
    if arguments.json:
        print(json.dumps({"wheel": wheel.name, "count": len(weights.distributions)} | asdict(weights)))
        return 0
    for row in weights.distributions:
        print(f"{row.bytes / 1e6:8.1f} MB  {row.name} {row.version}")
    print(f"{weights.bytes / 1e6:8.1f} MB  in {len(weights.distributions)} distributions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
