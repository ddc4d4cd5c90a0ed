"""Names of tails: what is written is read back to the bit, and nothing else is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import InputError
from edge_sdk.graph.codec import Scale, coding_text, read_coding
from edge_sdk.graph.flow import Cut
from edge_sdk.offload.tail_names import TailName

SCALES = st.builds(
    Scale, st.floats(0, exclude_min=True, allow_infinity=False, width=32), st.integers(0, 255)
)  # fmt: skip


@given(st.lists(SCALES, max_size=40).map(tuple), st.lists(st.text(min_size=1), min_size=1, max_size=4).map(tuple))
def test_scales_and_tensors_come_back_to_the_bit(scales: tuple[Scale, ...], tensors: tuple[str, ...]) -> None:
    name = TailName.of_tensors("m", tensors, "int8" if scales else "fp16", "0123abcd", scales)
    assert TailName.parse(str(name)) == name
    assert (name.tensors, name.scales) == (tensors, scales)
    assert [np.float32(scale.scale) for scale in name.scales] == [scale.scale for scale in scales]


@given(st.text() | st.text("+=:,@0123456789abcdefint8p", max_size=60).map("m@a+int8=".__add__))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        name = TailName.parse(text)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return
    if name is not None:
        assert TailName.parse(str(name)) == name
        assert all(0 < scale.scale < math.inf and 0 <= scale.zero_point <= 255 for scale in name.scales)


@pytest.mark.parametrize(
    "scales",
    ["", "3f800000", "3f800000:", ":0", "3f800000:0,", "3f80000:0", "3F800000:0", "3f800000:256", "3f800000:-1",
     "3f800000:0:0", "7f800000:0", "7fc00000:0", "bf800000:0", "00000000:0", "80000000:0", "3f800000:١"],
)  # fmt: skip
def test_scales_that_can_be_none_are_refused(scales: str) -> None:
    assert read_coding(f"int8={scales}") is None
    with pytest.raises(InputError, match=r"\+int8=SCALE:ZERO"):
        TailName.parse(f"m@a+int8={scales}")


def test_there_are_no_more_scales_than_tensors_may_be_cut() -> None:
    text = coding_text("int8", [Scale(1.0, 0)] * 256)
    assert read_coding(text) == ("int8", (Scale(1.0, 0),) * 256)
    assert read_coding(f"{text},3f800000:0") is None
    with pytest.raises(InputError):
        TailName.parse(f"m@a+{text},3f800000:0")


@pytest.mark.parametrize(
    "text", ["none=3f800000:0", "fp16=3f800000:0", "int5=3f800000:0", "int5", "int4=3f800000:128", "int16=3f800000:1"]
)
def test_only_what_is_scaled_has_scales(text: str) -> None:
    assert read_coding(text) is None


def test_only_cuts_that_any_endpoint_lists_go_by_their_id() -> None:
    one = Cut("0123456789ab", "onnx", ("a",), (), ("y",), 4, 1, 1, 0, 0)
    two, inputs = replace(one, tensors=("a", "b")), replace(one, tensors=("a", "b"), head_ops=0)
    assert [str(TailName.of_cut("m", cut, fingerprint="9" * 64)) for cut in (one, two, inputs)] == [
        f"m:{'9' * 16}@0123456789ab",
        f"m:{'9' * 16}@a,b",
        f"m:{'9' * 16}@0123456789ab",
    ]
