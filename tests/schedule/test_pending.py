"""A bounded queue: what happens to the request for which there is no room."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_sdk.errors import InputValueError
from edge_sdk.schedule.pending import Pending


def never() -> bool:
    return False


def full(policy: str) -> tuple[Pending[str], threading.Condition]:
    changed = threading.Condition()
    pending: Pending[str] = Pending(2, policy, changed)
    with changed:
        assert pending.add("a", never) is None
        assert pending.add("b", never) is None
    return pending, changed


def test_the_oldest_goes_for_the_newest_frame() -> None:
    pending, changed = full("drop_oldest")
    with changed:
        assert pending.add("c", never) == "a"
        assert [pending.take(), pending.take()] == ["b", "c"]


def test_the_newest_is_refused() -> None:
    pending, changed = full("drop_newest")
    with changed:
        assert pending.add("c", never) == "c"
        assert pending.clear() == ("a", "b")


def test_who_asks_waits_for_room() -> None:
    pending, changed = full("block")
    with ThreadPoolExecutor(1) as pool:

        def add() -> str | None:
            with changed:
                return pending.add("c", never)

        adding = pool.submit(add)
        with pytest.raises(TimeoutError):
            adding.result(0.05)
        with changed:
            assert pending.take() == "a"
        assert adding.result(30) is None
    assert len(pending) == 2


def test_who_waits_for_room_is_told_of_the_end() -> None:
    pending, changed = full("block")
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:

        def add() -> str | None:
            with changed:
                return pending.add("c", over.is_set)

        adding = pool.submit(add)
        with changed:
            over.set()
            changed.notify_all()
        assert adding.result(30) == "c"


def test_one_is_taken_out_wherever_it_stands() -> None:
    pending, changed = full("block")
    with changed:
        assert pending.remove("b")
        assert not pending.remove("b")
        assert pending.first() == "a"


def test_there_is_no_other_policy_and_no_queue_of_nothing() -> None:
    with pytest.raises(InputValueError, match="drop_oldest"):
        Pending(1, "drop", threading.Condition())
    with pytest.raises(InputValueError, match="at least 1"):
        Pending(0, "block", threading.Condition())
