"""Models within a budget of memory: who goes, who stays, and that nobody who uses one loses it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from edge_sdk.errors import InputValueError, OutOfMemory, SessionClosed
from edge_sdk.residence import LEAST_OF_ESTIMATE, Residence

WAIT_S = 30


@dataclass
class Model:
    """Stands for a session that takes so much."""

    size_mb: float
    open: bool = True

    def __post_init__(self) -> None:
        self.plan = SimpleNamespace(
            engine="made up", chosen=SimpleNamespace(memory_mb=self.size_mb / LEAST_OF_ESTIMATE)
        )

    def warm_up(self) -> None:
        assert self.open

    def close(self) -> None:
        self.open = False


@pytest.fixture(autouse=True)
def no_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these take is what they say."""
    monkeypatch.setattr("edge_sdk.residence.memory_of", lambda: SimpleNamespace(private_mb=100.0))


def model(size_mb: float, made: list[Model] | None = None) -> Callable[[], Any]:
    def load() -> Model:
        loaded = Model(size_mb)
        if made is not None:
            made.append(loaded)
        return loaded

    return load


def test_the_least_recently_used_makes_room() -> None:
    residence = Residence(25.0)
    for name in ("a", "b"):
        residence.add(name, model(10.0), keep=False)
    with residence.using("a"):
        pass
    residence.add("c", model(10.0), keep=False)
    assert set(residence.resident()) == {"a", "c"}


def test_what_was_unloaded_is_loaded_again_when_it_is_asked() -> None:
    made: list[Model] = []
    residence = Residence(15.0)
    residence.add("a", model(10.0, made), keep=False)
    residence.add("b", model(10.0), keep=False)
    assert not made[0].open
    with residence.using("a") as session:
        assert session is made[1]  # type: ignore[comparison-overlap]
        assert made[1].open
    assert residence.loads("a") == (2, 0)
    assert set(residence.resident()) == {"a"}


def test_ten_models_in_turn_never_take_more_than_the_budget() -> None:
    residence = Residence(35.0)
    for number in range(10):
        residence.add(str(number), model(10.0), keep=False)
    for turn in range(100):
        with residence.using(str(turn * 7 % 10)):
            assert sum(residence.resident().values()) <= 35.0


def test_who_uses_a_model_does_not_lose_it_and_who_needs_room_waits() -> None:
    made: list[Model] = []
    residence = Residence(15.0)
    residence.add("b", model(10.0), keep=False)
    residence.add("a", model(10.0, made), keep=False)
    with ThreadPoolExecutor(1) as pool:

        def use() -> None:
            with residence.using("b"):
                pass

        with residence.using("a"):
            using = pool.submit(use)
            with pytest.raises(TimeoutError):
                using.result(0.1)
            assert made[0].open
        using.result(WAIT_S)
    assert not made[0].open


def test_what_must_stay_stays_and_what_does_not_fit_beside_it_is_refused() -> None:
    made: list[Model] = []
    residence = Residence(25.0)
    residence.add("stays", model(20.0), keep=True)
    with pytest.raises(OutOfMemory, match=r"large: takes 10 MB; 20 MB stay for stays, and max_memory_mb is 25"):
        residence.add("large", model(10.0, made), keep=False)
    assert not made[0].open
    assert set(residence.resident()) == {"stays"}


def test_many_threads_use_many_models_within_the_budget() -> None:
    residence = Residence(25.0)
    for number in range(6):
        residence.add(str(number), model(10.0), keep=False)

    def use(thread: int) -> bool:
        for turn in range(60):
            with residence.using(str((thread + turn * 5) % 6)) as session:
                if not session.open:  # type: ignore[attr-defined]
                    return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(use, range(6)))
    assert sum(residence.resident().values()) <= 25.0


def test_it_is_loaded_before_it_is_asked_where_that_is_wanted() -> None:
    residence = Residence(15.0)
    residence.add("a", model(10.0), keep=False)
    residence.add("b", model(10.0), keep=False)
    residence.preload("a")
    for _ in range(WAIT_S * 1000):
        if set(residence.resident()) == {"a"}:
            break
        threading.Event().wait(0.001)
    assert set(residence.resident()) == {"a"}


