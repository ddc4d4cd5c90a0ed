"""`edge-sdk run`: a model on pictures, sound or arrays."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_sdk.cli.progress import Progress
from edge_sdk.cli.run_answers import Answer, as_json, as_text, plain
from edge_sdk.cli.run_inputs import FeedPlan, InputFile, input_files, plan_feeds
from edge_sdk.errors import InputError, InputValueError, UnreadableInput

if TYPE_CHECKING:
    from edge_sdk.session import Session

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  edge-sdk run mobilenet.tflite --input photos/ --labels labels.txt
  edge-sdk run detector.onnx --input street.jpg --confidence 0.6 --annotate drawn/
  edge-sdk run network.onnx --input batch.npy --json
  edge-sdk run vad.onnx --input talk.wav --window 512 --context 64 --state state=stateN --feed sr=16000
"""


class Task(Protocol):
    """One kind of input (pictures, sound, arrays) for one session."""

    def feeds(self, path: Path) -> dict[str, Any]:
        """What the model is fed with first for this file, to measure with."""

    def answer(self, session: Session, path: Path) -> Answer:
        """Reads one file, runs the model, and reads its answer."""

    def explain(self) -> str:
        """One line on how the file became feeds."""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb and its options."""
    summary = "run a model on pictures, sound or arrays"
    parser = verbs.add_parser(
        "run",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="an ONNX or TFLite file")
    parser.add_argument(
        "--input",
        metavar="PATH",
        nargs="+",
        required=True,
        action="extend",
        help="pictures, .npy, .npz or .wav files, or folders of them",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each input")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    parser.add_argument("--top", metavar="N", type=_count, default=3, help="how many classes to show (default 3)")
    parser.add_argument("--annotate", metavar="DIR", help="write each picture there with the result drawn on it")
    parser.add_argument("--save", metavar="DIR", help="write the raw outputs for each input there as .npz")
    _add_running(parser.add_argument_group("how it runs"))
    _add_picture(parser.add_argument_group("pictures; what is not given is read from the model or assumed, and told"))
    _add_sound(parser.add_argument_group("sound and further inputs"))


def _add_running(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--engine", metavar="NAME", help="onnxruntime or litert; chosen by default")
    group.add_argument("--accelerator", metavar="NAME", default="cpu", help="one that `edge-sdk device` lists")
    group.add_argument("--threads", metavar="N", type=_count, help="threads for one request; measured by default")
    group.add_argument(
        "--plan-budget", metavar="S", type=_seconds, default=1.0, help="seconds for measuring on first use (default 1)"
    )
    group.add_argument(
        "--float-io", action="store_true", help="arrays for quantised inputs and outputs are float32 and get converted"
    )


def _add_picture(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--size", metavar="HxW", type=_size, help="where the model leaves the size open")
    group.add_argument(
        "--mean", metavar="M[,M,M]", type=_figures, help="fed is (pixel - mean) / scale, with pixels from 0 to 255"
    )
    group.add_argument("--scale", metavar="S[,S,S]", type=_scale, help="see --mean")
    group.add_argument("--layout", choices=("NHWC", "NCHW"))
    group.add_argument("--channels", choices=("rgb", "bgr", "gray"))
    group.add_argument("--resize", choices=("stretch", "letterbox", "center-crop"))
    group.add_argument("--interpolation", choices=("nearest", "linear", "cubic", "area"))
    group.add_argument("--confidence", metavar="P", type=_fraction, help="least score of a box, or of speech")
    group.add_argument("--iou", metavar="P", type=_fraction, help="largest overlap of two boxes of a class")


def _add_sound(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--window", metavar="N", type=_count, help="samples a request; what the model tells by default")
    group.add_argument(
        "--step", metavar="N", type=_count, help="samples from one window to the next (default: --window)"
    )
    group.add_argument(
        "--context", metavar="N", type=_number, default=0, help="samples before the window that are fed with it"
    )
    group.add_argument(
        "--state",
        metavar="IN=OUT",
        type=_pair,
        action="append",
        default=[],
        help="an output that is the next request's input; zeros at first",
    )
    group.add_argument(
        "--feed",
        metavar="NAME=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="a further input: a number, a JSON list, or a .npy file",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code: 1 where any input could not be answered."""
    from edge_sdk.formats import open_model
    from edge_sdk.vision import read_labels

    files = input_files(arguments.input)
    labels = read_labels(arguments.labels) if arguments.labels else None
    with open_model(arguments.model) as model:
        info = model.describe()
    plan = plan_feeds(model.name, info, arguments.feed, arguments.state)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        with _load(arguments, plan, files) as session:
            plan = plan.for_session(session.inputs, session.outputs)
            return _answer_all(session, arguments, plan, files, labels)


