"""Promises are refused in advance where they cannot be kept, and the refusal has the figures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.schedule.admission import Demand, admissible


def demand(name: str, service_ms: float, rate_hz: float, cores: int = 1, deadline_ms: float | None = None) -> Demand:
    period_ms = 1e3 / rate_hz
    return Demand(name, service_ms, period_ms, deadline_ms or period_ms, cores)


CAMERA, WORDS = demand("camera", 12.0, 30.0), demand("words", 5.0, 10.0)


def test_what_fits_is_admitted_and_says_what_is_promised() -> None:
    verdict = admissible(WORDS, [CAMERA], 2)
    assert verdict.admitted
    assert verdict.share == 0.41
    assert "0.41 of" in verdict.reason


def test_a_request_longer_than_its_deadline_is_refused() -> None:
    verdict = admissible(demand("slow", 40.0, 30.0), [], 4)
    assert not verdict.admitted
    assert "takes 40 ms alone, more than its deadline of 33.3 ms" in verdict.reason


def test_more_than_the_cores_give_is_refused_with_the_figures() -> None:
    first, second = (demand(name, 9.0, 100.0, deadline_ms=60.0) for name in ("first", "second"))
    verdict = admissible(second, [CAMERA, first], 2)
    assert not verdict.admitted
    assert "second needs 0.90 of a core (9 ms on 1 every 10 ms); with it 2.16 would be promised" in verdict.reason


def test_who_would_have_to_wait_behind_a_long_request_is_protected() -> None:
    verdict = admissible(demand("long", 30.0, 2.0), [CAMERA], 1)
    assert not verdict.admitted
    assert verdict.reason.startswith("camera: may wait 30 ms for requests that have begun")
    assert admissible(demand("long", 30.0, 2.0), [CAMERA], 2).admitted, "with a core for each nobody waits"


def test_a_request_on_several_cores_counts_for_all_of_them() -> None:
    assert demand("wide", 10.0, 30.0, cores=2).share == 0.6
    assert not admissible(demand("wide", 20.0, 40.0, cores=2), [CAMERA], 2).admitted


def test_a_lower_priority_is_protected_from_the_higher_ones_before_its_deadline() -> None:
    often = Demand("often", 5.0, 10.0, 20.0, priority=1)
    seldom = Demand("seldom", 8.0, 200.0, 20.0)
    verdict = admissible(seldom, [often], 1)
    assert not verdict.admitted
    assert verdict.reason.startswith("seldom: may wait 10 ms for requests of higher priority beside 5 ms for such that")
    assert admissible(Demand("seldom", 4.0, 200.0, 20.0), [often], 1).admitted
    assert not admissible(often, [seldom], 1).admitted, "nor does one that comes later break what was promised"


def test_cores_of_one_kind_are_promised_once_and_the_others_stay_free() -> None:
    little = [Demand(name, 20.0, 33.0, 33.0, cpus=frozenset({4})) for name in ("first", "second")]
    assert not admissible(little[1], little[:1], 8).admitted
    assert admissible(Demand("second", 20.0, 33.0, 33.0, cpus=frozenset({5})), little[:1], 8).admitted
    assert admissible(Demand("second", 20.0, 33.0, 33.0), little[:1], 8).admitted


SERVICES = st.lists(st.tuples(st.floats(0.1, 50.0), st.floats(1.0, 60.0)), min_size=1, max_size=6)


@given(SERVICES, st.integers(1, 8))
def test_never_more_is_promised_than_there_is(asked: list[tuple[float, float]], cores: int) -> None:
    admitted: list[Demand] = []
    for number, (service_ms, rate_hz) in enumerate(asked):
        one = demand(str(number), service_ms, rate_hz)
        if admissible(one, admitted, cores).admitted:
            admitted.append(one)
    assert sum(one.share for one in admitted) <= cores


@given(SERVICES, st.integers(1, 8))
def test_fewer_promises_never_hinder(asked: list[tuple[float, float]], cores: int) -> None:
    every = [demand(str(number), *each) for number, each in enumerate(asked)]
    if admissible(every[-1], every[:-1], cores).admitted:
        assert admissible(every[-1], every[:-2], cores).admitted
