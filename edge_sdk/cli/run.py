"""`edge-sdk run`: a model on pictures, sound or arrays."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_sdk.cli.endpoint_options import endpoint_addresses
from edge_sdk.cli.plain import plain
from edge_sdk.cli.progress import Progress
from edge_sdk.cli.run_answers import Answer, as_json, as_text
from edge_sdk.cli.run_inputs import FeedPlan, InputFile, input_files, plan_feeds
from edge_sdk.cli.run_model import describe
from edge_sdk.cli.run_options import EXAMPLES, add_options
from edge_sdk.errors import InputError, InputValueError, UnreadableInput

if TYPE_CHECKING:
    from edge_sdk.session import Session

__all__ = ["add_parser", "run"]


_STILL_SENDING = "the bundle is still on its way: the next run goes on with it, edge-sdk upload sends it in one go"


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
    add_options(
        verbs.add_parser(
            "run",
            help=summary,
            description=summary.capitalize() + ".",
            epilog=EXAMPLES,
            usage="edge-sdk run MODEL --input PATH [PATH ...] [options]",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code: 1 where any input could not be answered."""
    from edge_sdk.vision import read_labels

    if arguments.model is None:
        # `run --input photos/ MODEL`: an option that takes several values has taken the model too.
        if len(arguments.input) < 2:
            arguments.usage_error("MODEL is missing: the .onnx or .tflite file or the bundle to run")
        arguments.model = arguments.input.pop()
    files = input_files(arguments.input)
    described = describe(arguments)
    labels = read_labels(arguments.labels) if arguments.labels else described.labels or None
    plan = plan_feeds(described.name, described.inputs, described.outputs, arguments.feed, arguments.state)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        with _load(arguments, plan, files) as session:
            plan = plan.for_session(session.inputs, session.outputs)
            code = _answer_all(session, arguments, plan, files, labels)
            if arguments.upload and not arguments.json:
                print("\n".join(plain(event) for event in session.report().events) or _STILL_SENDING)
            return code


def _load(arguments: argparse.Namespace, plan: FeedPlan, files: Sequence[InputFile]) -> Session:
    from edge_sdk.loading import load

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
        variant=arguments.variant,
        min_accuracy=arguments.min_accuracy,
        endpoints=endpoint_addresses(arguments.endpoint, arguments),
        cut=arguments.cut[0] if arguments.cut and len(arguments.cut) == 1 else arguments.cut,
        codec=arguments.codec,
        data=[_task(file.kind, arguments, plan, None).feeds(file.path) for file in input_files(arguments.data)],
        endpoint_model=arguments.endpoint_model,
        deadline_ms=arguments.deadline_ms,
        upload=arguments.upload,
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
                where = "" if str(file.path) in str(error) else f"{file.path}: "
                progress.complain(f"edge-sdk: {plain(where + str(error))}")
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
    if (figures := session.split_figures()) is not None:
        print(f"answered by an endpoint {figures.remote}, here {figures.local} (both begun {figures.hedged})")
        if figures.failure:
            print(f"last failure: {plain(figures.failure)}")
    plan = session.plan
    where = plan.engine if plan.accelerator == "cpu" else f"{plan.engine} ({plan.accelerator})"
    # A plan that was measured names engine and placement in its reason.
    named = plan.reason.startswith((plan.engine, f"{plan.variant} on {plan.engine}"))
    print(f"ran on {plan.reason}" if named else f"ran on {where}, {plan.placement.describe()}: {plan.reason}")


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    print(f"edge-sdk: warning: {plain(str(message))}", file=sys.stderr)
