"""Bodies in content codings, and refusing those that are broken or expand without end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InvalidAnswer
from edge_sdk.wire.content_coding import coded, decoded, known_codings

CODINGS = known_codings()


@pytest.mark.parametrize("coding", CODINGS)
@given(parts=st.lists(st.binary(max_size=200), max_size=4))
@settings(max_examples=30)
def test_what_is_coded_is_decoded(coding: str, parts: list[bytes]) -> None:
    body = coded(parts, coding)
    assert decoded(memoryview(body), coding, 1000, "endpoint") == b"".join(parts)


@pytest.mark.parametrize("coding", ["", "identity"])
def test_without_a_coding_nothing_is_copied(coding: str) -> None:
    body = memoryview(b"abc")
    assert decoded(body, coding, 3, "endpoint") is body


@pytest.mark.parametrize("coding", CODINGS)
def test_more_than_allowed_is_refused(coding: str) -> None:
    body = memoryview(coded([bytes(1 << 20)], coding))
    with pytest.raises(InvalidAnswer, match="more than 1000 bytes once decompressed"):
        decoded(body, coding, 1000, "endpoint")
    assert len(decoded(body, coding, 1 << 20, "endpoint")) == 1 << 20


@pytest.mark.parametrize("coding", CODINGS)
@given(data=st.data())
@settings(max_examples=40)
def test_broken_or_incomplete_ones_are_refused_or_decode_to_something_bounded(coding: str, data: st.DataObject) -> None:
    body = bytearray(coded([b"a tensor's bytes" * 20], coding))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    try:
        assert len(decoded(memoryview(cut), coding, 1000, "endpoint")) <= 1000
    except InvalidAnswer as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("coding", CODINGS)
def test_the_end_must_be_there(coding: str) -> None:
    body = coded([b"a tensor's bytes" * 20], coding)
    with pytest.raises(InvalidAnswer):
        decoded(memoryview(body)[:-1], coding, 1000, "endpoint")


def test_a_coding_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(InvalidAnswer, match="'br'"):
        decoded(memoryview(b"abc"), "br", 1000, "endpoint")
    with pytest.raises(ValueError, match="gzip, deflate, zstd"):
        coded([b"abc"], "br")
