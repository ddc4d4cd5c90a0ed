"""ONNX models on ONNX Runtime."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_sdk.device.affinity import running_on, usable_cpus
from edge_sdk.device.facts import Accelerator
from edge_sdk.engines.base import Engine, LoadOptions, NodePlacement, PlacementReport, Runner
from edge_sdk.engines.custom_ops import checked_library
from edge_sdk.engines.graph_cache import GraphCache
from edge_sdk.engines.onnxruntime_errors import load_error, run_error
from edge_sdk.engines.onnxruntime_values import engine_value, spec_of, value_arrays
from edge_sdk.engines.workers import WorkerMark
from edge_sdk.errors import AcceleratorError, EngineNotInstalled, InputShapeError, InputTypeError
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram
from edge_sdk.tensors import TensorSpec

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxRuntimeEngine"]

_log = logging.getLogger(__name__)
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn", "onnxruntime-directml")
_SILENT = 4
_CPU_PROVIDER = "CPUExecutionProvider"
_PROVIDER_SUFFIX = "ExecutionProvider"


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime with its CPU provider, or with another provider and the CPU behind it."""

    name = "onnxruntime"
    formats = frozenset({"onnx"})

    def version(self) -> str | None:
        """Version of the installed distribution, whichever of its builds it is."""
        return _installed_version()

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        """See `Engine.load`. Initialisers listed as graph inputs are taken out, since they stop the engine from folding
        and packing weights; `options.initializer_inputs` names those that the caller means to feed."""
        installed = self.version()
        if installed is None:
            raise EngineNotInstalled(f"{model.name}: onnxruntime is not installed; pip install onnxruntime")
        return _Loading(model, options, installed).runner()

    def accelerators(self) -> tuple[Accelerator, ...]:
        """Providers whose library is really there."""
        from edge_sdk.engines.accelerators import onnxruntime_accelerators

        return onnxruntime_accelerators() if self.version() else ()


@functools.cache
def _installed_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    for distribution in _DISTRIBUTIONS:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


class _Loading:
    """The steps from a checked file to a session: providers, options, rewriting, the kept graph."""

    def __init__(self, model: ModelFile, options: LoadOptions, installed: str) -> None:
        self.model = model
        self.options = options
        self.installed = installed
        self.notes: list[str] = []
        self.provider = provider_name(options.accelerator)
        self.plain_cpu = self.provider == _CPU_PROVIDER

    def runner(self) -> OnnxRuntimeRunner:
        import onnxruntime

        if not self.plain_cpu:
            _require_provider(onnxruntime, self.provider, self.options.accelerator)
        info = self.model.describe()
        removed = [name for name in info.initializer_inputs if name not in self.options.initializer_inputs]
        kept_key, cache = self._cache_key(removed, bool(info.external_files))
        mark = WorkerMark("ort")
        with running_on(self.options.cpus), mark.marking():
            session = self._from_cache(onnxruntime, cache, kept_key) if kept_key else None
            if session is None:
                session = self._from_model(onnxruntime, removed, cache, kept_key)
        if removed:
            self.notes.append(
                f"{len(removed)} initialisers listed as graph inputs were taken out, so that the engine may fold them"
            )
        kept_inputs = set(info.initializer_inputs) & set(self.options.initializer_inputs)
        shapes = {spec.name: spec for spec in info.inputs}
        return OnnxRuntimeRunner(self, session, mark, frozenset(kept_inputs), shapes)

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
            session = ort.InferenceSession(kept, settings, providers=[_CPU_PROVIDER])
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
            session = ort.InferenceSession(self._source(settings, removed), settings, **self._providers())
        except Exception as error:
            if workspace is not None:
                workspace.unlink(missing_ok=True)
            told = load_error(error, self.model.name, self.installed)
            if self.plain_cpu:
                raise told from error
            raise AcceleratorError(f"{self.model.name}: accelerator {self.options.accelerator!r}: {told}") from error
        if key and workspace is not None:
            cache.keep(key, workspace)
        return session

    def _source(self, settings: Any, removed: list[str]) -> str | bytes:
        path = self.model.path
        if not removed:
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
        if self.options.strict and not self.plain_cpu:
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        for library in self.options.custom_ops:
            checked = checked_library(library)
            try:
                settings.register_custom_ops_library(checked)
            except Exception as error:
                raise load_error(error, f"{library.path}: custom-op library", self.installed) from error
        return settings

    def _providers(self) -> dict[str, Any]:
        if self.plain_cpu:
            return {"providers": [_CPU_PROVIDER]}
        chosen = [(self.provider, dict(self.options.accelerator_options))]
        return {"providers": chosen if self.options.strict else [*chosen, _CPU_PROVIDER]}


