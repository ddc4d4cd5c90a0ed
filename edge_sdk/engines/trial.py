"""The first load of an unknown file happens in a child process, so that a file which crashes an engine's native loader
or kernels never takes the caller's process with it.

The structure check of `edge_sdk.formats` refuses most damaged files before. What is left is tried once: the child loads
the file and runs it on made-up inputs. An ordinary exception there counts as survived, since the caller's process will
meet the same exception and tell it; a fatal signal, or a load that never ends, condemns the file. The verdict is
remembered by the file's hash, the engine's version and the ISA.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_sdk.engines.base import CustomOps, Engine, LoadOptions
from edge_sdk.engines.graph_cache import isa_key
from edge_sdk.errors import DamagedModel, EdgeError, StorageError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.storage import cache_folder, write_whole

__all__ = ["require_trial"]

LOAD_TIMEOUT_S = 120.0
RUN_TIMEOUT_S = 10.0
_LOADED = b"loaded"
_FATAL = frozenset({"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGSYS"})


def require_trial(model: ModelFile, engine: Engine, custom_ops: Sequence[CustomOps] = ()) -> None:
    """Makes sure that `model` was loaded and run once by `engine` in a child process.

    Raises:
        DamagedModel: it crashed the child, or never finished loading there.
    """
    verdict_file = _verdict_file(model, engine)
    verdict = _read(verdict_file)
    if verdict is None:
        verdict = _try(model, engine, custom_ops)
        if verdict_file is not None and verdict["keep"]:
            try:
                write_whole(verdict_file, json.dumps(verdict).encode())
            except StorageError:
                pass  # tried again next time
    if verdict["why"]:
        raise DamagedModel(
            f"{model.name}: {verdict['why']} in a trial in a child process; the file is damaged or meant for another"
            f" engine: export or copy it again (trusted=True skips the trial, at the risk of this process)"
        )


def _verdict_file(model: ModelFile, engine: Engine) -> Path | None:
    text = "\n".join((model.fingerprint, engine.name, str(engine.version()), isa_key()))
    try:
        return cache_folder("trials") / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    except StorageError:
        return None


def _read(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        verdict = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return verdict if isinstance(verdict, dict) and isinstance(verdict.get("why"), str) else None


def _try(model: ModelFile, engine: Engine, custom_ops: Sequence[CustomOps]) -> dict[str, Any]:
    if not sys.executable:
        return {"why": "", "keep": False}  # an interpreter inside another program: there is no child to be had
    task = {
        "engine": engine.name,
        "path": str(model.path.resolve()) if model.path is not None else None,
        "name": model.name,
        "custom_ops": [[library.path, library.sha256] for library in custom_ops],
    }
    package_root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.append({package_root!r}); from edge_sdk.engines.trial import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(task)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        return _watch(child, b"" if model.path is not None else bytes(model.content()))


def _watch(child: subprocess.Popen[bytes], content: bytes) -> dict[str, Any]:
    try:
        said, _ = child.communicate(content, timeout=LOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
        loaded = _LOADED in said
        # A model may compute for long on made-up inputs; only a load that does not end speaks against the file.
        return {"why": "" if loaded else f"loading did not end within {LOAD_TIMEOUT_S:.0f} s", "keep": loaded}
    if child.returncode >= 0:
        return {"why": "", "keep": True}
    try:
        name = signal.Signals(-child.returncode).name
    except ValueError:
        name = f"signal {-child.returncode}"
    if name not in _FATAL:
        # SIGKILL, SIGTERM: somebody else's doing (out of memory, shutdown), which says nothing about the file.
        return {"why": "", "keep": False}
    doing = "running" if _LOADED in said else "loading"
    return {"why": f"{doing} it crashed ({name})", "keep": True}


def main() -> None:
    """The child: loads the model described in `argv[1]`, runs it once, and leaves without clean-up."""
    task = json.loads(sys.argv[1])
    _limit_memory()
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    from edge_sdk.engines.registry import find_engine
    from edge_sdk.engines.samples import made_up_feeds

    try:
        model = open_model(task["path"] or sys.stdin.buffer.read(), name=task["name"])
        custom_ops = tuple(CustomOps(path, sha256) for path, sha256 in task["custom_ops"])
        runner = find_engine(task["engine"]).load(model, LoadOptions(threads=1, custom_ops=custom_ops, cache=False))
        os.write(1, _LOADED)
        signal.setitimer(signal.ITIMER_REAL, RUN_TIMEOUT_S)
        runner.run(made_up_feeds(runner.inputs, runner.optional_inputs))
    except (EdgeError, MemoryError):
        pass  # the caller's process will meet the same and tell it
    os._exit(0)


def _limit_memory() -> None:
    """Keeps a damaged size field from filling the machine's memory."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if sys.maxsize > 2**32 and total > 0:
        resource.setrlimit(resource.RLIMIT_AS, (total + 4 * 2**30, resource.RLIM_INFINITY))