def used(residence: Residence, names: str) -> None:
    for name in names:
        with residence.using(name):
            pass


def settled() -> None:
    """What was begun beside the uses has ended."""
    for thread in threading.enumerate():
        if thread.name == "edge-sdk-foresee":
            thread.join(WAIT_S)
            assert not thread.is_alive()


def with_a_habit() -> Residence:
    """Room for two of a, b and n; n has followed a twice, and is not loaded. Nor is a."""
    residence = Residence(25.0)
    for name in "abn":
        residence.add(name, model(10.0), keep=False)
    used(residence, "anan")
    used(residence, "b")
    residence.add("other", model(10.0), keep=False)
    settled()
    assert set(residence.resident()) == {"b", "other"}
    assert residence.follower("a") == "n in 100%"
    assert residence.loads("n")[1] == 0
    return residence


def test_what_follows_as_a_rule_is_loaded_while_the_one_before_is_used() -> None:
    residence = with_a_habit()
    with residence.using("a"):
        settled()
        assert set(residence.resident()) == {"a", "n"}
        loads = residence.loads("n")
        assert loads == (2, 1)
        used(residence, "n")
        assert residence.loads("n") == loads, "it was there"


def test_nothing_in_use_makes_room_for_what_is_only_expected() -> None:
    residence = with_a_habit()
    with residence.using("b"), residence.using("a"):
        settled()
        assert set(residence.resident()) == {"a", "b"}
    assert residence.loads("n")[1] == 0


def test_what_cannot_be_loaded_ahead_fails_only_who_asks_for_it() -> None:
    residence = with_a_habit()
    broken = [True]

    def load() -> Any:
        if broken[0]:
            raise OutOfMemory("no memory just now")
        return Model(10.0)

    residence._tenants["n"].load = load
    used(residence, "a")
    settled()
    broken[0] = False
    used(residence, "n")
    assert residence.loads("n") == (2, 0)


class Growing:
    """The process as the kernel tells of it: libraries that stay, and models that come and go."""

    def __init__(self, libraries_mb: float) -> None:
        self.libraries_mb, self.loaded_mb, self.started = libraries_mb, 0.0, False

    def load(self, size_mb: float) -> Callable[[], Any]:
        def load() -> Any:
            self.started = True
            self.loaded_mb += size_mb
            loaded = Model(0.0)
            loaded.close = lambda: setattr(self, "loaded_mb", self.loaded_mb - size_mb)  # type: ignore[method-assign]
            return loaded

        return load

    def memory(self) -> Any:
        return SimpleNamespace(private_mb=30.0 + self.libraries_mb * self.started + self.loaded_mb)


def test_what_a_model_takes_is_measured_without_the_libraries_of_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Growing(60.0)
    monkeypatch.setattr("edge_sdk.residence.memory_of", process.memory)
    residence = Residence(100.0)
    residence.add("a", process.load(40.0), keep=True, size_mb=100.0)
    residence.add("b", process.load(35.0), keep=True, size_mb=100.0)
    assert residence.resident() == {"a": 40.0, "b": 35.0}


def test_what_was_removed_is_gone() -> None:
    made: list[Model] = []
    residence = Residence(None)
    residence.add("a", model(10.0, made), keep=True)
    residence.remove("a")
    residence.remove("a")
    assert not made[0].open
    with pytest.raises(SessionClosed), residence.using("a"):
        pass


def test_a_budget_is_above_nothing() -> None:
    with pytest.raises(InputValueError, match="max_memory_mb"):
        Residence(0.0)


def test_closing_waits_for_what_is_loaded_ahead_and_frees_it() -> None:
    residence, made, loading, go = with_a_habit(), [], threading.Event(), threading.Event()

    def load() -> Any:
        loading.set()
        assert go.wait(WAIT_S)
        made.append(Model(10.0))
        return made[-1]

    residence._tenants["n"].load = load
    used(residence, "a")
    assert loading.wait(WAIT_S)
    residence.remove("n")
    closing = threading.Thread(target=residence.close)
    closing.start()
    assert closing.is_alive()
    go.set()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert [one.open for one in made] == [False]
