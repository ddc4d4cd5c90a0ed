"""What the planner chooses among: the variants of one model, each a model file with its figures."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_sdk.engines.base import Runner
from edge_sdk.errors import EdgeError
from edge_sdk.formats import ModelFile

if TYPE_CHECKING:
    from edge_sdk.bundle import Cascade, Cut
    from edge_sdk.graph import Graph

__all__ = ["Golden", "Variant", "variant_of_file"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Golden:
    """One kept request with the answers that the variant gave where it was made.

    Attributes:
        feeds: logical input name to array.
        outputs: logical output name to array.
        tolerance: largest difference allowed, relative to the spread of the expected output.
    """

    feeds: Mapping[str, Any]
    outputs: Mapping[str, Any]
    tolerance: float


class Variant:
    """One model file that answers to the signature of the model.

    Attributes:
        name: "fp32", "int8-static", …; the file's name where there is no bundle.
        format: "onnx" or "tflite".
        digest: changes when the file does.
        accuracy: by the bundle's own metric, from 0 to 1; None where nobody measured it.
        accuracy_of: one line: metric, data, engine and ISA of `accuracy`.
        barred: why the bundle itself advises against it; "" where it does not.
        cuts: where it may be divided, as the bundle keeps it; empty where nobody listed that.
        cascades: those of the bundle that it is the big one of, best first.
        graph_fault: why `graph` gave None; "" before it was asked, and where it did not.
    """

    def __init__(
        self,
        name: str,
        model_format: str,
        digest: str,
        open_file: Callable[[], ModelFile],
        *,
        accuracy: float | None = None,
        accuracy_of: str = "",
        barred: str = "",
        cuts: tuple[Cut, ...] = (),
        cascades: tuple[Cascade, ...] = (),
        wrap: Callable[[Runner], Runner] = lambda runner: runner,
        golden: Callable[[], Iterable[Golden]] = tuple,
    ) -> None:
        self.name, self.format, self.digest = name, model_format, digest
        self.accuracy, self.accuracy_of, self.barred = accuracy, accuracy_of, barred
        self.cuts, self.cascades = cuts, cascades
        self.wrap, self.golden = wrap, golden
        self._open_file = open_file
        self._file: ModelFile | None = None
        self._graph: Graph | None = None
        self._graph_asked = False
        self.graph_fault = ""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Variant({self.name!r}, {self.format})"

    def file(self) -> ModelFile:
        """The file, opened and its structure checked on first use.

        Raises:
            ModelError: it is damaged, or not the file that the bundle names.
        """
        with self._lock:
            if self._file is None:
                file = self._open_file()
                file.check()
                self._file = file
            return self._file

    def graph(self) -> Graph | None:
        """The file as a graph; None where it cannot be read as one, or the extra `graph` is not installed."""
        file = self.file()
        with self._lock:
            if not self._graph_asked:
                self._graph_asked = True
                from edge_sdk.graph import open_graph

                try:
                    self._graph = open_graph(file)
                except EdgeError as error:
                    self.graph_fault = str(error)
                    _log.info("%s: no prediction: %s", self.name, error)
            return self._graph

    def close(self) -> None:
        """Gives mapped memory back; `file` opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()


def variant_of_file(file: ModelFile) -> Variant:
    """The only variant of a plain model file."""
    return Variant(file.name, file.format, file.fingerprint, lambda: file)
