"""Proof that an accelerator works: a small model runs there, in a child process that may hang or crash.

Drivers hang, abort and fall back to the CPU without a word, so finding one proves nothing. The child loads a model of
one convolution on the accelerator alone, checks where the engine ran it, and compares the result with the CPU's. The
verdict is kept for the next start.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.device.facts import Accelerator
from edge_sdk.engines.proof_verdicts import Verdict, keep_verdict, read_verdict, recall, verdict_file, with_verdict

__all__ = ["prove", "recall"]

_KEPT_BYTES = 64 * 1024
"""How much of what the child writes is kept, from its end: a driver may write without end."""

_ADAPTER = re.compile(r"Selected adapter: ([^,\n]+)[^\n]*adapterType=([^\n]+)")
_LOG_PREFIX = re.compile(r"^(?:[A-Z]+: )?(?:[IWEF]\d{4} [^\]]*\] |\[[^\]]*\] )?")
_COMPLAINT = re.compile(
    r"^.*(?:\b[Ee]rror\b|ERROR|[Ff]ailed|[Cc]annot|[Cc]ould not|[Aa]bort|terminate called|^[EF]\d{4} ).*$", re.MULTILINE
)


def prove(
    accelerators: Iterable[Accelerator],
    *,
    timeout_s: float = 30.0,
    cache: bool = True,
    retry: bool = False,
    fingerprint: str | None = None,
) -> tuple[Accelerator, ...]:
    """Runs a small model on each accelerator that is present, one after the other.

    Args:
        accelerators: as `find_accelerators` returns them.
        timeout_s: how long one child may take, in seconds; then it is killed.
        cache: whether verdicts are kept and believed: a success until the device, the engine or the driver changes, a
            failure for a day.
        retry: try again what failed before.
        fingerprint: of the device; probed where None.

    Returns:
        The same accelerators in the same order. `usable` is True or False with the reason in `why`; it stays None
        where the accelerator is not present, or where no model that it could run is at hand.
    """
    given = tuple(accelerators)
    if cache and fingerprint is None and any(accelerator.present for accelerator in given):
        fingerprint = _this_device()
    return tuple(_prove_one(accelerator, timeout_s, cache, retry, fingerprint or "") for accelerator in given)


def _this_device() -> str:
    from edge_sdk.device import probe
    from edge_sdk.engines.registry import engine_versions

    return probe(engines=engine_versions()).fingerprint


def _prove_one(accelerator: Accelerator, timeout_s: float, cache: bool, retry: bool, fingerprint: str) -> Accelerator:
    if not accelerator.present:
        return accelerator
    kept_file = verdict_file(accelerator, fingerprint) if cache else None
    verdict = read_verdict(kept_file)
    if verdict is None or (retry and not verdict.usable):
        verdict = _run_child(accelerator, timeout_s)
        keep_verdict(kept_file, verdict)
    return with_verdict(accelerator, verdict)


# --- the child --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Said:
    """What the child wrote, and whether it ended by itself."""

    out: bytes
    err: bytes
    ended: bool


def _run_child(accelerator: Accelerator, timeout_s: float) -> Verdict:
    at_s = time.time()
    if not sys.executable:
        return Verdict(None, "this process has no Python interpreter to start a child with", at_s)
    package_root = str(Path(__file__).resolve().parents[2])
    program = f"import sys; sys.path.append({package_root!r}); from edge_sdk.engines.proof_child import main; main()"
    task = json.dumps({"engine": accelerator.engine, "name": accelerator.name, "kind": accelerator.kind})
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", program, task],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that helpers which a driver starts die with it
        )
    except OSError as error:
        return Verdict(None, f"no child process can be started: {error.strerror}", at_s)
    with child:
        try:
            said = _watch(child, timeout_s)
        finally:
            _kill(child)
        code = child.returncode if said.ended else None
    return msgspec.structs.replace(_judge(said, code, timeout_s, accelerator.kind), at_s=at_s)


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    # Looks without reaping: until it is reaped, the number of its process group belongs to nobody else.
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Ends the child, if it has not ended, and whatever it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    child.wait()


def _watch(child: subprocess.Popen[bytes], timeout_s: float) -> _Said:
    """Reads both pipes until the child ends or its time is up, keeping the last part of each."""
    kept = {child.stdout: b"", child.stderr: b""}
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        for pipe in kept:
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ)
        while True:
            ended = _has_ended(child)
            left = deadline - time.monotonic()
            if left <= 0 and not ended:
                break
            # Looks at the child ten times a second: pidfds, which could be awaited, need Linux 5.3. After its end only
            # what is there already is read, since a grandchild may hold the pipes open.
            events = selector.select(0 if ended else min(left, 0.1))
            if ended and (not events or left <= 0):
                break
            for key, _ in events:
                content = os.read(key.fd, 65536)
                if not content:
                    selector.unregister(key.fileobj)
                kept[key.fileobj] = (kept[key.fileobj] + content)[-_KEPT_BYTES:]  # type: ignore[index]
    return _Said(kept[child.stdout], kept[child.stderr], ended)


def _judge(said: _Said, code: int | None, timeout_s: float, kind: str) -> Verdict:
    """The verdict by the child's last words, or else by its exit code (None where it had to be killed)."""
    stage = "starting"
    for line in said.out.splitlines():
        message = _message(line)
        if "stage" in message:
            stage = str(message["stage"])
        elif "why" in message:
            usable = message.get("usable")
            why = str(message["why"]) + _adapter(said.err)
            if usable is False:
                why += _complaint(said.err, kind, why)
            return Verdict(usable if isinstance(usable, bool) else None, _one_line(why))
    if code is None:
        return Verdict(False, f"did not end within {timeout_s:g} s while {stage}; the child process was killed")
    if code < 0:
        return Verdict(False, _one_line(f"crashed ({_signal_name(-code)}) while {stage}{_complaint(said.err, kind)}"))
    return Verdict(False, _one_line(f"ended (exit code {code}) while {stage}{_complaint(said.err, kind)}"))


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _adapter(err: bytes) -> str:
    found = _ADAPTER.search(err.decode(errors="replace"))
    if found is None:
        return ""
    software = "software" in found[2].lower() or "cpu" in found[2].lower()
    return f"; adapter {found[1].strip()}" + (", which is software and computes on the CPU cores" if software else "")


def _complaint(err: bytes, kind: str, known: str = "") -> str:
    """What on the child's stderr sounds like the reason: its first two complaints, or else its last warning."""
    told: dict[str, None] = {}
    warned = ""
    for line in _COMPLAINT.findall(err.decode(errors="replace")):
        text = _LOG_PREFIX.sub("", line.strip(" \t└│")).strip()[:300]
        if not text or text in known or text.endswith(("]", ":")):  # a place in some source, not a reason
            continue
        if kind != "npu" and ("CompilerPlugin" in line or "NPU" in line):  # LiteRT looks for vendors' NPUs each time
            continue
        if line.startswith("WARNING"):
            warned = text
        else:
            told.setdefault(text)
    reasons = list(told)[:2] or [warned] * bool(warned)
    return f": {'; '.join(reasons)}" if reasons else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:600]
