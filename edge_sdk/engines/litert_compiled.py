"""TFLite models on LiteRT's own GPU and NPU accelerators, compiled as a whole, with the check that they run there."""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.device.affinity import running_on
from edge_sdk.engines.base import LoadOptions, NodePlacement, PlacementReport, Runner
from edge_sdk.engines.litert_errors import one_line
from edge_sdk.engines.litert_factory import ModelSource
from edge_sdk.engines.litert_interpreter import copy_into
from edge_sdk.engines.litert_library import import_interpreter, installed, sifted
from edge_sdk.engines.litert_pool import Pool
from edge_sdk.engines.litert_vendors import is_vendor_option, load_runtimes, vendor_options
from edge_sdk.engines.workers import WorkerMark
from edge_sdk.errors import AcceleratorError, EdgeError
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram
from edge_sdk.tensors import TensorSpec

__all__ = ["CompiledRunner"]

_CARRIED = frozenset({"bool", "float16", "float32", "int32", "int8", "uint8"})
"""Dtypes that the engine's buffers take."""
_ENGINE_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError, OSError, AttributeError)
"""What the engine's Python layer raises; AttributeError where an older release lacks a setting."""
_PARTLY = "Some ops are not accelerated"
_ENVIRONMENT_KEYS = ("compiler_plugin_path", "dispatch_library_path")


class CompiledRunner(Runner):
    """See `Runner`. One compiled model serves one caller at a time; others wait in line, which `queue` records.

    With the CPU allowed beside it, the engine would call a model "fully accelerated" that runs on the CPU alone. So it
    is compiled for the accelerator alone, which fails unless that takes every node. Only a GPU gets a second try with
    the CPU beside it (and `strict` forbids that): there at least a missing adapter is an error.

    Raises:
        AcceleratorError: the accelerator is missing, failed, or did not verifiably take the model.
    """

    engine = "litert"

    def __init__(self, model: ModelFile, options: LoadOptions) -> None:
        self.model = model.name
        self.options = options
        self.queue = Histogram()
        info = model.describe()
        self.inputs, self.outputs = info.inputs, info.outputs
        _check_dtypes(self.inputs + self.outputs, model.name, options.accelerator)
        self._source = ModelSource(model)
        self._mark = WorkerMark("litert")
        with running_on(options.cpus), self._mark.marking():
            compiled, self._alone = _Compiling(self._source, options, model.name).compiled()
            only = [_Compiled(compiled, self.inputs, self.outputs, model.name, options.accelerator)]
        del compiled
        self._pool: Pool[_Compiled] = Pool(only.pop, 1, self.queue, self.model)
        # Also where nobody closes the runner: the engine says goodbye on stderr when its environment goes.
        self._free = weakref.finalize(self, _free, self._pool, only)
        place = options.accelerator if self._alone else f"{options.accelerator} and cpu"
        self._nodes = (NodePlacement(place, sum(info.ops.values())),)
        if not self._alone:
            self.notes = (f"{options.accelerator} takes a part of the nodes; the engine does not tell which",)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        compiled = self._pool.take()
        try:
            results = compiled.call(feeds)
        finally:
            self._pool.give(compiled)
        if out:
            copy_into(results, out, self.model)
        return results

    def placement(self) -> PlacementReport:
        """Verified where the whole model was compiled for the accelerator alone."""
        return PlacementReport(self._mark.placements() or (), self._nodes, verified=self._alone)

    def close(self) -> None:
        """Frees the compiled model and what it holds on the accelerator."""
        self._free()
        self._source.close()


def _free(pool: Pool[_Compiled], unused: list[_Compiled]) -> None:
    with sifted(1, 2):
        pool.close()
        unused.clear()


def _check_dtypes(specs: tuple[TensorSpec, ...], model: str, accelerator: str) -> None:
    for spec in specs:
        if spec.dtype not in _CARRIED:
            raise AcceleratorError(
                f"{model}: accelerator {accelerator!r}: tensor {spec.name!r} is {spec.describe()};"
                f" LiteRT's compiled models carry {', '.join(sorted(_CARRIED))} only"
            )


