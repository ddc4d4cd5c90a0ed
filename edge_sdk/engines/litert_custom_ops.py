"""Libraries of custom ops for LiteRT: checked by hash, loaded, and registered with each interpreter.

LiteRT's convention is a C function that takes a pointer to a `MutableOpResolver`. Here a library offers it under a name
that ends in "Registerer", as the engine's own libraries do; every such function is called.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path

from edge_sdk.engines.base import CustomOps
from edge_sdk.engines.custom_ops import checked_library
from edge_sdk.errors import EngineError

__all__ = ["exported_functions", "registerers"]

SUFFIX = "Registerer"
_DYNSYM = 11
_FUNCTION = 2
_UNDEFINED = 0


def registerers(libraries: tuple[CustomOps, ...]) -> list[Callable[[int], None]]:
    """Functions for `InterpreterWithCustomOps(custom_op_registerers=…)`.

    Raises:
        EngineError: a library is missing, has another hash than stated, does not load or offers no such function.
    """
    found: list[Callable[[int], None]] = []
    for library in libraries:
        path = checked_library(library)
        names = [name for name in exported_functions(Path(path)) if name.endswith(SUFFIX)]
        if not names:
            raise EngineError(
                f"{library.path}: custom-op library exports no function whose name ends in {SUFFIX!r};"
                ' expected extern "C" void NameRegisterer(MutableOpResolver*)'
            )
        try:
            loaded = ctypes.CDLL(path)
        except OSError as error:
            raise EngineError(f"{library.path}: custom-op library does not load: {error}") from error
        found.extend(_callable(loaded, name) for name in names)
    return found


def _callable(library: ctypes.CDLL, name: str) -> Callable[[int], None]:
    function = library[name]
    function.argtypes = [ctypes.c_void_p]
    function.restype = None

    def register(resolver: int) -> None:
        function(resolver)

    return register


def exported_functions(path: Path) -> list[str]:
    """Names of the functions that an ELF library exports, in the file's order.

    Raises:
        EngineError: the file is no ELF library or its tables point outside of it.
    """
    content = path.read_bytes()
    if content[:4] != b"\x7fELF" or len(content) < 64:
        raise EngineError(f"{path}: is no shared library (ELF) and cannot be loaded as custom ops")
    try:
        return _functions(content, wide=content[4] == 2)
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise EngineError(f"{path}: damaged shared library: its symbol table points outside of the file") from error


def _functions(content: bytes, wide: bool) -> list[str]:
    # Layouts of the System V ABI, chapters 4 and 5: header, section headers, symbols; "wide" is ELF64. Little-endian,
    # as all machines are that the engine has builds for.
    sections_at, entry_bytes, count = (
        struct.unpack_from("<Q", content, 40)[0] if wide else struct.unpack_from("<I", content, 32)[0],
        *struct.unpack_from("<HH", content, 58 if wide else 46),
    )
    header = "<IIQQQQIIQQ" if wide else "<IIIIIIIIII"
    sections = [struct.unpack_from(header, content, sections_at + i * entry_bytes) for i in range(count)]
    names: list[str] = []
    for _, kind, _, _, offset, size, link, _, _, symbol_bytes in sections:
        if kind != _DYNSYM or not symbol_bytes:
            continue
        strings_at = sections[link][4]
        for at in range(offset, offset + size, symbol_bytes):
            if wide:
                name, info, _, section = struct.unpack_from("<IBBH", content, at)
            else:
                name, _, _, info, _, section = struct.unpack_from("<IIIBBH", content, at)
            if info & 15 == _FUNCTION and section != _UNDEFINED:
                end = content.index(b"\0", strings_at + name)
                names.append(content[strings_at + name : end].decode("utf-8", "replace"))
    return names
