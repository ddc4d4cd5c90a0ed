"""Rewrites of an ONNX file that touch its bytes as little as possible."""

from __future__ import annotations

from collections.abc import Collection

from edge_sdk.formats.protobuf import LENGTH, VARINT, Field, Wire, encode_varint

__all__ = ["without_initializer_inputs"]

_IR_VERSION, _GRAPH = 1, 7
_INITIALIZER, _SPARSE_INITIALIZER, _INPUT = 5, 15, 11
_FIRST_IR_WITH_CONSTANT_INITIALIZERS = 4


def without_initializer_inputs(
    content: bytes | memoryview, keep: Collection[str] = (), *, name: str = "model"
) -> tuple[bytes | memoryview, tuple[str, ...]]:
    """Takes initialisers out of the graph's inputs, so that an engine may treat them as constants.

    Exporters of IR versions below 4 had to list every weight as an input too. An engine can then fold and pack nothing,
    since a caller might feed another weight. Everything but the entries taken out, the lengths around them, and an IR
    version below 4 (raised to 4) stays byte for byte as it was.

    Args:
        content: an ONNX file.
        keep: initialisers that stay inputs because a caller feeds them.
        name: what error messages call the file.

    Returns:
        The file, and the names taken out in their order; `content` itself and () where there is nothing to change.
        Where only names to `keep` are listed, an IR version below 4 is raised all the same: engines take no feeds for
        them before it.

    Raises:
        DamagedModel: `content` is no well-formed ModelProto.
    """
    wire = Wire(memoryview(content), name)
    top = list(wire.fields(0, len(wire.content)))
    graphs = [item for item in top if item[0] == _GRAPH]
    for item in graphs:
        wire.expect(item, LENGTH, "graph")
    # A message that occurs twice is one message: initialisers of one part may be inputs of the other.
    candidates = _initializer_names(wire, graphs).difference(keep)
    removed: list[tuple[str, Field]] = []
    for graph in graphs:
        removed += [(n, f) for n, f in _named(wire, graph, _INPUT, "input", (1,)) if n in candidates]
    if not removed and not (keep and _is_before_constant_initializers(wire, top)):
        return content, ()
    spans = [(field[4], field[3]) for _, field in removed]
    return _rewrite(wire, top, spans), tuple(dict.fromkeys(n for n, _ in removed))


def _initializer_names(wire: Wire, graphs: list[Field]) -> set[str]:
    names: set[str] = set()
    for graph in graphs:
        names.update(n for n, _ in _named(wire, graph, _INITIALIZER, "initializer", (8,)))
        names.update(n for n, _ in _named(wire, graph, _SPARSE_INITIALIZER, "sparse initializer", (1, 8)))
    names.discard("")
    return names


def _named(wire: Wire, graph: Field, number: int, what: str, path: tuple[int, ...]) -> list[tuple[str, Field]]:
    """Name (found along `path` of field numbers) and field of each message `number` of the graph."""
    found = []
    for item in wire.fields(graph[2], graph[3]):
        if item[0] == number:
            wire.expect(item, LENGTH, what)
            found.append((_text_at(wire, item, path, what), item))
    return found


def _text_at(wire: Wire, item: Field, path: tuple[int, ...], what: str) -> str:
    text = ""
    for part in wire.fields(item[2], item[3]):
        if part[0] == path[0]:
            text = wire.text(part, f"{what} name") if len(path) == 1 else _text_at(wire, part, path[1:], what)
    return text


def _rewrite(wire: Wire, top: list[Field], spans: list[tuple[int, int]]) -> bytes:
    """The file without `spans` (in order, each inside a graph field) and with an IR version of at least 4."""
    content = wire.content
    pieces: list[bytes | memoryview] = []
    versions = [item for item in top if item[0] == _IR_VERSION]
    for item in versions:
        wire.expect(item, VARINT, "ir_version")
    if not versions:
        pieces.append(_ir_version())
    for item in top:
        if item[0] == _GRAPH:
            inside = [span for span in spans if item[2] <= span[0] < item[3]]
            length = item[3] - item[2] - sum(end - start for start, end in inside)
            pieces += [encode_varint(_GRAPH << 3 | LENGTH), encode_varint(length)]
            position = item[2]
            for start, end in inside:
                pieces.append(content[position:start])
                position = end
            pieces.append(content[position : item[3]])
        elif item[0] == _IR_VERSION and wire.signed(item, "ir_version") < _FIRST_IR_WITH_CONSTANT_INITIALIZERS:
            pieces.append(_ir_version())
        else:
            pieces.append(content[item[4] : item[3]])
    return b"".join(pieces)


def _is_before_constant_initializers(wire: Wire, top: list[Field]) -> bool:
    versions = [wire.signed(item, "ir_version") for item in top if item[0] == _IR_VERSION]
    return not versions or versions[-1] < _FIRST_IR_WITH_CONSTANT_INITIALIZERS


def _ir_version() -> bytes:
    return encode_varint(_IR_VERSION << 3 | VARINT) + encode_varint(_FIRST_IR_WITH_CONSTANT_INITIALIZERS)
