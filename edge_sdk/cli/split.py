"""`edge-sdk split`: where a model may be cut, and head and tail of it as model files."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.numbers import whole
from edge_sdk.cli.plain import plain
from edge_sdk.cli.request_files import requests_of
from edge_sdk.cli.tables import table
from edge_sdk.errors import ModelError

if TYPE_CHECKING:
    from edge_sdk.bundle import Cut as KeptCut
    from edge_sdk.formats import ModelFile
    from edge_sdk.graph import Graph
    from edge_sdk.graph.cuts import Cut, Cuts
    from edge_sdk.offload.parts import Parts

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Without --at: lists where a model may be cut into a head for the device and a tail for an endpoint, with the bytes that
travel and the multiply-accumulates on each side; > marks the Pareto set. With --at: makes head and tail, runs both and
the whole, and compares."""
_CODECS = ("none", "fp16", "int8", "int8c", "int4", "int4c", "int16")
"""As edge_sdk.graph.codec.CODECS, which would cost the start of every verb."""
_SERVERS = ("triton", "triton-python", "openvino")
_SHOWN = 4


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `split`."""
    parser = subparsers.add_parser(
        "split", help="list where a model may be cut, and make head and tail of it", description=_DESCRIPTION
    )
    parser.add_argument("model", metavar="MODEL|BUNDLE", help="a .onnx or .tflite file, or a bundle NAME.edge")
    parser.add_argument("--variant", metavar="NAME", help="which variant of a bundle; the first where not given")
    parser.add_argument("--list", action="store_true", help="list cuts (what is done without --at)")
    parser.add_argument("--limit", type=whole(), metavar="N", help="list up to N cuts of any number of tensors")
    parser.add_argument("--at", nargs="+", metavar="TENSOR", help="cut at these tensors, or at the cut of this id")
    parser.add_argument("--codec", choices=_CODECS, default="none", help="how the tensors travel (none)")
    parser.add_argument(
        "--data", nargs="+", type=Path, default=[], metavar="NPZ",
        help="requests to compare on, an .npz file each; ranges of codecs come from them",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write head and tail here")
    parser.add_argument(
        "--export",
        nargs=2,
        metavar=("SERVER", "DIR"),
        help="add the tail to a model repository: triton, triton-python or openvino",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from edge_sdk.graph import open_graph

    if arguments.at is None and (arguments.output or arguments.export or arguments.codec != "none" or arguments.data):
        arguments.parser.error("-o, --export, --codec and --data go with --at: say where to cut")
    if arguments.at is not None and (arguments.list or arguments.limit):
        arguments.parser.error("--list and --limit do not go with --at")
    if arguments.export and arguments.export[0] not in _SERVERS:
        arguments.parser.error(f"--export {arguments.export[0]}: expected {', '.join(_SERVERS)}")
    with _opened(arguments.model, arguments.variant) as (model, kept):
        graph = open_graph(model)
        if arguments.at is None:
            _list(arguments, model, graph, kept)
        else:
            _make(arguments, model, graph)
    return 0


@contextlib.contextmanager
def _opened(path: str, variant: str | None) -> Iterator[tuple[ModelFile, tuple[KeptCut, ...]]]:
    """The model file, and the cuts that a bundle keeps of it."""
    from edge_sdk import bundle
    from edge_sdk.formats import open_model

    if not bundle.is_bundle(path):
        if variant is not None:
            raise ModelError(f"{path}: is no bundle and has no variants; leave --variant out")
        with open_model(path) as model:
            yield model, ()
        return
    with bundle.open(path) as opened:
        name = variant or opened.variants[0].name
        with opened.open_variant(name) as model:
            yield model, tuple(cut for cut in opened.manifest.cuts if cut.variant == name)


# --- listing ---


def _list(arguments: argparse.Namespace, model: ModelFile, graph: Graph, kept: tuple[KeptCut, ...]) -> None:
    from edge_sdk.graph.cuts import Cuts, cut_at, cuts_of, single_cuts
    from edge_sdk.graph.cuts_pareto import pareto_cuts

    pareto: Collection[Cut] = [cut_at(graph, cut.tensors, nearest=False, where=model.name) for cut in kept]
    pareto = pareto or pareto_cuts(graph).cuts
    if arguments.limit:
        listed = cuts_of(graph, limit=arguments.limit)
    else:
        every = dict.fromkeys((*single_cuts(graph), *pareto))
        listed = Cuts(tuple(sorted(every, key=lambda cut: (cut.head_macs, cut.head_ops, cut.id))), False, len(every))
    best = {cut.id for cut in pareto}
    if arguments.json:
        record = {
            "model": arguments.model,
            "format": graph.format,
            "assumed": dict(graph.assumed),
            "complete": listed.complete,
            "cuts": [_record(cut) | {"pareto": cut.id in best} for cut in listed],
        }
        print(json.dumps(record))
        return
    head = ("", "cut", "bytes", "head MACs", "tail MACs", "tensors")
    print("\n".join(table(head, [_row(cut, cut.id in best) for cut in listed])))
    print(f"\n{plain(model.name)}: {_summary(listed, len(pareto), bool(arguments.limit))}")


def _summary(listed: Cuts, pareto: int, limited: bool) -> str:
    if limited:
        told = "these are all" if listed.complete else f"there are more than the {listed.limit} asked for"
    else:
        told = "of several tensors only those of the Pareto set; --limit N lists more"
    return f"{len(listed)} cuts, {pareto} in the Pareto set (>); {told}"


def _record(cut: Cut) -> dict[str, Any]:
    return {
        "id": cut.id,
        "tensors": list(cut.tensors),
        "wire_bytes": cut.wire_bytes,
        "head_macs": cut.head_macs,
        "tail_macs": cut.tail_macs,
        "head_ops": cut.head_ops,
        "tail_ops": cut.tail_ops,
        "head_outputs": list(cut.head_outputs),
        "tail_outputs": list(cut.tail_outputs),
    }


def _row(cut: Cut, best: bool) -> tuple[str, ...]:
    names = [plain(name) for name in cut.tensors]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    size = "?" if cut.wire_bytes is None else f"{cut.wire_bytes:,}"
    return (
        ">" if best else "",
        cut.id,
        f"{size:>9}",
        f"{cut.head_macs / 1e6:9.2f} M",
        f"{cut.tail_macs / 1e6:9.2f} M",
        ", ".join(names[:_SHOWN]) + more,
    )


# --- making ---


def _make(arguments: argparse.Namespace, model: ModelFile, graph: Graph) -> None:
    from edge_sdk.graph.codec import wire_bytes
    from edge_sdk.offload.parts import made_parts
    from edge_sdk.offload.parts_kept import kept_parts

    cut = _cut(arguments.at, model, graph)
    samples = requests_of(arguments.data)
    # With data the comparison itself is what was asked for; without, head and tail of an earlier call will do.
    make = made_parts if samples else kept_parts
    made = make(model, cut, codec=arguments.codec, samples=samples, graph=graph)
    files = _write(arguments.output, Path(arguments.model).stem, made) if arguments.output else []
    if arguments.export:
        from edge_sdk.offload.exporting import export_tail

        server, folder = arguments.export
        files += export_tail(server, Path(folder), f"{Path(arguments.model).stem}-{cut.id}", made.split)
    record = {
        "model": arguments.model,
        **_record(cut),
        "codec": arguments.codec,
        "coded_bytes": wire_bytes(graph, cut, arguments.codec),
        "head_bytes": len(made.split.head),
        "tail_bytes": len(made.split.tail),
        "sent": list(made.split.sent),
        "exact": made.difference.exact,
        "relative_difference": made.difference.relative,
        "samples": made.samples,
        "made_up": made.made_up,
        "files": [str(path) for path in files],
    }
    print(json.dumps(record) if arguments.json else "\n".join(_page(record, made)))


def _cut(at: list[str], model: ModelFile, graph: Graph) -> Cut:
    """By tensors, or by the id of a cut that the list shows; the inputs also of a model that has no other cut."""
    from edge_sdk.graph.cuts import cut_at, cuts_of, input_cut, single_cuts
    from edge_sdk.graph.cuts_pareto import pareto_cuts

    if set(at) == set(graph.inputs):
        return input_cut(graph)
    if len(at) == 1 and at[0] not in graph.tensors:
        for find in (single_cuts, pareto_cuts, cuts_of):
            for cut in find(graph):
                if cut.id == at[0]:
                    return cut
    return cut_at(graph, at, where=model.name)


def _write(folder: Path, stem: str, made: Parts) -> list[Path]:
    from edge_sdk.errors import StorageError
    from edge_sdk.storage import write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be created: {error.strerror}") from error
    suffix = made.split.cut.format
    files = []
    parts = {"head": made.split.head, "tail": made.split.tail}
    for part, content in ((name, content) for name, content in parts.items() if content):
        files.append(folder / f"{stem}.{part}.{suffix}")
        write_whole(files[-1], content)
    return files


def _page(record: dict[str, Any], made: Parts) -> list[str]:
    difference = made.difference
    on = "made-up inputs" if made.made_up else f"{made.samples} samples"
    equal = "bit for bit" if difference.exact else f"within {difference.relative:.2g} of the largest value"
    size = "?" if record["coded_bytes"] is None else f"{record['coded_bytes']:,}"
    rows = [
        ("cut", f"{record['id']} at {', '.join(record['tensors'])}"),
        ("travels", f"{size} bytes a request, codec {record['codec']}: {', '.join(record['sent'])}"),
        (
            "head",
            f"{record['head_macs'] / 1e6:.2f} M MACs in {record['head_ops']} ops, {len(made.split.head):,} bytes"
            if made.split.head
            else "none: the inputs travel as they are",
        ),
        ("tail", f"{record['tail_macs'] / 1e6:.2f} M MACs in {record['tail_ops']} ops, {len(made.split.tail):,} bytes"),
        *([("equal", f"head then tail gives what the whole gives, {equal}, on {on}")] if made.samples else []),
        *(("wrote", path) for path in record["files"]),
    ]
    if made.split.scales and made.made_up:
        rows.append(("note", f"ranges for {record['codec']} come from made-up inputs; give real ones with --data"))
    return [f"{title:<9}{plain(value)}" for title, value in rows]
