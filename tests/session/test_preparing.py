"""Ways over a link are made ready: what only packs otherwise is not made twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.engines.base import Engine, LoadOptions
from edge_sdk.engines.registry import engines_for
from edge_sdk.errors import SessionClosed
from edge_sdk.offload import parts_kept
from edge_sdk.offloading.asked import Offload
from edge_sdk.offloading.preparing import CUTS, Prepared, Preparing
from edge_sdk.planner.remote import RemoteWay
from edge_sdk.planner.sources import open_variants

RAW = RemoteWay(
    kind="split",
    variant="source",
    cut="",
    tensors=("h2",),
    up_bytes=0,
    down_bytes=16,
    head_ms=0.0,
    tail_share=0.5,
)
"""Of the small network that the tests of sessions load; cut behind its Relu."""


@pytest.fixture
def preparing(model: Path) -> Preparing:
    name, (variant, *_) = open_variants(model)
    random = np.random.default_rng(0)
    samples = [{"x": random.standard_normal((1, 8), np.float32)} for _ in range(CUTS + 2)]
    engine: Engine = engines_for(variant.file().format)[0]
    offload = Offload((), (), None, None, None)
    return Preparing(offload, name, variant, engine, LoadOptions(), lambda runner: runner, samples)


@pytest.fixture
def made(preparing: Preparing) -> Iterator[Prepared]:
    made = preparing(RAW, 0.0)
    yield made
    made.runner.close()


def test_what_is_measured_stands_in_the_way(preparing: Preparing, made: Prepared) -> None:
    assert made.way.measured and made.way.up_bytes == 4 * made.sent[0].shape[1]  # type: ignore[index, operator]
    assert 0 < made.computed_ms <= made.way.head_ms * 2


def test_another_coding_of_the_same_cut_shares_head_and_tail(
    preparing: Preparing, made: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("made_parts", "_read"):
        monkeypatch.setattr(parts_kept, name, lambda *_, **__: pytest.fail("head and tail are made or read again"))
    heads, compute = list[int](), made.split._halves.compute_head
    monkeypatch.setattr(made.split._halves, "compute_head", lambda feeds: heads.append(1) or compute(feeds))
    packed = preparing.repacked(made, replace(RAW, coding="deflate"), 0.0)
    assert len(heads) == CUTS, "only to have something to pack"
    assert packed.tail == made.tail and packed.computed_ms == made.computed_ms
    assert packed.way.head_ms > made.computed_ms, "packing takes its time"
    assert 0 < packed.way.up_bytes < made.way.up_bytes * 2
    feeds = preparing.samples[0]
    np.testing.assert_array_equal(packed.runner.run(feeds)["y"], made.runner.run(feeds)["y"])
    packed.runner.close()
    np.testing.assert_array_equal(made.runner.run(feeds)["y"].shape, (1, 4))


def test_one_that_was_put_away_cannot_be_shared(preparing: Preparing, made: Prepared) -> None:
    made.runner.close()
    with pytest.raises(SessionClosed):
        preparing.repacked(made, replace(RAW, coding="deflate"), 0.0)


def test_where_all_of_the_model_is_elsewhere_the_one_that_is_loaded_here_is_the_way_back(
    preparing: Preparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(preparing.engine.load(preparing.variant.file(), LoadOptions())) as whole:
        sharing, way = replace(preparing, whole=whole, local_ms=7.0), replace(RAW, kind="offload", tensors=("x",))
        sharing(way, 0.0).runner.close()  # head and tail are made and compared once
        loaded, load = list[int](), type(preparing.engine).load
        monkeypatch.setattr(type(preparing.engine), "load", lambda *args: loaded.append(1) or load(*args))
        with closing(sharing(way, 0.0).runner) as runner:
            assert runner.local.needs_ms() == 7.0 * way.tail_share  # type: ignore[attr-defined]
            feeds = preparing.samples[0]
            np.testing.assert_array_equal(runner.run(feeds)["y"], whole.run(feeds)["y"])
        assert loaded == []
        assert whole.run(preparing.samples[0]), "it stays open"


def test_with_a_deadline_the_local_tail_is_ready_and_known(preparing: Preparing) -> None:
    hurried = replace(preparing, offload=replace(preparing.offload, deadline_ms=100.0))
    with closing(hurried(RAW, 0.0).split) as split:
        assert split.local.loaded
        assert 0 < (split.local.needs_ms() or 0.0) < 100.0
