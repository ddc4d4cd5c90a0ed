"""`bench`: every figure of a model, from processes that run nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_sdk import bundle
from edge_sdk.bench import BenchResult, Settings, bench
from edge_sdk.device.affinity import usable_cpus
from edge_sdk.errors import EdgeError, InputError, ModelNotFound
from edge_sdk.signature import LogicalTensor, Signature

pytest.importorskip("onnxruntime")
models = pytest.importorskip("tests.models")

Progress = list[tuple[str, float | None]]
QUICK: dict[str, Any] = {"seconds": 0.05, "starts": 0, "plan_budget_s": 0.0}


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    path = tmp_path / "mlp.onnx"
    path.write_bytes(models.onnx_mlp())
    return path


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[BenchResult, list[tuple[str, float | None]]]]:
    """One run with all that can be asked for, and the progress it told."""
    folder = tmp_path_factory.mktemp("everything")
    path = folder / "mlp.onnx"
    path.write_bytes(models.onnx_mlp())
    told: Progress = []
    asked = {"rate_hz": 100, "concurrency": 2, "minutes": 0.004, "against": "onnxruntime", "threads": 1}
    settings = Settings(**(QUICK | asked | {"starts": 1}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_SDK_CACHE", str(folder))
        yield bench(path, settings, lambda stage, share: told.append((stage, share))), told


def test_latency_start_and_memory_are_always_told(everything: tuple[BenchResult, Progress]) -> None:
    result, _ = everything
    latency, start, memory = result.latency, result.start, result.memory
    assert latency.runs >= 3 and 0 < latency.min_ms <= latency.median_ms <= latency.p90_ms <= latency.p99_ms
    assert start is not None
    assert 0 < start.first_run_ms < start.cold_ms and 0 < start.load_ms < start.cold_ms and start.starts == 1
    assert memory.peak_mb is not None and memory.resident_mb is not None
    assert 0 < memory.resident_mb <= memory.peak_mb
    assert result.warm_up_runs > 0 and result.inputs == "made up"


def test_what_ran_is_named(everything: tuple[BenchResult, Progress]) -> None:
    way = everything[0].way
    assert (way.by, way.engine, way.accelerator, way.variant) == ("edge-sdk", "onnxruntime", "cpu", "mlp.onnx")
    assert way.engine_version and "1 thread" in way.placement and way.why
    assert way.describe() == "mlp.onnx by onnxruntime"


def test_pace_callers_and_duration_are_measured_where_asked_for(everything: tuple[BenchResult, Progress]) -> None:
    result, _ = everything
    assert result.paced is not None and result.paced.rate_hz == 100 and result.paced.latencies.runs >= 2
    assert result.concurrent is not None and result.concurrent.concurrency == 2 and result.concurrent.per_s > 0
    assert result.soak is not None and len(result.soak.windows) == 2 and result.soak.ratio > 0
    assert result.memory_at_end.peak_mb is not None


def test_cores_are_those_that_were_named(mlp: Path) -> None:
    first = usable_cpus()[0]
    result = bench(mlp, Settings(**QUICK, cores=str(first), power_mode="efficiency"))
    assert result.way.placement.endswith(f"given CPUs {first}")
    with pytest.raises(InputError, match=r"cores 'tiny': expected one of all"):
        bench(mlp, Settings(**QUICK, cores="tiny"))


def test_the_bare_engine_has_figures_of_its_own(everything: tuple[BenchResult, Progress]) -> None:
    against = everything[0].against
    assert against is not None and against.way.by == "bare" and against.way.engine == "onnxruntime"
    assert against.way.describe() == "mlp.onnx by bare onnxruntime"
    assert 0 < against.low <= against.high and against.pairs >= 1 and against.rate_hz == 100
    assert against.start is not None and against.start.cold_ms > 0 and against.memory.peak_mb is not None


def test_energy_is_measured_or_the_reason_is_told(everything: tuple[BenchResult, Progress]) -> None:
    result, _ = everything
    if result.energy is None:
        assert result.energy_note.startswith("not measured")
    else:
        assert result.energy.request_mj > 0 and result.energy_note.startswith("measured by")


def test_progress_names_what_is_being_done(everything: tuple[BenchResult, Progress]) -> None:
    stages = [stage for stage, _ in everything[1]]
    assert stages[0] == "planning mlp.onnx" and "back to back" in stages and "paced at 100 Hz" in stages
    assert [share for stage, share in everything[1] if stage.startswith("0.004 minutes")][-1] == pytest.approx(
        1, abs=0.2
    )


def test_the_json_form_reads_back(everything: tuple[BenchResult, Progress]) -> None:
    content = everything[0].to_json()
    assert msgspec.json.decode(content, type=BenchResult) == everything[0]
    assert msgspec.json.decode(content)["schema"] == 1


@pytest.mark.parametrize(
    ("low", "high", "ratio", "words"),
    [
        (0.70, 0.80, 0.75, "faster: 0.75 times the other's latency (95 %: 0.70 to 0.80; 5 pairs of blocks)"),
        (1.20, 1.40, 1.30, "slower: 1.30 times"),
        (0.97, 1.04, 1.00, "no difference shows: 1.00 times"),
        (0.98, 0.99, 0.985, "no difference shows: 0.98 times"),
    ],
)
def test_a_comparison_is_put_in_words(
    everything: tuple[BenchResult, Progress], low: float, high: float, ratio: float, words: str
) -> None:
    against = everything[0].against
    assert against is not None
    changed = msgspec.structs.replace(against, low=low, high=high, ratio=ratio, pairs=5)
    assert changed.verdict().startswith(words)


def test_a_tflite_model_is_measured_against_its_bare_engine(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "add.tflite"
    path.write_bytes(models.tflite_add())
    result = bench(path, Settings(**QUICK, against="litert", concurrency=2))
    assert result.way.engine == "litert" and result.against is not None and result.against.way.by == "bare"


def test_inputs_may_be_given_and_open_sizes_follow_them(tmp_path: Path) -> None:
    path = tmp_path / "open.onnx"
    path.write_bytes(models.onnx_dynamic())
    feeds = {"x": np.ones((5, 7), np.float32)}
    assert bench(path, Settings(**QUICK, feeds=feeds, inputs="five.npy")).inputs == "five.npy"


def test_of_a_bundle_one_variant_is_benched_and_the_bare_engine_gets_the_same(tmp_path: Path) -> None:
    path = tmp_path / "mlp.edge"
    tensor = LogicalTensor(name="x", dtype="float32", shape=("batch", 8))
    bundle.create(
        path,
        name="mlp",
        signature=Signature(inputs=(tensor,), outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),)),
        variants=(bundle.Variant(name="small"), bundle.Variant(name="large")),
        files={"small": models.onnx_mlp(8, 4, 4), "large": models.onnx_mlp(8, 64, 4)},
        as_zip=True,
    ).close()
    result = bench(path, Settings(**QUICK, variant="large", against="onnxruntime"))
    assert result.start is None  # no process was started for it
    assert result.way.variant == "large" and result.way.describe() == "mlp.edge: large by onnxruntime"
    assert result.against is not None and result.against.way.variant == "large"


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0},
        {"rate_hz": -1.0},
        {"rate_hz": float("nan")},
        {"minutes": float("inf")},
        {"concurrency": 0},
        {"starts": -1},
        {"concurrency": True},
        {"threads": 1.5},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(wrong))} is "):
        Settings(**wrong)


def test_what_loading_says_comes_through_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"none\.onnx: no such file"):
        bench(tmp_path / "none.onnx", Settings(**QUICK))


def test_a_bare_engine_for_another_format_is_refused(mlp: Path) -> None:
    with pytest.raises(InputError, match="litert does not run onnx models; expected onnxruntime"):
        bench(mlp, Settings(**QUICK, against="litert"))


def test_feeds_that_do_not_fit_are_told_in_one_line(mlp: Path) -> None:
    with pytest.raises(EdgeError) as caught:
        bench(mlp, Settings(**QUICK, feeds={"x": np.ones((2, 3), np.float32)}))
    assert "\n" not in str(caught.value) and "mlp.onnx" in str(caught.value)
