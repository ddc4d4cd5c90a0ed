"""`edge-sdk plan --link` and `--endpoint`: staying, splitting and offloading in one table, in words and as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_sdk.cli import main
from tests import models
from tests.cloud_offload.endpoints import Endpoint, put, running

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "mlp.onnx"
    path.write_bytes(models.onnx_mlp())
    return str(path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("endpoint")
    put(folder / "repository", "mlp", models.onnx_mlp())
    with running(folder / "repository", folder / "endpoint-cache") as endpoint:
        yield endpoint


def test_a_stated_link_needs_no_endpoint(model: str, capsys: Capture) -> None:
    assert main(["plan", model, "--link", "10mbit,40ms,1%", "--explain"]) == 0
    told = capsys.readouterr().out
    assert "a split does not pay" in told
    assert "10 Mbit/s up, 10 down, 40 ms round trip, 1.00% lost (stated)" in told
    assert "offload" in told


def test_the_table_as_json_has_the_parts_of_every_way(model: str, capsys: Capture) -> None:
    assert main(["plan", model, "--link", "20mbit/5mbit,40ms", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    rows = [row for row in plan["candidates"] if row["remote"] is not None]
    assert rows and all(row["remote"]["link_ms"] > 40 for row in rows)
    assert plan["links"] == [
        {
            "endpoint": "",
            "up_mbps": 5.0,
            "down_mbps": 20.0,
            "rtt_ms": 40.0,
            "loss_share": 0.0,
            "stated": True,
            "speed": 4.0,
        }
    ]


def test_a_real_endpoint_is_asked_how_fast_it_is(server: Endpoint, model: str, capsys: Capture) -> None:
    assert main(["plan", model, "--endpoint", server.url, "--ways", "split", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["kind"] == "split"
    assert plan["remote"]["endpoint"] == server.url
    assert plan["links"][0]["stated"] is False


def test_a_link_may_be_stated_for_a_real_endpoint(server: Endpoint, model: str, capsys: Capture) -> None:
    assert main(["plan", model, "--endpoint", server.url, "--link", "1mbit,80ms", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["links"][0] == {
        "endpoint": server.url, "up_mbps": 1.0, "down_mbps": 1.0, "rtt_ms": 80.0, "loss_share": 0.0, "stated": True,
        "speed": None,
    }  # fmt: skip


def test_for_a_device_that_is_not_here_all_is_predicted(model: str, capsys: Capture) -> None:
    assert main(["plan", model, "--target", "raspberry-pi-4", "--link", "1gbit,1ms", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["device"].lower().startswith("raspberry")
    assert not any(row["remote"]["measured"] for row in plan["candidates"] if row["remote"] is not None)


def test_an_input_that_must_stay_is_told_of(model: str, capsys: Capture) -> None:
    asked = ["plan", model, "--link", "1gbit,1ms", "--keep-input-local", "--explain"]
    assert main(asked) == 0
    assert "The input stays on the device" in capsys.readouterr().out


def test_requests_for_measuring_come_from_files(model: str, tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "one.npz", x=np.ones((1, 8), np.float32))
    assert main(["plan", model, "--link", "1gbit,1ms", "--data", str(tmp_path / "one.npz")]) == 0
    capsys.readouterr()
    np.savez(tmp_path / "wrong.npz", x=np.ones((1, 9), np.float32))
    assert main(["plan", model, "--link", "1gbit,1ms", "--data", str(tmp_path / "wrong.npz")]) == 1
    assert "expected" in capsys.readouterr().err


def test_the_page_is_written(model: str, tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "page.html"
    assert main(["plan", model, "--link", "10mbit,40ms", "--report", str(page)]) == 0
    assert "mlp.onnx" in page.read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--link", "fast"], "is not understood"),
        (["--link", "10mbit,40ms", "--objective", "throughput"], "objective is 'throughput' over a link"),
        (["--link", "40ms"], "no bandwidth is given"),
        (["--keep-input-local"], "--keep-input-local is given without a link"),
        (["--report", "x.html"], "--report is given without a link"),
        (["--endpoint", "http://127.0.0.1:9", "--endpoint-speed", "2"], "tells how fast it is itself"),
        (["--endpoint", "ftp://box"], "ftp://box"),
    ],
)
def test_flags_that_do_not_fit_are_told(model: str, flags: list[str], told: str, capsys: Capture) -> None:
    assert main(["plan", model, *flags]) == 1
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "flags", [["--ways", "cloud"], ["--max-bytes", "-1"], ["--max-leakage", "2"], ["--radio", "5g"]]
)
def test_wrong_usage_ends_with_2(model: str, flags: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", model, "--link", "1mbit", *flags])
    assert ended.value.code == 2
    capsys.readouterr()
