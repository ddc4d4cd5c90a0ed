"""Emulated ARM machines for the slow tests: `build` roots, `install` this checkout there, `run` a command on a core.

    python packaging/emulated_arm.py build
    python packaging/emulated_arm.py install --arch arm64
    python packaging/emulated_arm.py run --arch arm64 --cpu cortex-a76 -- edge-sdk device --json

Needs root, debootstrap, qemu-user-static and, for armhf, gcc-arm-linux-gnueabihf. See docs/arm.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from arm_machine import forget_binary_formats, run_command
from arm_roots import ARCHITECTURES, CHECKOUT, PROJECT, RootError, build_root, install_project

DEFAULT_FOLDER = CHECKOUT / ".cache" / "emulated-arm"
DEFAULT_MIRROR = "http://deb.debian.org/debian"
ASSETS = CHECKOUT.parent / "shared" / "assets"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=DEFAULT_FOLDER, help="folder of the roots (default: %(default)s)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="make the roots, or find them made")
    install = verbs.add_parser("install", help="build the wheel of this checkout and install it into the roots")
    for verb in (build, install):
        verb.add_argument("--arch", choices=[*ARCHITECTURES, "all"], default="all")
    build.add_argument("--mirror", default=os.environ.get("DEBIAN_MIRROR", DEFAULT_MIRROR), help="a Debian mirror")
    run = verbs.add_parser("run", help="run a command on an emulated machine")
    run.add_argument("--arch", choices=[*ARCHITECTURES], default="arm64")
    run.add_argument("--cpu", help="a core that `qemu-ARCH-static -cpu help` lists")
    run.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable to set there")
    run.add_argument("--bind", action="append", default=[], metavar="HOST:THERE", help="a folder to show there")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    verbs.add_parser("remove", help="delete the roots and take back what was registered with the kernel")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    architecture = ARCHITECTURES[arguments.arch]
    root = arguments.root / architecture.name
    if not root.is_dir():
        raise RootError(f"{root}: no such root; make it with: python packaging/emulated_arm.py build")
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise RootError("no command given; write it after --")
    binds = dict(_pair(text, ":") for text in arguments.bind)
    if ASSETS.is_dir():
        binds.setdefault(str(ASSETS), f"/{PROJECT}/../shared/assets")
    folder = f"/{PROJECT}" if (root / PROJECT).is_dir() else "/"
    return run_command(
        architecture,
        root,
        command,
        cpu=arguments.cpu or architecture.default_cpu,
        folder=folder,
        environment=dict(_pair(text, "=") for text in arguments.env),
        binds={Path(host): os.path.normpath(there) for host, there in binds.items()},
    )


def _pair(text: str, separator: str) -> tuple[str, str]:
    left, found, right = text.partition(separator)
    if not found:
        raise RootError(f"{text!r}: expected two parts with {separator!r} between them")
    return left, right


def main() -> int:
    """Runs one verb; gives the exit code."""
    arguments = _parser().parse_args()
    arguments.root = arguments.root.resolve()
    try:
        if arguments.verb == "run":
            return _run(arguments)
        if arguments.verb == "remove":
            forget_binary_formats()
            shutil.rmtree(arguments.root, ignore_errors=True)
            return 0
        arguments.root.mkdir(parents=True, exist_ok=True)
        for name, architecture in ARCHITECTURES.items():
            if arguments.arch in (name, "all"):
                if arguments.verb == "build":
                    print(build_root(architecture, arguments.root, arguments.mirror))
                else:
                    print(arguments.root / name, install_project(architecture, arguments.root))
    except RootError as error:
        print(f"emulated_arm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
