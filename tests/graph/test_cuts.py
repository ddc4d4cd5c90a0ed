"""Where a graph may be cut: branches, skip connections, constants, shapes, int8 regions, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from edge_sdk.errors import ModelError, UnsupportedOp
from edge_sdk.graph import Graph, open_graph
from edge_sdk.graph.cuts import cut_at, cuts_of, random_cuts, single_cuts
from edge_sdk.graph.cuts_nearest import movable
from tests import models
from tests.graph import drawn
from tests.graph.drawn import graph, op

onnx = pytest.importorskip("onnx")
node, value = onnx.helper.make_node, models.value


def tensors(whole: Graph) -> set[str]:
    """The cuts of a graph whose tensors have one letter, each as a word."""
    return {"".join(cut.tensors) for cut in cuts_of(whole)}


# --- what is a cut ---


def test_a_chain_is_cut_between_its_ops() -> None:
    # x ─ A ─ a ─ B ─ b ─ C ─ y
    whole = graph([op("A", "x", "a", macs=5), op("B", "a", "b", macs=7), op("C", "b", "y")], "x", "y", sizes={"b": 12})
    first, second = cuts_of(whole)
    assert (first.tensors, first.wire_bytes, first.head_macs, first.tail_macs) == (("a",), 4, 5, 8)
    assert (second.tensors, second.wire_bytes, second.head_macs, second.tail_macs) == (("b",), 12, 12, 1)
    assert (second.head_ops, second.tail_ops, second.head_outputs, second.tail_outputs) == (2, 1, (), ("y",))
    assert cuts_of(whole).complete


def test_where_the_graph_branches_several_tensors_travel() -> None:
    # x ─ A ─ a ┬ B ─ b ┬ D ─ y
    #           └ C ─ c ┘
    whole = graph([op("A", "x", "a"), op("B", "a", "b"), op("C", "a", "c"), op("D", "bc", "y")], "x", "y")
    assert tensors(whole) == {"a", "ab", "ac", "bc"}


def test_a_skip_connection_belongs_to_the_cut_and_is_charged_once() -> None:
    # x ─ A ─ a ─ B ─ b ─ C ─ c ─ D(c, a) ─ d ─ E(d, a) ─ y
    ops = [op("A", "x", "a"), op("B", "a", "b"), op("C", "b", "c"), op("D", "ca", "d"), op("E", "da", "y")]
    whole = graph(ops, "x", "y", sizes={"a": 400})
    assert tensors(whole) == {"a", "ab", "ac", "ad"}
    assert cut_at(whole, ["b", "a"]).wire_bytes == 404


def test_inputs_that_the_tail_reads_belong_to_the_cut() -> None:
    # x ─ A ─ a ─ B(a, z) ─ y
    whole = graph([op("A", "x", "a"), op("B", "az", "y")], "xz", "y")
    assert {frozenset(cut.tensors) for cut in cuts_of(whole)} == {frozenset("az")}


def test_outputs_that_the_head_makes_do_not_travel() -> None:
    # x ─ A ─ a ┬ B ─ y
    #           └ C ─ c ─ D ─ z
    whole = graph([op("A", "x", "a"), op("B", "a", "y"), op("C", "a", "c"), op("D", "c", "z")], "x", "yz")
    cut = cut_at(whole, "c")
    assert (cut.head_outputs, cut.tail_outputs, cut.head_ops, cut.wire_bytes) == (("y",), ("z",), 3, 4)
    # What travels does not tell alone which outputs the head gives: these are three cuts, with three ids.
    several = [one for one in cuts_of(whole) if one.tensors == ("a",)]
    assert sorted(one.head_outputs for one in several) == [(), ("y",), ("z",)]
    assert len({one.id for one in several}) == 3 and cut_at(whole, "a").head_outputs == ()


def test_constants_and_what_is_made_of_them_cost_nothing_and_are_no_cut() -> None:
    # w ─ W ─ v ┐
    # x ─ A ─ a ┴ B ─ y
    whole = graph([op("W", "w", "v"), op("A", "x", "a"), op("B", "av", "y")], "x", "y", constants="wv")
    assert tensors(whole) == {"a"}
    assert cut_at(whole, "a").head_ops == 1
    with pytest.raises(ModelError, match="'v' is constant and stands on both sides"):
        cut_at(whole, "v")


def test_a_shape_that_is_known_beforehand_does_not_travel() -> None:
    # x[2,8] ─ Relu ─ a ─ Relu ─ b ─ Reshape(b, Shape(x)) ─ y
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Relu", ["x"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Reshape", ["b", "s"], ["y"]),
    ]
    fixed = open_graph(models.onnx_bytes(nodes, [value("x", [2, 8])], [value("y", [2, 8])]))
    assert tensors(fixed) == {"a", "b"}
    opened = open_graph(models.onnx_bytes(nodes, [value("x", ["batch", 8])], [value("y", ["batch", 8])]))
    assert "bs" in {"".join(sorted(cut.tensors)) for cut in cuts_of(opened)}


def test_ids_depend_on_the_tensors_alone() -> None:
    ops = [op("A", "x", "a"), op("B", "a", "b"), op("C", "a", "c"), op("D", "bc", "y")]
    one, other = graph(ops, "x", "y"), graph([ops[0], ops[2], ops[1], ops[3]], "x", "y", sizes={"b": 80})
    assert cut_at(one, "bc").id == cut_at(other, "cb").id != cut_at(one, "ab").id
    assert cut_at(graph(ops, "x", "y", format="tflite"), "bc").id != cut_at(one, "bc").id


@given(drawn.graphs())
@settings(max_examples=150)
def test_all_cuts_are_found(whole: Graph) -> None:
    ways = [(head, tail) for head, tail in drawn.divisions(whole) if head and tail]
    expected = sorted(
        (sorted(drawn.travelling(whole, head, tail)), len(head)) for head, tail in ways
        if drawn.travelling(whole, head, tail)
    )  # fmt: skip
    found = cuts_of(whole)
    assert found.complete
    assert sorted((sorted(cut.tensors), cut.head_ops) for cut in found) == expected
    assert len({cut.id for cut in found}) == len(found)
    assert set(single_cuts(whole)) <= set(found)
    assert set(random_cuts(whole, 10)) <= {cut for cut in found if len(cut.tensors) > 1}


@given(drawn.graphs())
@settings(max_examples=80)
def test_a_cut_is_found_again_by_its_tensors(whole: Graph) -> None:
    for cut in cuts_of(whole):
        again = cut_at(whole, cut.tensors)
        assert again.tensors == cut.tensors
        assert again.id == cut.id or again.head_outputs != cut.head_outputs


# --- many cuts ---


def ladder(rungs: int) -> Graph:
    """Two long chains from one op to another: (rungs + 1)² cuts."""
    ops = [op("A", "x", "a")]
    for side in "lr":
        for rung in range(rungs):
            before = "a" if not rung else f"{side}{rung - 1}"
            ops.append(drawn.Op(f"{side}{rung}", "Relu", "activation", (before,), (f"{side}{rung}",), macs=1))
    ends = (f"l{rungs - 1}", f"r{rungs - 1}")
    return graph([*ops, drawn.Op("E", "Add", "elementwise", ends, ("y",), macs=0)], "x", "y")


def test_the_list_is_capped_and_says_so() -> None:
    whole = ladder(20)
    every = cuts_of(whole)
    assert every.complete and len(every) == 21 * 21 - 1 + 1
    some = cuts_of(whole, limit=50)
    assert not some.complete and len(some) == 50 == some.limit
    assert set(some) <= set(every) and set(single_cuts(whole)) <= set(some)
    # Not only what lies near the input: the last quarter of the work is cut too.
    assert max(cut.head_macs for cut in some) > 0.75 * whole.macs


def test_random_cuts_differ_and_are_the_same_on_every_call() -> None:
    whole = ladder(20)
    some = random_cuts(whole, 30)
    assert len({cut.id for cut in some}) == 30 and all(len(cut.tensors) >= 2 for cut in some)
    assert random_cuts(whole, 30) == some != random_cuts(whole, 30, seed=1)


# --- what is no cut ---


def test_what_is_missing_or_too_much_is_named() -> None:
    ops = [op("A", "x", "a"), op("B", "a", "b"), op("C", "a", "c"), op("D", "bc", "y")]
    whole = graph(ops, "x", "y")
    with pytest.raises(ModelError, match="'b' is no cut: ops behind it also read 'c'; add that"):
        cut_at(whole, "b", where="m.onnx")
    with pytest.raises(ModelError, match="nothing behind it reads 'a'; leave it out"):
        cut_at(whole, "abc")
    with pytest.raises(ModelError, match=r"m\.onnx: nothing called 'q' flows between its ops"):
        cut_at(whole, "q", where="m.onnx")
    with pytest.raises(ModelError, match="is no cut"):
        cut_at(whole, [])


def test_control_flow_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOp, match="control flow cannot be cut: it holds If") as refusal:
        cuts_of(open_graph(models.onnx_if()))
    assert refusal.value.ops == ("If",)
    with pytest.raises(UnsupportedOp, match="Loop"):
        cuts_of(open_graph(models.onnx_loop()))
    with pytest.raises(UnsupportedOp, match="Scan"):
        random_cuts(open_graph(models.onnx_scan()), 3)
    with pytest.raises(UnsupportedOp, match="IF"):
        single_cuts(open_graph(models.tflite_if()))


def test_state_kept_in_the_file_is_refused() -> None:
    # x ─ ADD(x, state) ─ y, where the state is a variable of the file
    builder = models.TfliteBuilder()
    x, state, y = (
        builder.tensor("x", [1, 2]),
        builder.tensor("state", [1, 2], variable=True),
        builder.tensor("y", [1, 2]),
    )
    builder.op(0, [x, state], [y])
    builder.graph.inputs, builder.graph.outputs = [x], [y]
    with pytest.raises(
        UnsupportedOp, match="keeps state from request to request cannot be cut: it holds ADD"
    ) as refusal:
        cuts_of(open_graph(builder.bytes()))
    assert refusal.value.ops == ("ADD",)


def test_strings_and_sequences_do_not_travel() -> None:
    assert len(cuts_of(open_graph(models.onnx_string()))) == 0
    assert len(cuts_of(open_graph(models.onnx_sequence_output()))) == 0


# --- int8 ---


def test_cuts_in_an_int8_region_move_to_the_nearest_quantizelinear() -> None:
    whole = open_graph(drawn.qdq())
    assert movable(whole) == {"xd": "xq", "c": "q", "r": "q", "d": "q", "e": "p", "y": "p"}
    assert {cut.tensors for cut in cuts_of(whole)} == {("xq",), ("q",), ("p",)}
    for name in ("c", "r", "d", "q"):
        assert cut_at(whole, [name]).tensors == ("q",)
    with pytest.raises(ModelError, match="would compute in float what the whole computes in int8; cut at 'q'"):
        cut_at(whole, ["d"], nearest=False)
