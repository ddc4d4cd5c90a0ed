"""From a checked ONNX file to a session: rewriting, options, the kept optimised graph, the provider."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from edge_sdk.device.affinity import running_on
from edge_sdk.engines.base import LoadOptions
from edge_sdk.engines.custom_ops import checked_library
from edge_sdk.engines.graph_cache import GraphCache
from edge_sdk.engines.onnxruntime_errors import load_error
from edge_sdk.engines.onnxruntime_providers import CPU_PROVIDER, nodes_elsewhere, provider_targets
from edge_sdk.engines.onnxruntime_runner import OnnxRuntimeRunner
from edge_sdk.engines.workers import WorkerMark
from edge_sdk.errors import AcceleratorError, InputNameError
from edge_sdk.formats import ModelFile

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Loading"]

_log = logging.getLogger(__name__)
_SILENT = 4


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
        return cache.key(
            self.model.fingerprint, f"all inputs={','.join(sorted(self.options.initializer_inputs))}"
        ), cache

    def _from_cache(self, ort: Any, cache: GraphCache, key: str) -> onnxruntime.InferenceSession | None:
        kept = cache.find(key)
        if kept is None:
            return None
        settings = self._settings(ort)
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = ort.InferenceSession(kept, settings, providers=[CPU_PROVIDER])
        except Exception as error:  # noqa: BLE001 - whatever is wrong with what was kept, the model itself is still there
            _log.warning("%s: the kept optimised graph is made again: %s", self.model.name, error)
            cache.drop(key)
            return None
        self.notes.append("the optimised graph of an earlier start was used")
        return session

    def _from_model(
        self, ort: Any, removed: list[str], cache: GraphCache, key: str | None
    ) -> onnxruntime.InferenceSession:
        settings = self._settings(ort)
        workspace = cache.workspace(key) if key else None
        if workspace is not None:
            settings.optimized_model_filepath = str(workspace)
        try:
            session = ort.InferenceSession(self._source(settings, removed), settings, providers=[CPU_PROVIDER])
        except Exception as error:
            if workspace is not None:
                workspace.unlink(missing_ok=True)
            raise load_error(error, self.model.name, self.installed) from error
        if key and workspace is not None:
            cache.keep(key, workspace)
        return session

    def _accelerated(self, ort: Any, removed: list[str]) -> onnxruntime.InferenceSession:
        """A session of which the accelerator verifiably runs at least one node, with `strict` all of them."""
        accelerator, strict = self.options.accelerator, self.options.strict
        refused = "it offers no device on this machine"
        for target in provider_targets(ort, accelerator):
            settings = self._settings(ort)
            if strict:
                settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            arguments = target.use(settings, self.options.accelerator_options, beside_cpu=not strict)
            try:
                # Without enable_fallback=0 the Python layer would try again on the CPU and hide the reason.
                session = ort.InferenceSession(
                    self._source(settings, removed), settings, enable_fallback=0, **arguments
                )
            except Exception as error:  # noqa: BLE001 - the engine raises what it likes; the next device may do
                told = str(load_error(error, self.model.name, self.installed))
                refused = told.removeprefix(f"{self.model.name}: ")
                continue
            on_cpu = nodes_elsewhere(session, target.provider)
            if on_cpu is None:
                refused = "it took no node; the CPU would run all"
            elif strict and on_cpu:
                refused = f"these nodes would stay on the CPU: {', '.join(on_cpu[:20])}"
            else:
                return session
        raise AcceleratorError(f"{self.model.name}: accelerator {accelerator!r}: {refused}")

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
