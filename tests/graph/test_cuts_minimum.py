"""`minimum_cut` against all divisions there are, and the Pareto set against all cuts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InputValueError, UnsupportedOp
from edge_sdk.graph import Graph, Op, open_graph
from edge_sdk.graph.cuts import Cut, cuts_of, single_cuts
from edge_sdk.graph.cuts_minimum import minimum_cut
from edge_sdk.graph.cuts_pareto import pareto_cuts
from edge_sdk.graph.max_flow import Network
from tests import models
from tests.graph import drawn
from tests.graph.drawn import graph, op

costs = st.floats(0, 100, allow_subnormal=False)


def macs(one: Op) -> float:
    return float(one.macs or 0)


def nothing(one: Op) -> float:
    return 0.0


def test_the_narrowest_place_is_found_where_only_bytes_cost() -> None:
    # x(40) ─ A ─ a(80) ─ B ─ b(8) ─ C ─ y, with a device that must run A and a tail that must run C
    ops = [op("A", "x", "a"), op("B", "a", "b"), op("C", "b", "y")]
    whole = graph(ops, "x", "y", sizes={"x": 40, "a": 80, "b": 8})
    cut = minimum_cut(whole, lambda o: 1000.0 * (o.name == "C"), lambda o: 1000.0 * (o.name == "A"), 1.0)
    assert (cut.tensors, cut.wire_bytes, cut.divides) == (("b",), 8, True)


def test_a_tensor_is_charged_once_however_many_ops_read_it() -> None:
    # x ─ A ─ a ┬ B, C, D ─ E ─ y: three readers of `a` behind the cut. Charged thrice, `a` would lose against x.
    ops = [op("A", "x", "a"), op("B", "a", "b"), op("C", "a", "c"), op("D", "a", "d"), op("E", "bcd", "y")]
    whole = graph(ops, "x", "y", sizes={"x": 48, "a": 40, "b": 40, "c": 40, "d": 40})
    cut = minimum_cut(whole, lambda o: 0.0 if o.name == "A" else 100.0, nothing, 1.0)
    assert cut.tensors == ("a",)


def test_all_work_may_belong_to_one_side() -> None:
    whole = graph([op("A", "x", "a"), op("B", "a", "y")], "x", "y")
    here = minimum_cut(whole, nothing, macs, 1.0)
    assert (here.tensors, here.tail_ops, here.divides, here.head_outputs) == ((), 0, False, ("y",))
    there = minimum_cut(whole, lambda o: 100.0, nothing, 1.0)
    assert (there.tensors, there.head_ops, there.divides) == (("x",), 0, False)


@given(drawn.graphs(), st.data())
@settings(max_examples=150)
def test_no_other_division_costs_less(whole: Graph, data: st.DataObject) -> None:
    head_costs = {one.name: data.draw(costs) for one in whole.ops}
    tail_costs = {one.name: data.draw(costs) for one in whole.ops}
    byte_cost = data.draw(costs)

    def cost(head: frozenset[str], tail: frozenset[str]) -> float:
        size = sum(whole.tensors[name].bytes or 0 for name in drawn.travelling(whole, head, tail))
        return sum(head_costs[o] for o in head) + sum(tail_costs[o] for o in tail) + byte_cost * size

    least = min(cost(head, tail) for head, tail in drawn.divisions(whole))
    cut = minimum_cut(whole, lambda o: head_costs[o.name], lambda o: tail_costs[o.name], byte_cost)
    ways = [
        cost(head, tail)
        for head, tail in drawn.divisions(whole)
        if drawn.travelling(whole, head, tail) == set(cut.tensors) and len(head) == cut.head_ops
    ]
    assert min(ways) == pytest.approx(least, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_costs_that_are_none_are_refused(wrong: float) -> None:
    whole = graph([op("A", "x", "a"), op("B", "a", "y")], "x", "y")
    with pytest.raises(InputValueError, match="the cost of A is"):
        minimum_cut(whole, lambda o: wrong, nothing, 1.0)
    with pytest.raises(InputValueError, match="the cost of a byte is"):
        minimum_cut(whole, nothing, nothing, wrong)


def test_control_flow_is_refused() -> None:
    pytest.importorskip("onnx")
    with pytest.raises(UnsupportedOp, match="Loop"):
        minimum_cut(open_graph(models.onnx_loop()), nothing, nothing, 1.0)


def test_a_network_with_two_ways_back() -> None:
    # The textbook case: the best first way has to be undone in part.
    network = Network(4)
    for start, end, capacity in [(0, 1, 1), (0, 2, 1), (1, 2, 1), (1, 3, 1), (2, 3, 1)]:
        network.join(start, end, capacity)
    assert network.least_cut(0, 3) == [True, True, True, False]


def test_of_cuts_that_cost_the_same_the_latest_is_taken() -> None:
    # x ─ Conv ─ a ─ Relu ─ b ─ Conv ─ y: behind the Relu numbers range less, and an engine fuses it.
    ops = [op("C", "x", "a", macs=5), op("R", "a", "b", macs=0), op("D", "b", "y", macs=5)]
    whole = graph(ops, "x", "y", sizes={"x": 400})
    assert minimum_cut(whole, macs, lambda o: 10.0 * (o.name == "C"), 1.0).tensors == ("b",)
    assert [cut.tensors for cut in pareto_cuts(whole)] == [("b",)]


# --- the Pareto set ---


def figures(cut: Cut) -> tuple[int, int, int]:
    return cut.head_macs, cut.wire_bytes or 0, cut.tail_macs


@given(drawn.graphs())
@settings(max_examples=100)
def test_the_pareto_set_is_not_dominated_and_holds_what_is_best_for_any_price(whole: Graph) -> None:
    kept = pareto_cuts(whole)
    every = cuts_of(whole)
    assert set(kept) <= set(every) and len({figures(cut) for cut in kept}) == len(kept)
    for one in kept:
        for other in kept:
            assert one is other or not all(a <= b for a, b in zip(figures(other), figures(one), strict=True))
    # No single tensor beats it anywhere.
    for cut in single_cuts(whole):
        assert any(all(a <= b for a, b in zip(figures(o), figures(cut), strict=True)) for o in kept)


def test_a_cut_of_several_tensors_is_kept_where_it_is_narrower() -> None:
    # x(400) ─ A ─ a(400) ┬ B ─ b(4) ┬ D ─ d(400) ─ E ─ y
    #                     └ C ─ c(4) ┘
    ops = [
        op("A", "x", "a", macs=10),
        op("B", "a", "b", macs=10),
        op("C", "a", "c", macs=10),
        op("D", "bc", "d", macs=10),
        op("E", "d", "y", macs=10),
    ]
    whole = graph(ops, "x", "y", sizes={"x": 400, "a": 400, "d": 400})
    assert [cut.tensors for cut in pareto_cuts(whole)] == [("a",), ("b", "c"), ("d",)]


def test_the_pareto_set_is_capped_and_says_so() -> None:
    ops = [drawn.Op(f"o{n}", "Relu", "activation", (f"t{n}",), (f"t{n + 1}",), macs=1) for n in range(12)]
    whole = graph(ops, ["t0"], ["t12"], sizes={"t6": 4, **{f"t{n}": 40 + 4 * n for n in range(12) if n != 6}})
    assert len(pareto_cuts(whole)) == 11 and pareto_cuts(whole).complete
    few = pareto_cuts(whole, limit=3)
    assert len(few) == 3 and not few.complete
    assert ("t6",) in {cut.tensors for cut in few}  # the narrowest place is kept
