"""Which tails are made, kept and let go, with a maker that the test holds back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cloud_offload.refusals import Refusal
from cloud_offload.repository import ModelFiles
from cloud_offload.serving import Serving
from cloud_offload.settings import ServeSettings
from cloud_offload.tails import Tails
from edge_sdk.errors import EngineError, InputError, ModelError
from edge_sdk.offload.tail_names import TailName

FILES = ModelFiles("m", 1, Path("m"), "onnxruntime_onnx", (1,))


class Made:
    """Stands for a loaded tail."""

    batches = False

    def __init__(self, name: TailName) -> None:
        self.cut = name.cut


class Maker:
    """Makes tails, once it may."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may = threading.Event()
        self.may.set()
        self.fails: list[Exception] = []

    def __call__(self, files: ModelFiles, name: TailName, settings: ServeSettings) -> Serving:
        self.asked.append(name.cut)
        assert self.may.wait(60)
        if self.fails:
            raise self.fails.pop()
        return cast(Serving, Made(name))


@pytest.fixture
def maker() -> Maker:
    return Maker()


def within(maker: Maker, most: int = 2) -> tuple[Tails, list[str]]:
    """Tails, and the cuts of those that were let go."""
    gone: list[str] = []
    return Tails(ServeSettings(repository=Path(), tails=most), lambda s: gone.append(cast(Made, s).cut), maker), gone


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def test_many_who_ask_at_once_get_the_same_one(maker: Maker) -> None:
    async def asking() -> None:
        tails, _ = within(maker)
        maker.may.clear()
        waiting = [asyncio.create_task(tails.find(FILES, TailName("m", "a"))) for _ in range(5)]
        await asyncio.sleep(0)
        assert tails.making, "and the event loop goes on meanwhile"
        maker.may.set()
        found = await asyncio.gather(*waiting)
        assert all(one is found[0] for one in found)
        assert maker.asked == ["a"]
        tails.close()

    run(asking())


def test_who_goes_away_leaves_it_for_the_next(maker: Maker) -> None:
    async def asking() -> None:
        tails, _ = within(maker)
        maker.may.clear()
        first = asyncio.create_task(tails.find(FILES, TailName("m", "a")))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        maker.may.set()
        await tails.find(FILES, TailName("m", "a"))
        assert (first.cancelled(), maker.asked) == (True, ["a"])
        tails.close()

    run(asking())


def test_the_one_not_asked_for_the_longest_goes(maker: Maker) -> None:
    async def asking() -> None:
        tails, gone = within(maker, most=2)
        for cut in "abac":
            await tails.find(FILES, TailName("m", cut))
        assert (maker.asked, gone) == (["a", "b", "c"], ["b"])
        tails.forget(replace(FILES, stamp=(2,)))
        assert gone == ["b"]
        tails.forget(FILES)
        assert sorted(gone) == ["a", "b", "c"]
        tails.close()

    run(asking())


def test_with_one_kept_all_who_ask_for_different_ones_are_answered(maker: Maker) -> None:
    async def asking() -> None:
        tails, _ = within(maker, most=1)
        names = [TailName("m", cut) for cut in "abcabc"]
        found = await asyncio.gather(*(tails.find(FILES, name) for name in names))
        assert [cast(Made, one).cut for one in found] == list("abcabc")
        tails.close()

    run(asking())


def test_what_the_model_refuses_is_not_tried_again_and_what_failed_is(maker: Maker) -> None:
    async def asking() -> None:
        tails, _ = within(maker)
        for failure, tries in ((EngineError("busy"), 2), (ModelError("no cut"), 1), (Refusal(404, "none"), 1)):
            maker.asked.clear()
            name = TailName("m", str(failure))
            for _ in range(tries):
                maker.fails.append(failure)
                with pytest.raises(Refusal, match=str(failure)):
                    await tails.find(FILES, name)
            assert len(maker.asked) == tries
            if tries == 1:
                with pytest.raises(Refusal, match=str(failure)):
                    await tails.find(FILES, name)
                assert len(maker.asked) == 1
        tails.close()

    run(asking())


def test_too_many_at_once_are_told_to_come_back(maker: Maker) -> None:
    async def asking() -> None:
        tails, _ = within(maker)
        maker.may.clear()
        waiting = [asyncio.create_task(tails.find(FILES, TailName("m", f"t{n}"))) for n in range(17)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        refusals = [task.exception() for task in done]
        assert [isinstance(r, Refusal) and r.status for r in refusals] == [503]
        maker.may.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        tails.close()

    run(asking())


def test_one_that_is_made_at_the_end_is_let_go(maker: Maker) -> None:
    async def asking() -> None:
        tails, gone = within(maker)
        maker.may.clear()
        waiting = asyncio.create_task(tails.find(FILES, TailName("m", "a")))
        while not maker.asked:
            await asyncio.sleep(0)
        tails.close()
        maker.may.set()
        with pytest.raises(Refusal, match="stopping"):
            await waiting
        assert gone == ["a"]

    run(asking())


@pytest.mark.parametrize(
    "name",
    [
        TailName("m", "0123456789ab"),
        TailName("m", "0123456789ab", "fp16", "f" * 64),
        TailName.of_tensors("m", ("/a/b:0", "x,y", "50%", "u+fp16", "ä@é"), "fp16"),
    ],
)
def test_a_name_is_read_as_it_was_written(name: TailName) -> None:
    assert TailName.parse(str(name)) == name


def test_tensors_may_be_called_anything() -> None:
    tensors = ("/a/b:0", "x,y", "50%", "u+fp16", "ä@é")
    name = TailName.parse(str(TailName.of_tensors("m", tensors)))
    assert name is not None
    assert (name.tensors, name.cut_id) == (tensors, "")


def test_a_model_without_a_cut_is_no_tail() -> None:
    assert TailName.parse("m") is None
    for broken in ("@a", "m@", "m:@a", "m:XYZ@a", "m@" + "a" * 9000, "m@" + "a," * 300):
        with pytest.raises(InputError, match="expected MODEL@CUT"):
            TailName.parse(broken)
