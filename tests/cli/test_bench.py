"""`edge-sdk bench`: figures as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_sdk import bundle
from edge_sdk.bench import Against, BenchResult, RequestEnergy, Start, Way
from edge_sdk.cli import main
from edge_sdk.cli.bench import as_text
from edge_sdk.measuring import Energy, Memory, Paced, Soak, SoakWindow, Throughput, summarise
from edge_sdk.signature import LogicalTensor, Signature

pytest.importorskip("onnxruntime")
models = pytest.importorskip("tests.models")

QUICK = ["--seconds", "0.05", "--starts", "0", "--plan-budget", "0"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mlp.onnx"
    path.write_bytes(models.onnx_mlp())
    return path


def result(**changes: Any) -> BenchResult:
    """Figures as a run of everything gives them."""
    way = Way(
        model="m/mlp.onnx",
        variant="mlp.onnx",
        by="edge-sdk",
        engine="onnxruntime",
        engine_version="1.31.1",
        placement="2 threads on all CPUs",
        why="best of 3 measured",
    )
    latency = summarise([1.0, 2.0, 3.0])
    start = Start(starts=3, cold_ms=300.0, load_ms=200.0, first_run_ms=5.0)
    memory = Memory(peak_mb=80.0, resident_mb=70.0, private_mb=40.0)
    window = SoakWindow(at_s=0, seconds=60, runs=9, median_ms=2.0, p90_ms=2.1, p99_ms=2.2, max_ms=2.3)
    throttled = msgspec.structs.replace(window, at_s=1740, median_ms=3.0)
    made = BenchResult(
        edge_sdk="0.1.0",
        way=way,
        device="board",
        usable_cpus=4,
        inputs="made up",
        warm_up_runs=10,
        latency=latency,
        start=start,
        memory=memory,
        memory_at_end=msgspec.structs.replace(memory, resident_mb=73.5),
        energy_note="not measured: no sensor",
        paced=Paced(rate_hz=30, answered_hz=29.5, missed=4, latencies=summarise([4.0])),
        concurrent=Throughput(concurrency=4, per_s=812.5, latencies=latency),
        soak=Soak(minutes=30, first=window, last=throttled, ratio=1.5, windows=(window, throttled)),
        against=Against(
            way=msgspec.structs.replace(way, by="bare", placement="its own default threads", why=""),
            rate_hz=30,
            ratio=0.8,
            low=0.75,
            high=0.85,
            pairs=12,
            other_ms=5.0,
            this_ms=4.0,
            start=start,
            memory=memory,
        ),
        throttled=True,
        notes=("an accelerator was missed\x1b[2J",),
    )
    return msgspec.structs.replace(made, **changes)


def test_text_is_a_label_and_a_value_a_line() -> None:
    assert as_text(result()).splitlines() == [
        "model        m/mlp.onnx",
        "ran by       onnxruntime 1.31.1, 2 threads on all CPUs, on board (4 CPUs)",
        "because      best of 3 measured",
        "inputs       made up",
        "latency      median 2 ms, p90 3 ms, p99 3 ms over 3 runs  (10 warm-up runs)",
        "at 30 Hz     median 4 ms, p90 4 ms, p99 4 ms over 1 runs, 4 frames missed; 2.00 times the median back to back",
        "4 callers    812.5 a second; median 2 ms, p90 3 ms, p99 3 ms over 3 runs",
        "30 minutes   first 60 s: median 2 ms, p99 2.2 ms; last 60 s: median 3 ms, p99 2.2 ms; 1.50 times;"
        " memory +3.5 MB",
        "cold start   300 ms from process to first answer; of that load 200 ms, first run 5 ms (median of 3)",
        "memory       80.0 MB at its peak, 40.0 MB of it shared with nobody",
        "energy       not measured: no sensor",
        "against      mlp.onnx by bare onnxruntime, its own default threads, in turn, at 30 Hz",
        "             this 4 ms, the other 5 ms: faster: 0.80 times the other's latency"
        " (95 %: 0.75 to 0.85; 12 pairs of blocks)",
        "             the other: memory 80.0 MB at its peak",
        "             the other: cold start 300 ms from process to first answer; of that load 200 ms,"
        " first run 5 ms (median of 3)",
        "throttled    yes: the machine was held down at the end",
        "note         an accelerator was missed\N{REPLACEMENT CHARACTER}[2J",
    ]


def test_text_leaves_out_what_was_not_asked_for() -> None:
    absent = dict.fromkeys(("paced", "concurrent", "soak", "against", "start", "throttled"))
    titles = [line[:13].strip() for line in as_text(result(**absent, notes=())).splitlines()]
    assert titles == ["model", "ran by", "because", "inputs", "latency", "memory", "energy"]


def test_text_tells_measured_energy_beside_idle() -> None:
    total = Energy(source="rapl package-0", joules=12.0, seconds=3.0, watts=4.0)
    energy = RequestEnergy(total=total, request_mj=8.0, idle_watts=1.0, above_idle_mj=6.0)
    text = as_text(result(energy=energy, energy_note="measured by rapl package-0"))
    assert "8 mJ a request, 6 mJ above idle (4 W, idle 1 W; measured by rapl package-0)" in text


def test_json_is_one_object_a_line_for_each_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mlp.edge"
    bundle.create(
        path,
        name="mlp",
        signature=Signature(
            inputs=(LogicalTensor(name="x", dtype="float32", shape=("batch", 8)),),
            outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),),
        ),
        variants=(bundle.Variant(name="small"), bundle.Variant(name="large")),
        files={"small": models.onnx_mlp(8, 4, 4), "large": models.onnx_mlp(8, 64, 4)},
    ).close()
    assert main(["bench", str(path), "--variant", "all", "--json", *QUICK]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""  # progress is for terminals
    records = [json.loads(line) for line in shown.out.splitlines()]
    assert [record["way"]["variant"] for record in records] == ["small", "large"]
    assert all(record["schema"] == 1 and record["latency"]["runs"] >= 3 for record in records)


def test_an_array_file_is_fed(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "batch.npy"
    np.save(file, np.ones((4, 8), np.float32))
    assert main(["bench", str(model), "--input", str(file), "--json", *QUICK]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"] == str(file)


def test_a_picture_is_fed_as_each_of_two_models_takes_it(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    faces = assets / "models" / "ultraface_rfb320"
    arguments = [f"{faces}.onnx", "--against", f"{faces}.tflite", "--input", str(assets / "photos" / "faces_1.jpg")]
    assert main(["bench", *arguments, "--json", *QUICK]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["way"]["engine"] == "onnxruntime" and record["against"]["way"]["engine"] == "litert"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["none.onnx"], "no such file"),
        (["{model}", "--variant", "int8"], "int8"),
        (["{model}", "--input", "none.npy"], "none.npy"),
        (["{model}", "--against", "litert"], "litert does not run onnx models"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_1(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    code = main(["bench", *(word.format(model=model) for word in arguments), *QUICK])
    shown = capsys.readouterr()
    assert code == 1 and shown.out == ""
    assert shown.err.startswith("edge-sdk: ") and len(shown.err.splitlines()) == 1 and complaint in shown.err


@pytest.mark.parametrize(
    "wrong",
    [[], ["m.onnx", "--rate", "0"], ["m.onnx", "--threads", "none"], ["m.onnx", "--minutes", "-1"]],
)
def test_wrong_usage_is_exit_code_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", *wrong])
    assert caught.value.code == 2 and "usage: edge-sdk bench" in capsys.readouterr().err