def provider_name(accelerator: str) -> str:
    """ONNX Runtime's provider for an accelerator's name: "cpu" to "CPUExecutionProvider", "cuda" likewise; a full
    provider name stays as it is."""
    if accelerator.endswith(_PROVIDER_SUFFIX):
        return accelerator
    known = {"cpu": "CPU", "cuda": "CUDA", "tensorrt": "Tensorrt", "qnn": "QNN", "openvino": "OpenVINO"}
    known |= {"xnnpack": "Xnnpack", "nnapi": "Nnapi", "coreml": "CoreML", "webgpu": "WebGpu", "dml": "Dml"}
    known |= {"rocm": "ROCM", "migraphx": "MIGraphX", "acl": "ACL", "armnn": "ArmNN", "vitisai": "VitisAI"}
    return known.get(accelerator.lower(), accelerator) + _PROVIDER_SUFFIX


def _require_provider(ort: Any, provider: str, accelerator: str) -> None:
    # A provider that is not in the build would only be warned about, and everything would run on the CPU.
    available = ort.get_available_providers()
    if provider not in available:
        names = ", ".join(name.removesuffix(_PROVIDER_SUFFIX) for name in available)
        raise AcceleratorError(
            f"accelerator {accelerator!r}: this build of onnxruntime has no {provider}; it has {names};"
            " install the build or plug-in for it"
        )


