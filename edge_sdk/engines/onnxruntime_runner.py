"""A session of ONNX Runtime as a runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_sdk.device.affinity import running_on, usable_cpus
from edge_sdk.engines.base import LoadOptions, NodePlacement, PlacementReport, Runner
from edge_sdk.engines.onnxruntime_errors import run_error
from edge_sdk.engines.onnxruntime_values import engine_value, spec_of, value_arrays
from edge_sdk.engines.workers import WorkerMark
from edge_sdk.errors import InputShapeError, InputTypeError
from edge_sdk.metrics import Histogram
from edge_sdk.tensors import TensorSpec

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxRuntimeRunner", "assigned_nodes"]

_PROVIDER_SUFFIX = "ExecutionProvider"


class OnnxRuntimeRunner(Runner):
    """One ONNX Runtime session. The session serves any number of threads at once by itself."""

    engine = "onnxruntime"

    def __init__(
        self,
        model: str,
        options: LoadOptions,
        session: onnxruntime.InferenceSession,
        mark: WorkerMark,
        optional_inputs: frozenset[str],
        described: Mapping[str, TensorSpec],
        notes: tuple[str, ...],
    ) -> None:
        self.model = model
        self.options = options
        self.notes = notes
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
        self._pin = options.cpus if set(options.cpus or allowed) < set(allowed) else None
        self._simple = self._plain_outputs and not self._odd_inputs and self._pin is None
        self._nodes = assigned_nodes(session)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        if self._simple and not out:
            try:
                return dict(zip(self._output_names, self._run(self._output_names, feeds), strict=True))
            except Exception as error:
                raise run_error(error, self.model) from error
        if self._odd_inputs:
            feeds = {n: engine_value(self._odd_inputs[n], v) if n in self._odd_inputs else v for n, v in feeds.items()}
        with running_on(self._pin):
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
        threads = self._mark.placements()
        verified = self._nodes is not None and threads is not None
        return PlacementReport(threads or (), self._nodes or (), verified)

    def close(self) -> None:
        """Frees the session; its workers end with it."""
        self._session = None
        self._run = _closed


def assigned_nodes(session: onnxruntime.InferenceSession) -> tuple[NodePlacement, ...] | None:
    """Where the engine says that the nodes run, most nodes first: "cpu", "cuda", …; None where it is too old to tell.

    That a provider is in `get_providers()` proves nothing: one whose library is missing is listed too.
    """
    read = getattr(session, "get_provider_graph_assignment_info", None)
    if read is None:
        return None
    places: dict[str, list[str]] = {}
    for subgraph in read():
        place = subgraph.ep_name.removesuffix(_PROVIDER_SUFFIX).lower()
        places.setdefault(place, []).extend(node.name or node.op_type for node in subgraph.get_nodes())
    by_count = sorted(places.items(), key=lambda item: -len(item[1]))
    return tuple(NodePlacement(place, len(names), tuple(names)) for place, names in by_count)


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
