"""Makes the interpreters of one runner: all alike, from the content that was checked."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from edge_sdk.device.affinity import running_on
from edge_sdk.engines.base import LoadOptions, NodePlacement
from edge_sdk.engines.litert_custom_ops import registerers
from edge_sdk.engines.litert_delegate import check_taken, make_delegate
from edge_sdk.engines.litert_errors import load_error, one_line
from edge_sdk.engines.litert_interpreter import LoadedInterpreter
from edge_sdk.engines.litert_library import import_interpreter, installed, quiet_once
from edge_sdk.engines.litert_placement import node_places
from edge_sdk.engines.workers import WorkerMark
from edge_sdk.errors import AcceleratorError, ModelError
from edge_sdk.formats import ModelFile

__all__ = ["InterpreterFactory", "ModelSource"]

_DELEGATE = "DELEGATE"


class ModelSource:
    """The model for as many interpreters as come, always with the content that was checked.

    A file is kept open and given to the engine, which maps it, by its descriptor: what an update puts in the place of
    the name later does not get into a runner half way.
    """

    def __init__(self, model: ModelFile) -> None:
        self._content: bytes | None = None
        self._name = ""
        self._close: Callable[[], Any] = lambda: None
        if model.path is not None:
            try:
                fd = os.open(model.path, os.O_RDONLY | os.O_CLOEXEC)
                self._close = weakref.finalize(self, os.close, fd)
                self._name = f"/proc/self/fd/{fd}"
            except OSError:  # gone since it was opened and checked: what was read then is still mapped
                pass
        if not os.path.exists(self._name):
            self._content = bytes(model.content())

    def arguments(self) -> dict[str, Any]:
        """The engine's argument that names the model. The engine keeps the bytes alive, or maps the file."""
        if self._content is not None:
            return {"model_content": self._content}
        return {"model_path": self._name}

    def close(self) -> None:
        """Closes the file. Interpreters made before keep their mapping."""
        self._close()
        self._content, self._name = None, ""  # the number of the descriptor may soon be another file's


class InterpreterFactory:
    """Makes one more interpreter per call.

    Args:
        model: the checked model.
        options: how to load it.
        mark: which marks the workers that the engine starts.

    Attributes:
        delegated: whether an external delegate is involved.
        nodes: where the nodes of the main graph run, once an interpreter was made; empty where the engine does not
            tell.

    Raises:
        EngineNotInstalled: the library is missing.
        EngineError: a custom-op library is not what was stated.
    """

    def __init__(self, model: ModelFile, options: LoadOptions, mark: WorkerMark) -> None:
        self.delegated = options.accelerator != "cpu"
        self.nodes: tuple[NodePlacement, ...] = ()
        self.source = ModelSource(model)
        self._model = model.name
        self._info = model.describe()
        self._options = options
        self._mark = mark
        self._module = import_interpreter()
        self._registerers = registerers(options.custom_ops)
        self._engine = " ".join((installed() or ("LiteRT",))[:2])

    def __call__(self) -> LoadedInterpreter:
        """An interpreter that is laid out for the sizes in the file.

        Raises:
            ModelError: the engine refuses the model; UnsupportedOp and UnsupportedVersion where it says why.
            AcceleratorError: the delegate failed, or took less than asked for.
        """
        with running_on(self._options.cpus), self._mark.marking(), quiet_once():
            delegates = self._delegates()
            interpreter = self._interpreter(delegates)
            external = {op["index"] for op in _listed(interpreter) if op["op_name"] == _DELEGATE}
            loaded = self._laid_out(interpreter)
        self._look_where(interpreter, external)
        return loaded

    def _delegates(self) -> list[Any]:
        if not self.delegated:
            return []
        return [make_delegate(self._module, self._options.accelerator, self._options.accelerator_options)]

    def _interpreter(self, delegates: list[Any]) -> Any:
        arguments = self.source.arguments() | {"num_threads": self._options.threads}
        kind = self._module.Interpreter
        if self._registerers:
            kind = self._module.InterpreterWithCustomOps
            arguments["custom_op_registerers"] = self._registerers
        try:
            plain = kind(**arguments)
        except (ValueError, RuntimeError, MemoryError) as error:
            raise load_error(error, self._model, self._engine) from error
        if not delegates:
            return plain
        try:
            # The engine itself takes the model, so from here on the delegate is to blame.
            return kind(**arguments, experimental_delegates=delegates)
        except (ValueError, RuntimeError, MemoryError) as error:
            raise self._refused(error) from error

    def _laid_out(self, interpreter: Any) -> LoadedInterpreter:
        try:
            return LoadedInterpreter(interpreter, self._info, self._model, self._engine)
        except ModelError as error:
            raise self._refused(error) if self.delegated else error from error

    def _refused(self, error: Exception) -> AcceleratorError:
        return AcceleratorError(
            f"{self._model}: accelerator {self._options.accelerator!r} refuses the model: {one_line(error)}"
        )

    def _look_where(self, interpreter: Any, external: set[int]) -> None:
        """Reads back which nodes run where; with a delegate, checks that it took what it was asked to."""
        ops = _listed(interpreter)
        options = self._options
        if not ops:
            if self.delegated:
                raise AcceleratorError(
                    f"{self._model}: this engine does not tell what accelerator {options.accelerator!r} took"
                )
            return
        names = {int(detail["index"]): detail["name"] for detail in interpreter.get_tensor_details()}
        standing = {op["index"] for op in ops if op["op_name"] == _DELEGATE}
        if self.delegated:
            check_taken(ops, names, external & standing, options.accelerator, options.strict, self._model)
        places = {index: options.accelerator if index in external else "xnnpack" for index in standing}
        self.nodes = node_places(ops, places, names)


def _listed(interpreter: Any) -> list[dict[str, Any]]:
    """The engine's list of nodes; empty where this release has none to give."""
    try:
        ops: list[dict[str, Any]] = interpreter._get_ops_details()
    except (AttributeError, ValueError, RuntimeError):
        return []
    return ops