class OnnxRuntimeRunner(Runner):
    """One ONNX Runtime session. The session serves any number of threads at once by itself."""

    engine = "onnxruntime"

    def __init__(
        self,
        loading: _Loading,
        session: onnxruntime.InferenceSession,
        mark: WorkerMark,
        optional_inputs: frozenset[str],
        described: Mapping[str, TensorSpec],
    ) -> None:
        self.model = loading.model.name
        self.options = loading.options
        self.notes = tuple(loading.notes)
        self.queue = Histogram()
        self.optional_inputs = optional_inputs
        self._session: onnxruntime.InferenceSession | None = session
        self._run = session.run
        self._mark = mark
        # The engine gives [] for a scalar and for an unknown rank alike: the file itself tells which.
        given = [*session.get_inputs(), *session.get_overridable_initializers()]
        specs = [spec_of(arg.name, arg.type, arg.shape) for arg in given]
        self.inputs = tuple(
            described[s.name] if s.name in described and s.kind == "tensor" and not s.shape else s for s in specs
        )
        self.outputs = tuple(spec_of(arg.name, arg.type, arg.shape) for arg in session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]
        self._plain_outputs = all(spec.kind == "tensor" for spec in self.outputs)
        self._odd_inputs = {spec.name: spec for spec in self.inputs if spec.kind != "tensor"}
        allowed = usable_cpus()
        self._pin = loading.options.cpus if set(loading.options.cpus or allowed) < set(allowed) else None
        self._placed = self._read_assignment(loading)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        if self._odd_inputs:
            feeds = {n: engine_value(self._odd_inputs[n], v) if n in self._odd_inputs else v for n, v in feeds.items()}
        if self._pin is not None:
            with running_on(self._pin):
                return self._run_into(feeds, out) if out else self._run_plain(feeds)
        return self._run_into(feeds, out) if out else self._run_plain(feeds)

    def _run_plain(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        try:
            values = self._run(self._output_names, feeds)
        except Exception as error:
            raise run_error(error, self.model) from error
        if self._plain_outputs:
            return dict(zip(self._output_names, values, strict=True))
        arrays: dict[str, Any] = {}
        for spec, value in zip(self.outputs, values, strict=True):
            if spec.kind == "tensor":
                arrays[spec.name] = value
            else:
                arrays.update(value_arrays(spec.name, value, self.model))
        return arrays

    def _run_into(self, feeds: Mapping[str, Any], out: Mapping[str, Any]) -> dict[str, Any]:
        session = self._session
        if session is None or not self._plain_outputs:
            arrays = self._run_plain(feeds)
            return _copied_into(arrays, out, self.model)
        import onnxruntime

        binding = session.io_binding()
        try:
            for name, value in feeds.items():
                binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
            for spec in self.outputs:
                target = out.get(spec.name)
                if target is None:
                    binding.bind_output(spec.name, "cpu")
                else:
                    _check_target(spec, target, self.model)
                    binding.bind_output(spec.name, "cpu", 0, target.dtype, target.shape, target.ctypes.data)
            session.run_with_iobinding(binding)
            values = binding.get_outputs()
        except (InputShapeError, InputTypeError):
            raise
        except Exception as error:
            raise run_error(error, self.model) from error
        return {
            spec.name: out[spec.name] if spec.name in out else value.numpy()
            for spec, value in zip(self.outputs, values, strict=True)
        }

    def placement(self) -> PlacementReport:
        """Workers as the kernel tells, nodes as the engine recorded them while it assigned them."""
        nodes, verified = self._placed
        return PlacementReport(self._mark.placements() or (), nodes, verified)

    def _read_assignment(self, loading: _Loading) -> tuple[tuple[NodePlacement, ...], bool]:
        read = getattr(self._session, "get_provider_graph_assignment_info", None)
        places: dict[str, list[str]] = {}
        if read is not None:
            for subgraph in read():
                place = subgraph.ep_name.removesuffix(_PROVIDER_SUFFIX).lower()
                places.setdefault(place, []).extend(node.name or node.op_type for node in subgraph.get_nodes())
        if not loading.plain_cpu:
            wanted = loading.provider.removesuffix(_PROVIDER_SUFFIX).lower()
            on_cpu = places.get("cpu", [])
            if read is not None and wanted not in places:
                raise AcceleratorError(
                    f"{self.model}: accelerator {loading.options.accelerator!r} took no node; the CPU runs all"
                )
            if loading.options.strict and on_cpu:
                raise AcceleratorError(f"{self.model}: these nodes would stay on the CPU: {', '.join(on_cpu[:20])}")
        by_count = sorted(places.items(), key=lambda item: -len(item[1]))
        return tuple(NodePlacement(p, len(n), tuple(n)) for p, n in by_count), read is not None

    def close(self) -> None:
        """Frees the session; its workers end with it."""
        self._session = None
        self._run = _closed


def _closed(*_: Any) -> Any:
    raise RuntimeError("the runner is closed")


def _check_target(spec: TensorSpec, target: Any, model: str) -> None:
    if target.dtype != spec.numpy_dtype:
        raise InputTypeError(f"{model}: out[{spec.name!r}] has dtype {target.dtype}, expected {spec.describe()}")
    if not target.flags.c_contiguous or not target.flags.writeable:
        raise InputShapeError(f"{model}: out[{spec.name!r}] must be C-contiguous and writeable")
    if (
        spec.shape is not None
        and any(isinstance(d, int) and d != g for d, g in zip(spec.shape, target.shape, strict=False))
    ) or (spec.shape and len(spec.shape) != target.ndim):
        raise InputShapeError(f"{model}: out[{spec.name!r}] has shape {list(target.shape)}, expected {spec.describe()}")


def _copied_into(arrays: dict[str, Any], out: Mapping[str, Any], model: str) -> dict[str, Any]:
    for name, target in out.items():
        if arrays[name].shape != target.shape or arrays[name].dtype != target.dtype:
            raise InputShapeError(
                f"{model}: out[{name!r}] is {target.dtype}{list(target.shape)},"
                f" the output is {arrays[name].dtype}{list(arrays[name].shape)}"
            )
        target[...] = arrays[name]
        arrays[name] = target
    return arrays
