"""The house stands as ARCHITECTURE.md draws it: no room uses a room on its own floor or above, and no circles."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Floor and room of every module or package below the top level; a name on one line shares one room.
ROOMS: dict[str, tuple[int, str]] = {
    "edge_sdk.breaker": (1, "ground"),
    "edge_sdk.errors": (1, "ground"),
    "edge_sdk.exports": (1, "ground"),
    "edge_sdk.metrics": (1, "ground"),
    "edge_sdk.storage": (1, "ground"),
    "edge_sdk.device": (2, "device"),
    "edge_sdk.tensors": (2, "formats"),
    "edge_sdk.formats": (2, "formats"),
    "edge_sdk.signature": (2, "signature"),
    "edge_sdk.engines": (3, "engines"),
    "edge_sdk.vision": (3, "vision"),
    "edge_sdk.audio": (3, "audio"),
    "edge_sdk.graph": (3, "graph"),
    "edge_sdk.bundle": (3, "bundle"),
    "edge_sdk.measuring": (3, "measuring"),
    "edge_sdk.wire": (3, "wire"),
    "edge_sdk.schedule": (3, "schedule"),
    "edge_sdk.planner": (4, "planner"),
    "edge_sdk.compress": (4, "compress"),
    "edge_sdk.offload": (4, "offload"),
    "edge_sdk.session": (5, "session"),
    "edge_sdk.answering": (5, "session"),
    "edge_sdk.loading": (5, "session"),
    "edge_sdk.activation": (5, "session"),
    "edge_sdk.plan_runners": (5, "session"),
    "edge_sdk.settings": (5, "session"),
    "edge_sdk.streaming": (5, "session"),
    "edge_sdk.offloading": (5, "session"),
    "edge_sdk.cascading": (5, "session"),
    "edge_sdk.link_planning": (5, "session"),
    "edge_sdk.report": (5, "session"),
    "edge_sdk.events": (5, "session"),
    "edge_sdk.timings": (5, "session"),
    "edge_sdk.replanning": (5, "session"),
    "edge_sdk.session_levels": (5, "session"),
    "edge_sdk.governing": (5, "session"),
    "edge_sdk.building": (5, "building"),
    "edge_sdk.bench": (6, "bench"),
    "edge_sdk.governed": (6, "governed"),
    "edge_sdk.scheduler": (6, "scheduler"),
    "edge_sdk.admitting": (6, "scheduler"),
    "edge_sdk.scheduled": (6, "scheduler"),
    "edge_sdk.residence": (6, "scheduler"),
    "edge_sdk.observing": (6, "scheduler"),
    "edge_sdk.cli": (7, "cli"),
}
# The package itself only hands on public names, lazily; data and endpoint stand beside the house.
BESIDE = {"edge_sdk", "cloud_offload", "device_profiles"}


def room_of(module: str) -> tuple[int, str] | None:
    """The room a module belongs to: its longest known prefix."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (room := ROOMS.get(".".join(parts[:length]))) is not None:
            return room
    return None


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.partition(".")[0] in BESIDE}


def modules() -> dict[str, Path]:
    """All modules of the package by dotted name."""
    found = {}
    for path in sorted((ROOT / "edge_sdk").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.mark.parametrize("module", [name for name in modules() if name != "edge_sdk"])
def test_no_room_uses_a_room_on_its_own_floor_or_above(module: str) -> None:
    home = room_of(module)
    assert home is not None, f"{module} belongs to no room: give it one in ROOMS and in ARCHITECTURE.md"
    for name in imports_of(modules()[module]):
        other = room_of(name)
        if other is not None and other != home:
            assert other[0] < home[0], f"{module} (floor {home[0]}) uses {name} (floor {other[0]})"


def test_no_module_imports_itself_in_a_circle() -> None:
    known = modules()
    graph = {name: imports_at_start(path) & known.keys() - {name} for name, path in known.items()}
    seen: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join((*trail, name))}"
        if name not in seen:
            for other in graph[name]:
                visit(other, (*trail, name))
            seen[name] = 1

    for name in graph:
        visit(name, ())


def imports_at_start(path: Path) -> set[str]:
    """What a module imports while it is being imported (not inside functions, not for type checkers)."""
    body = [n for n in ast.parse(path.read_text()).body if isinstance(n, (ast.Import, ast.ImportFrom))]
    found = set()
    for node in body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_architecture_names_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for module in ROOMS:
        path = module.replace(".", "/")
        assert re.search(rf"{path}(\.py|/)", text), f"ARCHITECTURE.md does not name {path}"


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    text = (ROOT / "docs" / "dependencies.md").read_text()
    for line in lines:
        name = re.split(r"[\s\[<>=;!]", line)[0]
        assert name == "edge-sdk" or f"`{name}`" in text, f"docs/dependencies.md gives no reason for {name}"
