"""What the makers of NPUs have LiteRT ask for: their runtime's libraries, and options of their own.

Options of a maker are written `MAKER.OPTION` among the accelerator's: `intel_openvino.graph_backend=cpu`. What they are
called, and which values they take, is read from the engine.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_sdk.engines.accelerators_litert import runtime_folders

__all__ = ["is_vendor_option", "load_runtimes", "vendor_options"]

_log = logging.getLogger(__name__)

_CLASSES = {"intel_openvino": "IntelOpenVinoOptions", "qualcomm": "QualcommOptions"}
_RUNTIMES = {"intel_openvino": "libopenvino*.so.*"}
"""Libraries that the engine's part for a maker is linked to, and that stand where no loader looks."""


def is_vendor_option(key: str) -> bool:
    """Whether an option is one of a maker's own."""
    return key.partition(".")[0] in _CLASSES and "." in key


def vendor_options(library: Any, given: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of the engine's `Options` for makers' own options.

    Args:
        library: the engine's module of compiled models.
        given: those for which `is_vendor_option` holds.

    Raises:
        ValueError: one is not known, or takes other values; the message says which.
    """
    fields: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        vendor, _, name = key.partition(".")
        kind = getattr(library, _CLASSES[vendor], None)
        if kind is None:
            raise ValueError(f"option {key}: this release of ai-edge-litert has no options of {vendor}")
        fields.setdefault(vendor, {})[name] = _value(kind, key, name, value)
    return {f"{vendor}_options": getattr(library, _CLASSES[vendor])(**named) for vendor, named in fields.items()}


def _value(kind: Any, key: str, name: str, value: str) -> Any:
    known = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    choices = getattr(kind, name.upper(), None)
    if name in known and isinstance(choices, type) and issubclass(choices, enum.Enum):
        if value.upper() in choices.__members__:
            return choices[value.upper()]
        raise ValueError(f"option {key}={value!r}; expected {', '.join(choices.__members__).lower()}")
    if "bool" in known.get(name, "") and value in ("true", "false"):
        return value == "true"
    if "int" in known.get(name, "") and value.lstrip("-").isdigit():
        return int(value)
    if known.get(name) in ("str", "<class 'str'>"):
        return value
    taken = {"bool": "true or false", "int": "a whole number"}
    expected = next((words for type_name, words in taken.items() if type_name in known.get(name, "")), "")
    raise ValueError(f"option {key}={value!r}; expected " + (expected or f"one of {', '.join(sorted(known))}"))


def load_runtimes(package: Path) -> None:
    """Loads makers' libraries that are installed as packages: what the engine opens later then finds them.

    Args:
        package: folder of the ai_edge_litert package.
    """
    for vendor, pattern in _RUNTIMES.items():
        if not any(package.glob(f"vendors/{vendor}/dispatch/*.so")):
            continue
        for folder in runtime_folders(package):
            # The shortest name is the one that the others are linked to.
            for library in sorted(folder.glob(pattern), key=lambda path: len(path.name)):
                try:
                    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
                except OSError as error:
                    _log.info("%s does not load: %s", library, error)
