"""Runs a command on an emulated ARM machine: a root, a core, and a mount namespace that ends with the command."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from arm_kernel import READ_REGISTERS, Registers, write_kernel_files
from arm_roots import Architecture, RootError, find_tool

__all__ = ["forget_binary_formats", "read_registers", "run_command"]

BINFMT = Path("/proc/sys/fs/binfmt_misc")
ELF_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
ELF_MAGIC = {
    "arm64": r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    "armhf": r"\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00",
}
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "EDGE_SDK_EMULATED": "1",
}


def _register_binary_format(architecture: Architecture) -> None:
    """Tells the kernel to open the emulator for programs of this architecture, also below a chroot (flag F), so that an
    emulated program can start others. A handler of the host with that flag is left as it is."""
    if not (BINFMT / "register").exists():
        done = subprocess.run(
            ["mount", "-t", "binfmt_misc", "none", BINFMT], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RootError(f"{BINFMT}: cannot be mounted ({done.stderr.strip()}); run as root on the machine itself")
    magic = ELF_MAGIC[architecture.name].encode().decode("unicode_escape").encode("latin-1").hex()
    for entry in BINFMT.iterdir():
        if entry.name not in ("register", "status"):
            told = entry.read_text()
            flags = next((line for line in told.splitlines() if line.startswith("flags:")), "")
            if told.startswith("enabled") and f"magic {magic}" in told and "F" in flags[len("flags:") :]:
                return
    emulator = find_tool(architecture.qemu)
    if emulator is None:
        raise RootError(f"{architecture.qemu} is missing: apt-get install qemu-user-static")
    line = f":{_format_name(architecture.name)}:M::{ELF_MAGIC[architecture.name]}:{ELF_MASK}:{emulator}:F"
    try:
        (BINFMT / "register").write_text(line)
    except FileExistsError:
        return  # another run was faster
    except OSError as error:
        raise RootError(f"{BINFMT}: {error.strerror}: emulation needs root") from error


def _format_name(architecture: str) -> str:
    return f"edge-sdk-{architecture}"


def forget_binary_formats() -> None:
    """Takes back what runs have registered with the kernel."""
    for name in ELF_MAGIC:
        entry = BINFMT / _format_name(name)
        if entry.exists():
            entry.write_text("-1")


def read_registers(architecture: Architecture, root: Path, cpu: str) -> Registers:
    """Asks the emulated core for its registers.

    Raises:
        RootError: there is no right to emulate here, or the emulator has no such core.
    """
    _register_binary_format(architecture)
    command = ["chroot", str(root), "/usr/bin/python3", "-c", READ_REGISTERS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**ENVIRONMENT, "QEMU_CPU": cpu})
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RootError(f"{architecture.name}: {cpu} cannot be emulated: {last}")
    return Registers.from_answer(done.stdout, cpu)


def run_command(
    architecture: Architecture,
    root: Path,
    command: Sequence[str],
    cpu: str,
    folder: str = "/",
    environment: Mapping[str, str] | None = None,
    binds: Mapping[Path, str] | None = None,
) -> int:
    """Runs `command` on the emulated machine, with this process's standard streams.

    Args:
        architecture: of the root.
        root: made by `build_root`.
        command: program and arguments, as the emulated machine names them.
        cpu: name of the core, as `qemu -cpu` knows it.
        folder: working folder there.
        environment: variables beside the standard ones.
        binds: folders of the host to show there: host folder to absolute path.

    Returns:
        The command's exit code.

    Raises:
        RootError: there is no right to emulate here, or the emulator has no such core.
    """
    registers = read_registers(architecture, root, cpu)
    with tempfile.TemporaryDirectory(prefix="edge-sdk-kernel-") as name:
        kernel = Path(name)
        write_kernel_files(registers, sorted(os.sched_getaffinity(0)), kernel)
        variables = {**ENVIRONMENT, **(environment or {}), "QEMU_CPU": cpu}
        script = "\n".join(
            [
                "set -e",
                *_mounts(root, kernel, binds or {}),
                f'exec chroot {shlex.quote(str(root))} /bin/sh -c \'cd "$0" && exec "$@"\' "$@"',
            ]
        )
        unshare = ["unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", script, "sh"]
        return subprocess.run([*unshare, folder, *command], env=variables, check=False).returncode


def _mounts(root: Path, kernel: Path, binds: Mapping[Path, str]) -> list[str]:
    """Lines of shell that lay the kernel's files and the host's folders into the root."""
    pairs = [
        ("--rbind", Path("/dev"), "dev"),
        ("--bind", Path("/proc"), "proc"),
        ("--bind", kernel / "cpuinfo", "proc/cpuinfo"),
        ("--bind", kernel / "sys", "sys"),
        *(("--bind", host.resolve(), there.lstrip("/")) for host, there in binds.items()),
    ]
    lines = []
    for kind, host, there in pairs:
        target = root / there
        if host.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        lines.append(f"mount {kind} {shlex.quote(str(host))} {shlex.quote(str(target))}")
    return lines
