"""The options of `edge-sdk run`, and what their values may be."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from edge_sdk.cli.endpoint_options import add_credentials
from edge_sdk.cli.numbers import number, whole

__all__ = ["EXAMPLES", "PICTURE_SETTINGS", "add_options", "add_picture_settings"]

EXAMPLES = """\
examples:
  edge-sdk run mobilenet.tflite --input photos/ --labels labels.txt
  edge-sdk run detector.onnx --input street.jpg --confidence 0.6 --annotate drawn/
  edge-sdk run network.onnx --input batch.npy --json
  edge-sdk run vad.onnx --input talk.wav --window 512 --context 64 --state state=stateN --feed sr=16000
"""

_CODECS = ("none", "fp16", "int8", "int8c", "int4", "int4c", "int16")
"""As edge_sdk.graph.codec.CODECS, which would cost the start of every run."""
_WORDS = {
    "layout": ("NHWC", "NCHW"),
    "channels": ("rgb", "bgr", "gray"),
    "resize": ("stretch", "letterbox", "center-crop"),
    "interpolation": ("nearest", "linear", "cubic", "area"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds model, inputs and options."""
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument("model", metavar="MODEL", nargs="?", help="an ONNX or TFLite file, or a bundle NAME.edge")
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
    parser.add_argument("--top", metavar="N", type=whole(), default=3, help="how many classes to show (default 3)")
    parser.add_argument("--annotate", metavar="DIR", help="write each picture there with the result drawn on it")
    parser.add_argument("--save", metavar="DIR", help="write the raw outputs for each input there as .npz")
    _add_running(parser.add_argument_group("how it runs"))
    _add_picture(parser.add_argument_group("pictures; what is not given is read from the model or assumed, and told"))
    _add_sound(parser.add_argument_group("sound and further inputs"))


def _add_running(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--engine", metavar="NAME", help="onnxruntime or litert; chosen by default")
    group.add_argument(
        "--variant", metavar="NAME", help="the one variant of a bundle that is wanted; chosen by default"
    )
    group.add_argument(
        "--min-accuracy", metavar="SHARE", type=number(1), help="what a bundle's variant must reach, from 0 to 1"
    )
    group.add_argument(
        "--endpoint", metavar="URL", action="append", default=[], help="where the model's tail may run; may be repeated"
    )
    group.add_argument(
        "--cut",
        metavar="TENSOR|ID",
        action="append",
        help="where to cut for --endpoint; chosen with the link in mind, and again as it changes, by default",
    )
    group.add_argument(
        "--codec",
        choices=_CODECS,
        help="how the cut's tensors travel to --endpoint; without --cut at the fewest bytes with half the work there",
    )
    group.add_argument(
        "--data", metavar="PATH", nargs="+", action="extend", default=[],
        help="inputs like those of --input, to compare --codec on; ranges come from them",
    )  # fmt: skip
    group.add_argument("--endpoint-model", metavar="NAME", help="what the endpoint calls the model")
    group.add_argument("--upload", action="store_true", help="send the bundle to an --endpoint that does not have it")
    group.add_argument("--deadline-ms", metavar="MS", type=float, help="for a request to --endpoint")
    add_credentials(group)
    group.add_argument("--accelerator", metavar="NAME", default="cpu", help="one that `edge-sdk device` lists")
    group.add_argument("--threads", metavar="N", type=whole(), help="threads for one request; measured by default")
    group.add_argument(
        "--plan-budget",
        metavar="S",
        type=number(3600, "seconds"),
        default=1.0,
        help="seconds for measuring on first use (default 1)",
    )
    group.add_argument(
        "--float-io", action="store_true", help="arrays for quantised inputs and outputs are float32 and get converted"
    )


def add_picture_settings(group: argparse._ArgumentGroup) -> None:
    """Adds how pictures become the input: the settings of `vision.Preprocessing`."""
    group.add_argument("--size", metavar="HxW", type=_size, help="where the model leaves the size open")
    group.add_argument(
        "--mean", metavar="M[,M,M]", type=_figures, help="fed is (pixel - mean) / scale, with pixels from 0 to 255"
    )
    group.add_argument("--scale", metavar="S[,S,S]", type=_scale, help="see --mean")
    group.add_argument("--layout", choices=_WORDS["layout"])
    group.add_argument("--channels", choices=_WORDS["channels"])
    group.add_argument("--resize", choices=_WORDS["resize"])
    group.add_argument("--interpolation", choices=_WORDS["interpolation"])


def _add_picture(group: argparse._ArgumentGroup) -> None:
    add_picture_settings(group)
    group.add_argument("--confidence", metavar="P", type=number(1), help="least score of a box, or of speech")
    group.add_argument("--iou", metavar="P", type=number(1), help="largest overlap of two boxes of a class")


def _add_sound(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--window", metavar="N", type=whole(), help="samples a request; what the model tells by default")
    group.add_argument(
        "--step", metavar="N", type=whole(), help="samples from one window to the next (default: --window)"
    )
    group.add_argument(
        "--context", metavar="N", type=whole(0), default=0, help="samples before the window that are fed with it"
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


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    side = whole()
    return side(height), side(width or height)


def _figures(text: str) -> tuple[float, ...]:
    try:
        figures = tuple(float(part) for part in text.split(","))
    except ValueError:
        figures = ()
    if len(figures) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r}: expected one number, or three with commas between")
    return figures


def _scale(text: str) -> tuple[float, ...]:
    figures = _figures(text)
    if any(abs(figure) < 1 for figure in figures):
        raise argparse.ArgumentTypeError(
            f"{text!r} is below 1, and pixels from 0 to 255 are divided by it; multiply a standard deviation of pixels"
            " from 0 to 1 by 255 (and the mean too), and take the reciprocal of a factor"
        )
    return figures


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE")
    return name, value


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def word(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r}: expected one of {', '.join(words)}")
        return text

    return word


PICTURE_SETTINGS: dict[str, Callable[[str], object]] = {
    "size": _size,
    "mean": _figures,
    "scale": _scale,
    **{name: _one_of(words) for name, words in _WORDS.items()},
}
"""The settings of `vision.Preprocessing` by name of the flag, and how their text is read."""
