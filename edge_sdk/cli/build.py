"""`edge-sdk build`: a model becomes a bundle of variants, each judged against it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.cli.build_answers import as_text
from edge_sdk.cli.numbers import number, whole
from edge_sdk.cli.progress import Steps
from edge_sdk.cli.run_options import add_picture_settings

if TYPE_CHECKING:
    from edge_sdk.building import BuildResult, Converted

__all__ = ["add_parser", "run"]

_SETTINGS = ("size", "mean", "scale", "layout", "channels", "resize", "interpolation")
_DESCRIPTION = """\
Turns a model into a bundle of variants (fp16, int8, int4, pruned, ...), each judged against the model on data.
Variants beyond --max-drop are dropped; what cannot be made is a line that says why."""
_EXAMPLES = """\
examples:
  edge-sdk build model.onnx -o model.edge --calibration photos/ --evaluate labelled.npz --report report.html
  edge-sdk build detector.onnx -o detector.edge --twin detector.tflite --calibration photos/
  edge-sdk build net.pt2 -o net.edge --variants fp32,fp16 --python ~/torch/bin/python
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb and its options."""
    parser = verbs.add_parser(
        "build",
        help="turn a model into a bundle of variants with honest figures",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a .onnx, .tflite, .pt2 or Keras file, a SavedModel folder, or module:function"
    )
    parser.add_argument("-o", "--out", metavar="NAME.edge", required=True, type=Path, help="the bundle to write")
    parser.add_argument("--name", metavar="NAME", help="of the model; the file's by default")
    parser.add_argument("--zip", action="store_true", help="one zip archive rather than a folder")
    parser.add_argument(
        "--variants", metavar="A,B", type=_names, help="which, by name; see docs/build.md; all that fit by default"
    )
    parser.add_argument(
        "--twin", metavar="OTHER", type=Path, action="append", default=[], help="the same model in the other format"
    )
    parser.add_argument(
        "--cuts",
        metavar="S",
        type=number(86400, "seconds"),
        nargs="?",
        const=60.0,
        help="measure bytes, accuracy and leakage of each variant's cuts by every codec, for at most S seconds (60)",
    )
    parser.add_argument(
        "--cascade", action="store_true", help="look for a small variant that may answer what it is sure of"
    )
    parser.add_argument(
        "--small",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="another, smaller model of the same inputs and outputs that a cascade may begin with",
    )
    parser.add_argument("--report", metavar="FILE.html", type=Path, help="write a page to choose from")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--python", metavar="PATH", help="the Python that has torch or tensorflow, to convert with")
    _add_judging(parser.add_argument_group("data and judging"))
    add_picture_settings(
        parser.add_argument_group("pictures; what is not given is read from the model or assumed, and told")
    )


def _add_judging(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--calibration", metavar="PATH", type=Path, help="samples: a folder or an .npz file")
    group.add_argument("--evaluate", metavar="PATH", type=Path, help="samples to judge by, with labels if any")
    group.add_argument("--samples", metavar="N", type=whole(), help="the most to take of each, evenly spread")
    group.add_argument("--labels", metavar="FILE", type=Path, help="names of the model's classes, one a line")
    group.add_argument(
        "--max-drop",
        metavar="SHARE",
        type=number(1, "a share"),
        default=0.01,
        help="the largest drop of the metric (default 0.01)",
    )
    group.add_argument("--keep", action="store_true", help="store variants beyond it too, with a mark")
    group.add_argument(
        "--metric", metavar="NAME", help="top1, top5, map, map50, iou, or module:function(outputs, label)"
    )
    group.add_argument(
        "--measure",
        metavar="S",
        type=number(3600, "seconds"),
        default=1.0,
        help="seconds for timing each variant (default 1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from edge_sdk.building.report import require_report, write_report

    if arguments.report is not None:
        require_report()
    with Steps() as steps:
        result = _built(arguments, steps)
    if arguments.report is not None:
        write_report(arguments.report, result)
    if arguments.json:
        import msgspec

        sys.stdout.write(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")
    else:
        print("\n".join(as_text(result)))
        if arguments.report is not None:
            print(f"report: {arguments.report}")
    return 0


def _built(arguments: argparse.Namespace, steps: Steps) -> BuildResult:
    from edge_sdk.building import Reading, build
    from edge_sdk.vision import read_labels

    given = {name: getattr(arguments, name) for name in _SETTINGS if getattr(arguments, name) is not None}
    reading = Reading(arguments.samples, read_labels(arguments.labels) if arguments.labels else (), given)
    with ExitStack() as stack:
        source, name, converted = _source(arguments, stack, steps)
        return build(
            source,
            arguments.out,
            calibration=arguments.calibration,
            evaluate=arguments.evaluate,
            variants=arguments.variants,
            max_drop=arguments.max_drop,
            keep=arguments.keep,
            twins=arguments.twin,
            metric=arguments.metric,
            reading=reading,
            name=name,
            as_zip=True if arguments.zip else None,
            measure_s=arguments.measure,
            cuts_s=arguments.cuts,
            cascade=arguments.cascade,
            smalls=arguments.small,
            recipe=converted,
            progress=steps,
        )


def _source(arguments: argparse.Namespace, stack: ExitStack, steps: Steps) -> tuple[Path, str | None, dict[str, str]]:
    """The model file, its name, and how it was made where it had to be converted."""
    from edge_sdk.building.conversion import convert, needs_converting

    if not needs_converting(arguments.model):
        return Path(arguments.model), arguments.name, {}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-sdk-convert-")))
    steps("converting", 0, 1)
    made: Converted = convert(arguments.model, folder, arguments.python)
    name = arguments.name or Path(arguments.model.rpartition(":")[2]).stem
    compared = (
        "not compared with the model itself" if made.error is None else f"within {made.error:.1e} of the model itself"
    )
    return made.file, name, {"converted from": arguments.model, "converted by": f"{made.how}; {compared}"}


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise argparse.ArgumentTypeError("expected names of variants with commas between")
    return names
