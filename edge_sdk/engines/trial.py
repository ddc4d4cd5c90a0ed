"""The first load of an unknown file happens in a child process, so that a file which crashes an engine's native loader
or kernels never takes the caller's process with it; likewise the first use of an accelerator, whose driver may.

The structure check of `edge_sdk.formats` refuses most damaged files before. What is left is tried once: the child loads
the file and runs it on made-up inputs. An ordinary exception there counts as survived, since the caller's process will
meet the same exception and tell it; a fatal signal, or a load that never ends, condemns the file or the accelerator.
The verdict is remembered by the file's hash, the engine's version, the ISA and the accelerator.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_sdk.engines.base import CustomOps, Engine, LoadOptions
from edge_sdk.engines.graph_cache import isa_key
from edge_sdk.errors import AcceleratorError, DamagedModel, EdgeError, StorageError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.storage import cache_folder, write_whole

__all__ = ["require_trial"]

LOAD_TIMEOUT_S = 120.0
RUN_TIMEOUT_S = 10.0
_LOADED = b"loaded"
_FATAL = frozenset({"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGSYS"})


def require_trial(model: ModelFile, engine: Engine, options: LoadOptions) -> None:
    """Makes sure that `model` was loaded and run once by `engine` on `options.accelerator` in a child process.

    Raises:
        DamagedModel: it crashed the child on the CPU, or never finished loading there.
        AcceleratorError: the accelerator crashed the child, or did not finish.
    """
    verdict_file = _verdict_file(model, engine, options)
    verdict = _read(verdict_file)
    if verdict is None:
        verdict = _try(model, engine, options)
        if verdict_file is not None and verdict["keep"]:
            try:
                write_whole(verdict_file, json.dumps(verdict).encode())
            except StorageError:
                pass  # tried again next time
    if not verdict["why"]:
        return
    what = f"{verdict['why']} in a trial in a child process"
    if options.accelerator != "cpu":
        raise AcceleratorError(f"{model.name}: accelerator {options.accelerator!r}: {what}")
    raise DamagedModel(
        f"{model.name}: {what}; the file is damaged or meant for another engine: export or copy it again"
        " (trusted=True skips the trial, at the risk of this process)"
    )


def _verdict_file(model: ModelFile, engine: Engine, options: LoadOptions) -> Path | None:
    on = (options.accelerator, str(sorted(options.accelerator_options.items())))
    text = "\n".join((model.fingerprint, engine.name, str(engine.version()), isa_key(), *on))
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


def _try(model: ModelFile, engine: Engine, options: LoadOptions) -> dict[str, Any]:
    if not sys.executable:
        return {"why": "", "keep": False}  # an interpreter inside another program: there is no child to be had
    task = {
        "engine": engine.name,
        "path": str(model.path.resolve()) if model.path is not None else None,
        "name": model.name,
        "custom_ops": [[library.path, library.sha256] for library in options.custom_ops],
        "accelerator": options.accelerator,
        "accelerator_options": dict(options.accelerator_options),
    }
    package_root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.append({package_root!r}); from edge_sdk.engines.trial import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(task)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        content = b"" if model.path is not None else bytes(model.content())
        return _watch(child, content, may_take_long=options.accelerator == "cpu")


def _watch(child: subprocess.Popen[bytes], content: bytes, may_take_long: bool = True) -> dict[str, Any]:
    try:
        said, _ = child.communicate(content, timeout=LOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
        return {"why": f"loading did not end within {LOAD_TIMEOUT_S:.0f} s", "keep": False}
    if child.returncode >= 0:
        return {"why": "", "keep": True}
    try:
        name = signal.Signals(-child.returncode).name
    except ValueError:
        name = f"signal {-child.returncode}"
    if name == "SIGALRM":
        # A model may compute for long on made-up inputs, which says nothing against the file; an accelerator that is
        # slower than this, or hangs, is not worth waiting for.
        why = "" if may_take_long else f"running it did not end within {RUN_TIMEOUT_S:.0f} s"
        return {"why": why, "keep": True}
    if name not in _FATAL:
        # SIGKILL, SIGTERM: somebody else's doing (out of memory, shutdown), which says nothing about the file.
        return {"why": "", "keep": False}
    doing = "running" if _LOADED in said else "loading"
    return {"why": f"{doing} it crashed ({name})", "keep": True}


def main() -> None:
    """The child: loads the model described in `argv[1]`, runs it once, and leaves without clean-up."""
    task = json.loads(sys.argv[1])
    if task["accelerator"] == "cpu":
        _limit_memory()
    # The alarm must end the process from within native code too, where no Python handler would run.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    from edge_sdk.engines.registry import find_engine
    from edge_sdk.engines.samples import made_up_feeds

    try:
        model = open_model(task["path"] or sys.stdin.buffer.read(), name=task["name"])
        options = LoadOptions(
            threads=1,
            custom_ops=tuple(CustomOps(path, sha256) for path, sha256 in task["custom_ops"]),
            accelerator=task["accelerator"],
            accelerator_options=task["accelerator_options"],
            cache=False,
        )
        runner = find_engine(task["engine"]).load(model, options)
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
