"""What travels packed, and how an endpoint that does not take it so is asked all the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import EndpointRefused, InputError
from edge_sdk.offload import LocalTail, SplitRunner, SplitSpec
from edge_sdk.offload.input_coding import decode
from edge_sdk.tensors import Array, TensorSpec
from edge_sdk.wire.encoded import Encoded
from edge_sdk.wire.limits import Limits
from edge_sdk.wire.simulated import SimulatedEndpoint, SimulatedTimeline

pytest.importorskip("cv2")
SHAPE = (1, 32, 48, 3)
PICTURE = np.full(SHAPE, 120, np.uint8)


def mean(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The model: the mean of each channel."""
    return {"y": feeds["x"].astype(np.float32).mean(axis=(1, 2))}


def runner(endpoint: SimulatedEndpoint, timeline: SimulatedTimeline, **options: Any) -> SplitRunner:
    """The whole model as a tail, at the endpoint and here."""
    outputs = (TensorSpec("y", "float32", (1, 3)),)
    spec = SplitSpec(
        name="m", inputs=(TensorSpec("x", "uint8", SHAPE),), outputs=outputs, tail="tail", travels=("x",),
        gives=outputs, **options,
    )  # fmt: skip
    return SplitRunner(
        spec, lambda feeds: feeds, LocalTail(lambda: mean, timeline=timeline), [endpoint], timeline=timeline
    )


class Seen(SimulatedEndpoint):
    """Keeps what it was asked with, and refuses content codings with a status."""

    status = 0

    def infer(self, model: str, feeds: Any, *, content_coding: str = "", **options: Any) -> Any:
        self.seen = [*getattr(self, "seen", []), (type(feeds["x"]).__name__, content_coding)]
        if content_coding and self.status:
            raise EndpointRefused("no such content coding", self.status)
        return super().infer(model, feeds, **options)


def endpoint(timeline: SimulatedTimeline, able: bool = True) -> Seen:
    decoding = partial(decode, tensor="x", limits=Limits()) if able else None
    return Seen({"tail": mean}, timeline=timeline, decode=decoding)


def test_the_picture_travels_encoded() -> None:
    timeline = SimulatedTimeline()
    there = endpoint(timeline)
    with_picture = runner(there, timeline, codings={"x": "jpeg@80"}, content_coding="deflate")
    assert np.abs(with_picture.run({"x": PICTURE})["y"] - 120).max() < 3
    assert there.seen == [("Encoded", "deflate")] and with_picture.figures().remote == 1


def test_an_endpoint_without_decoders_gets_raw_bytes_from_then_on() -> None:
    timeline = SimulatedTimeline()
    there = endpoint(timeline, able=False)
    split = runner(there, timeline, codings={"x": "webp@75"})
    for _ in range(3):
        assert (split.run({"x": PICTURE})["y"] == 120).all()
    assert there.seen == [("Encoded", ""), ("ndarray", ""), ("ndarray", ""), ("ndarray", "")]
    assert split.figures().remote == 3 and split.figures().failure == ""


def test_a_content_coding_is_left_out_first() -> None:
    timeline = SimulatedTimeline()
    there = endpoint(timeline)
    there.status = 415
    split = runner(there, timeline, codings={"x": "jpeg@90"}, content_coding="deflate")
    for _ in range(2):
        split.run({"x": PICTURE})
    assert there.seen == [("Encoded", "deflate"), ("Encoded", ""), ("Encoded", "")]


def test_other_refusals_are_no_reason_to_pack_less_and_the_local_tail_takes_the_picture_as_it_is() -> None:
    timeline = SimulatedTimeline()
    there = endpoint(timeline)
    there.status = 503
    split = runner(there, timeline, codings={"x": "jpeg@90"}, content_coding="deflate")
    assert (split.run({"x": PICTURE})["y"] == 120).all()
    assert there.seen == [("Encoded", "deflate")] and split.figures().local == 1


def test_what_cannot_be_encoded_travels_raw() -> None:
    timeline = SimulatedTimeline()
    there = endpoint(timeline)
    assert runner(there, timeline, codings={"x": "flac"}).run({"x": PICTURE})["y"].shape == (1, 3)
    assert there.seen == [("ndarray", "")]


def test_a_coding_that_is_none_is_told_at_once() -> None:
    timeline = SimulatedTimeline()
    with pytest.raises(InputError, match="input coding 'png' is not known"):
        runner(endpoint(timeline), timeline, codings={"x": "png"})
    assert Encoded(b"abc", "UINT8", (3,), "jpeg@1").nbytes == 3