def _load(arguments: argparse.Namespace, plan: FeedPlan, files: Sequence[InputFile]) -> Session:
    from edge_sdk.session import load

    sample = None
    if plan.needs_sample and arguments.plan_budget > 0 and arguments.threads is None:
        # Sizes that the model leaves open are measured with a real input: made-up ones of size 1 may not even run.
        for file in files:
            try:
                sample = _task(file.kind, arguments, plan, None).feeds(file.path)
                break
            except UnreadableInput:
                continue
    return load(
        arguments.model,
        engine=arguments.engine,
        accelerator=arguments.accelerator,
        threads=arguments.threads,
        plan_budget_s=arguments.plan_budget,
        state=plan.state,
        float_io=arguments.float_io,
        sample=sample,
    )


def _task(kind: str, arguments: argparse.Namespace, plan: FeedPlan, labels: Sequence[str] | None) -> Task:
    if kind == "picture":
        from edge_sdk.cli.run_pictures import PictureTask

        if arguments.float_io:
            raise InputValueError("--float-io is for arrays; pictures are quantised as the model says without it")
        return PictureTask.make(arguments, plan, labels)
    if kind == "sound":
        from edge_sdk.cli.run_sound import SoundTask

        return SoundTask.make(arguments, plan, labels)
    from edge_sdk.cli.run_arrays import ArrayTask

    return ArrayTask(plan, labels, arguments.top)


def _answer_all(
    session: Session,
    arguments: argparse.Namespace,
    plan: FeedPlan,
    files: Sequence[InputFile],
    labels: Sequence[str] | None,
) -> int:
    from edge_sdk.cli.run_saving import Saver

    saver = Saver(arguments.save) if arguments.save else None
    tasks: dict[str, Task] = {}
    failed = 0
    began = time.perf_counter()
    with Progress(len(files)) as progress:
        for file in files:
            if file.kind not in tasks:
                # Outside the guard below: what does not fit here fits no other input either.
                tasks[file.kind] = _task(file.kind, arguments, plan, labels)
            try:
                answer = tasks[file.kind].answer(session, file.path)
            except InputError as error:
                failed += 1
                progress.complain(f"edge-sdk: {plain(str(error))}")
            else:
                if saver is not None:
                    saver.save(file.path, answer.outputs)
                progress.show(as_json(answer, session.plan) if arguments.json else as_text(answer))
            progress.advance()
    if not arguments.json and failed < len(files):
        _summarise(session, tasks, len(files) - failed, time.perf_counter() - began)
    return 1 if failed else 0


def _summarise(session: Session, tasks: dict[str, Task], count: int, elapsed_s: float) -> None:
    if count > 1:
        print(f"{count} inputs, {count / elapsed_s:.1f} a second")
    for task in tasks.values():
        explained = task.explain()
        if explained:
            print(explained)
    plan = session.plan
    where = plan.engine if plan.accelerator == "cpu" else f"{plan.engine} ({plan.accelerator})"
    print(f"ran on {where}, {plan.placement.describe()}: {plan.reason}")


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    print(f"edge-sdk: warning: {plain(str(message))}", file=sys.stderr)


def _number(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 1 << 31:
        raise argparse.ArgumentTypeError(f"{text} is out of range; expected 0 or more")
    return number


def _count(text: str) -> int:
    number = _number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range; expected 1 or more")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is out of range; expected 0 to 3600 seconds")
    return seconds


def _fraction(text: str) -> float:
    fraction = float(text)
    if not 0 <= fraction <= 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range; expected 0 to 1")
    return fraction


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    return _count(height), _count(width or height)


def _figures(text: str) -> tuple[float, ...]:
    figures = tuple(float(part) for part in text.split(","))
    if len(figures) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text}: expected one figure, or three with commas between")
    return figures


def _scale(text: str) -> tuple[float, ...]:
    figures = _figures(text)
    if any(abs(figure) < 1 for figure in figures):
        raise argparse.ArgumentTypeError(
            f"{text} is below 1, and pixels from 0 to 255 are divided by it; multiply a standard deviation of pixels"
            " from 0 to 1 by 255 (and the mean too), and take the reciprocal of a factor"
        )
    return figures


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE")
    return name, value


# argparse names the type in its messages.
_number.__name__ = _count.__name__ = "whole number"
_seconds.__name__ = _fraction.__name__ = "number"
_size.__name__ = "size (HxW)"
_figures.__name__ = _scale.__name__ = "list of numbers"
