"""From a checked ONNX file to a session: rewriting, options, the kept optimised graph, the provider."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.device.affinity import running_on
from edge_sdk.engines.base import LoadOptions
from edge_sdk.engines.custom_ops import checked_library
from edge_sdk.engines.graph_cache import WEIGHTS, GraphCache
from edge_sdk.engines.onnxruntime_errors import load_error
from edge_sdk.engines.onnxruntime_providers import (
    CPU_PROVIDER,
    ProviderTarget,
    nodes_elsewhere,
    provider_targets,
)
from edge_sdk.engines.onnxruntime_runner import OnnxRuntimeRunner
from edge_sdk.engines.workers import WorkerMark
from edge_sdk.errors import AcceleratorError, InputNameError
from edge_sdk.formats import ModelFile

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime

__all__ = ["Loading"]

_log = logging.getLogger(__name__)
_SILENT = 4
_SHOWN = 20
"""How many nodes a message names at most."""


class Loading:
    """The steps from a checked file to a session: providers, options, rewriting, the kept graph."""

    def __init__(self, model: ModelFile, options: LoadOptions, installed: str) -> None:
        self.model = model
        self.options = options
        self.installed = installed
        self.notes: list[str] = []
        self.plain_cpu = options.accelerator == "cpu"

    def runner(self) -> OnnxRuntimeRunner:
        """The loaded runner; see `Engine.load` for what it raises."""
        import onnxruntime

        info = self.model.describe()
        removed = [name for name in info.initializer_inputs if name not in self.options.initializer_inputs]
        unlisted = set(self.options.initializer_inputs) - set(info.initializer_inputs)
        if unlisted:
            raise InputNameError(
                f"{self.model.name}: initializer_inputs: {', '.join(sorted(unlisted))}: the file lists no such one"
                f" as an input; listed: {', '.join(info.initializer_inputs) or 'none'}"
            )
        kept_key, cache = self._cache_key(removed, bool(info.external_files))
        mark = WorkerMark("ort")
        with running_on(self.options.cpus), mark.marking():
            if self.plain_cpu:
                session = self._from_cache(onnxruntime, cache, kept_key) if kept_key else None
                session = session or self._from_model(onnxruntime, removed, cache, kept_key)
            else:
                session = self._accelerated(onnxruntime, removed)
        # The Python layer keeps the file's bytes to make the session again with other providers, which nobody here
        # does: without them a model takes its size less of memory.
        session._model_bytes = None
        if removed:
            self.notes.append(
                f"{len(removed)} initialisers listed as graph inputs were taken out, so that the engine may fold them"
            )
        kept_inputs = set(info.initializer_inputs) & set(self.options.initializer_inputs)
        shapes = {spec.name: spec for spec in info.inputs}
        return OnnxRuntimeRunner(
            self.model.name, self.options, session, mark, frozenset(kept_inputs), shapes, tuple(self.notes)
        )

    def _cache_key(self, removed: list[str], external: bool) -> tuple[str | None, GraphCache]:
        cache = GraphCache(f"onnxruntime {self.installed}")
        # With external weights, custom ops or another provider the optimised graph does not stand on its own.
        if not self.options.cache or external or self.options.custom_ops or not self.plain_cpu:
            return None, cache
        form = "mapped" if self.options.map_weights else "all"
        return cache.key(
            self.model.fingerprint, f"{form} inputs={','.join(sorted(self.options.initializer_inputs))}"
        ), cache

    def _from_cache(self, ort: Any, cache: GraphCache, key: str) -> onnxruntime.InferenceSession | None:
        kept = cache.find(key)
        if kept is None:
            return None
        settings = self._settings(ort)
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = ort.InferenceSession(str(kept), settings, providers=[CPU_PROVIDER])
        except Exception as error:  # noqa: BLE001 - whatever is wrong with what was kept, the model itself is still there
            _log.warning("%s: the kept optimised graph is made again: %s", self.model.name, error)
            cache.drop(key)
            return None
        self.notes.append("the optimised graph of an earlier start was used")
        if kept.with_suffix(WEIGHTS).is_file():
            self.notes.append("weights are mapped from the kept graph")
        return session

    def _from_model(
        self, ort: Any, removed: list[str], cache: GraphCache, key: str | None
    ) -> onnxruntime.InferenceSession:
        settings = self._settings(ort)
        workspace = cache.workspace(key) if key else None
        if workspace is not None:
            settings.optimized_model_filepath = str(workspace)
            if self.options.map_weights:
                _write_weights_apart(settings, workspace)
        try:
            session = ort.InferenceSession(self._source(settings, removed), settings, providers=[CPU_PROVIDER])
        except Exception as error:
            if workspace is not None:
                cache.give_up(workspace)
            raise load_error(error, self.model.name, self.installed) from error
        if key and workspace is not None:
            cache.keep(key, workspace)
            if self.options.map_weights:
                # What has just been made holds its weights by copy: it goes once the kept one stands.
                return self._from_cache(ort, cache, key) or session
        return session

    def _accelerated(self, ort: Any, removed: list[str]) -> onnxruntime.InferenceSession:
        """A session of which the accelerator verifiably runs at least one node, with `strict` all of them."""
        accelerator, strict = self.options.accelerator, self.options.strict
        refused = "it offers no device on this machine"
        for target in provider_targets(ort, accelerator):
            try:
                session = self._compiled(ort, target, removed)
            except Exception as error:  # noqa: BLE001 - the engine raises what it likes; the next device may do
                told = str(load_error(error, self.model.name, self.installed))
                refused = told.removeprefix(f"{self.model.name}: ")
                continue
            on_cpu = nodes_elsewhere(session, target.provider)
            if on_cpu is None:
                refused = "it took no node; the CPU would run all"
            elif strict and on_cpu:
                more = f" and {len(on_cpu) - _SHOWN} more" if len(on_cpu) > _SHOWN else ""
                refused = f"these nodes would stay on the CPU: {', '.join(on_cpu[:_SHOWN])}{more}"
            else:
                return session
        raise AcceleratorError(f"{self.model.name}: accelerator {accelerator!r}: {refused}")

    def _compiled(self, ort: Any, target: ProviderTarget, removed: list[str]) -> onnxruntime.InferenceSession:
        """A session on one device: of the form compiled at an earlier start, or of the model, whose compiled form is
        then kept where the provider makes one (an EPContext model)."""
        cache = GraphCache(f"onnxruntime {self.installed}")
        external = bool(self.model.describe().external_files)
        if not self.options.cache or external or self.options.custom_ops:
            return self._on(ort, target, removed)
        told = (target.provider, target.build, *sorted(self.options.accelerator_options.items()))
        key = cache.key(self.model.fingerprint, f"compiled {told} {sorted(self.options.initializer_inputs)}")
        if (kept := cache.find(key)) is not None:
            try:
                session = self._on(ort, target, removed, kept)
            except Exception as error:  # noqa: BLE001 - another driver, another chip: the model itself is still there
                _log.warning("%s: the kept compiled form is made again: %s", self.model.name, error)
                cache.drop(key)
            else:
                self.notes.append("the compiled form of an earlier start was used")
                return session
        workspace = cache.workspace(key)
        try:
            session = self._on(ort, target, removed, keep_in=workspace)
        except Exception:
            if workspace is None:
                raise
            workspace.unlink(missing_ok=True)
            return self._on(ort, target, removed)  # some cannot keep what they can compile
        if workspace is not None:
            cache.keep(key, workspace)
        return session

    def _on(
        self,
        ort: Any,
        target: ProviderTarget,
        removed: list[str],
        compiled: Path | None = None,
        keep_in: Path | None = None,
    ) -> onnxruntime.InferenceSession:
        settings = self._settings(ort)
        if keep_in is not None:
            for key, value in (("enable", "1"), ("file_path", str(keep_in)), ("embed_mode", "1")):
                settings.add_session_config_entry(f"ep.context_{key}", value)
        tells = hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")
        if self.options.strict and not tells:
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        beside_cpu = tells or not self.options.strict  # what stays on the CPU is then named
        arguments = target.use(settings, self.options.accelerator_options, beside_cpu=beside_cpu)
        source = self._source(settings, removed) if compiled is None else str(compiled)
        # Without enable_fallback=0 the Python layer would try again on the CPU and hide the reason.
        return ort.InferenceSession(source, settings, enable_fallback=0, **arguments)

    def _source(self, settings: Any, removed: list[str]) -> str | bytes:
        path = self.model.path
        if not removed and not self.options.initializer_inputs:
            return str(path) if path is not None else bytes(self.model.content())
        from edge_sdk.formats.onnx_wire import without_initializer_inputs

        rewritten, _ = without_initializer_inputs(self.model.content(), keep=self.options.initializer_inputs)
        content = bytes(rewritten)
        if path is not None:
            # From memory the engine would look for external weights in the working folder.
            settings.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(path.resolve().parent)
            )
        return content

    def _settings(self, ort: Any) -> Any:
        settings = ort.SessionOptions()
        settings.log_severity_level = _SILENT
        if self.options.threads is not None:
            settings.intra_op_num_threads = self.options.threads
        elif self.options.cpus is not None:
            # The engine's own default counts the machine's cores, not those it may use.
            settings.intra_op_num_threads = len(self.options.cpus)
        if self.options.map_weights:
            settings.enable_cpu_mem_arena = False  # it keeps the most that any request took, for each model
        if not self.options.spin:
            settings.add_session_config_entry("session.force_spinning_stop", "1")
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        for library in self.options.custom_ops:
            checked = checked_library(library)
            try:
                settings.register_custom_ops_library(checked)
            except Exception as error:
                raise load_error(error, f"{library.path}: custom-op library", self.installed) from error
        return settings


def _write_weights_apart(settings: Any, workspace: Path) -> None:
    """Has the engine write them as its kernels want them, beside the graph: from there it maps them."""
    settings.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", workspace.with_suffix(WEIGHTS).name
    )
    settings.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    settings.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