class _Compiling:
    """The steps from a checked model to a compiled one."""

    def __init__(self, source: ModelSource, options: LoadOptions, model: str) -> None:
        self.source = source
        self.options = options
        self.model = model
        import_interpreter()  # tells what is wrong with the installation
        try:
            from ai_edge_litert import compiled_model
        except ImportError as error:
            found = installed()
            raise self._failed(
                f"it needs ai-edge-litert 2.x; {found[0] if found else 'no library'} {found[1] if found else ''} has no"
                " compiled models"
            ) from error
        self.library: Any = compiled_model

    def compiled(self) -> tuple[Any, bool]:
        """The compiled model, and whether the accelerator takes all of it."""
        kinds = self.library.HardwareAccelerator
        kind = kinds.GPU if self.options.accelerator == "gpu" else kinds.NPU
        try:
            compiled = self._compile(kind)
        except AcceleratorError as error:
            if _PARTLY not in str(error):
                raise
            if self.options.strict:
                raise self._failed("not every node can run there; the engine does not tell which") from error
            if kind == kinds.NPU:
                raise self._failed(
                    "it does not take every node, and whether it takes any the engine does not tell"
                ) from error
            return self._compile(kind | kinds.CPU), False
        if not compiled.is_fully_accelerated():
            raise self._failed("the engine does not confirm that every node runs there")
        return compiled, True

    def _compile(self, kind: Any) -> Any:
        told: list[str] = []
        try:
            with sifted(1, 2) as told:
                options, environment = self._settings(kind)
                try:
                    return self._created(options, environment)
                except BaseException:
                    environment.close()  # within, since the engine says goodbye on stderr
                    raise
        except EdgeError:
            raise
        except _ENGINE_ERRORS as error:
            raise self._failed(_cause(error, told)) from error

    def _created(self, options: Any, environment: Any) -> Any:
        arguments = self.source.arguments()
        kind = self.library.CompiledModel
        if "model_path" in arguments:
            return kind.from_file(arguments["model_path"], environment=environment, options=options)
        return kind.from_buffer(arguments["model_content"], environment=environment, options=options)

    def _settings(self, kind: Any) -> tuple[Any, Any]:
        given = dict(self.options.accelerator_options)
        paths = {key: given.pop(key) for key in _ENVIRONMENT_KEYS if key in given}
        known = {field.name for field in dataclasses.fields(self.library.GpuOptions)}
        switches = {}
        if self.options.accelerator == "npu":
            load_runtimes(Path(self.library.__file__).parent)
        try:
            of_vendors = vendor_options(self.library, {k: given.pop(k) for k in list(given) if is_vendor_option(k)})
        except ValueError as error:
            raise self._failed(str(error)) from error
        for key, value in given.items():
            if self.options.accelerator != "gpu" or key not in known or value not in ("true", "false"):
                raise self._failed(
                    f"option {key}={value!r} is not known; expected paths {', '.join(_ENVIRONMENT_KEYS)},"
                    f" for the gpu true or false for {', '.join(sorted(known))},"
                    " or a maker's own (intel_openvino.graph_backend=cpu)"
                )
            switches[key] = value == "true"
        cpu = self.library.CpuOptions(num_threads=self.options.threads or 1)
        gpu = self.library.GpuOptions(**switches)
        options = self.library.Options(hardware_accelerators=kind, cpu_options=cpu, gpu_options=gpu, **of_vendors)
        return options, self.library.Environment.create(**paths)

    def _failed(self, reason: str) -> AcceleratorError:
        return AcceleratorError(f"{self.model}: accelerator {self.options.accelerator!r}: {reason}")


def _cause(error: Exception, told: list[str]) -> str:
    """Why the engine failed: its exceptions name places in its source only, the reason stands in what it wrote."""
    last = str(error).split("└")[-1].strip()
    reasons = [line.split("] ", 1)[-1] for line in told if line.startswith(("ERROR", "E0"))]
    reasons = [reason.removeprefix("ERROR: ") for reason in reasons if "plugin" not in reason]
    named = [] if last.startswith("ERROR") else [last]
    return one_line("; ".join(dict.fromkeys([*named, *reasons]))) if named or reasons else one_line(error)


class _Compiled:
    """A compiled model with its buffers, for one caller at a time and for the sizes in the file.

    The engine can lay a compiled model out for other sizes, but then gives wrong answers for all but the first entry of
    a quantised batch (seen with ai-edge-litert 2.3). So other sizes are refused.
    """

    def __init__(
        self,
        compiled: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        model: str,
        accelerator: str,
    ) -> None:
        self._compiled = compiled
        self._model = model
        self._accelerator = accelerator
        signature = compiled.get_signature_by_index(0)
        self._inputs = _in_order(inputs, signature["inputs"])
        self._outputs = _in_order(outputs, signature["outputs"])
        self._fresh = True
        with sifted(1, 2):
            self._given = compiled.create_input_buffers(0)
            self._made = compiled.create_output_buffers(0)
        self._shapes = _shapes(compiled.get_input_tensor_details(signature["key"]), signature["inputs"])
        self._sizes = _shapes(compiled.get_output_tensor_details(signature["key"]), signature["outputs"])

    def call(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the model once.

        Raises:
            AcceleratorError: other sizes than in the file were fed, or it failed.
        """
        for spec, shape in zip(self._inputs, self._shapes, strict=True):
            if feeds[spec.name].shape != shape:
                raise AcceleratorError(
                    f"{self._model}: input {spec.name!r} has shape {list(feeds[spec.name].shape)}, but accelerator"
                    f" {self._accelerator!r} has compiled the model for {list(shape)}; use the cpu for other sizes"
                )
        try:
            with sifted(1, 2) if self._fresh else nullcontext():  # the first run warns about buffers
                self._execute(feeds)
            self._fresh = False
            return {
                spec.name: buffer.read(math.prod(size), np.dtype(spec.dtype)).reshape(size)
                for spec, buffer, size in zip(self._outputs, self._made, self._sizes, strict=True)
            }
        except _ENGINE_ERRORS as error:
            raise AcceleratorError(
                f"{self._model}: accelerator {self._accelerator!r} failed: {one_line(error)}"
            ) from error

    def _execute(self, feeds: Mapping[str, Any]) -> None:
        for spec, buffer in zip(self._inputs, self._given, strict=True):
            buffer.write(feeds[spec.name])
        self._compiled.run_by_index(0, self._given, self._made)


def _shapes(details: Mapping[str, Any], names: list[str]) -> list[tuple[int, ...]]:
    return [tuple(int(size) for size in details[name]["shape"]) for name in names]


def _in_order(specs: tuple[TensorSpec, ...], names: list[str]) -> tuple[TensorSpec, ...]:
    """The specs in the order of the engine's signature."""
    by_name = {spec.name: spec for spec in specs}
    return tuple(by_name[name] for name in names) if all(name in by_name for name in names) else specs
