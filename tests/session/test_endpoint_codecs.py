"""`edge_sdk.load(..., codec=…)`: fewer bytes travel, and whoever answers, the answer is the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import edge_sdk
from edge_sdk.bundle import Answer, Golden
from edge_sdk.cli import main
from edge_sdk.errors import InputError, InputShapeError, ModelError
from tests import models
from tests.bundle.making import SMALL, make, variants
from tests.cloud_offload.endpoints import Endpoint, put, running

RNG = np.random.default_rng(0)
XS = RNG.standard_normal((30, 1, 8), np.float32)
DATA = [{"x": x} for x in XS[:10]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "mlp", models.onnx_mlp())
    put(repository, "conv", models.tflite_float_conv(), file="model.tflite")
    put(repository, "quantised", models.onnx_int8_qdq())
    bundle_of(repository / "pair.edge").close()
    with running(repository, tmp_path_factory.mktemp("cache")) as endpoint:
        yield endpoint


def bundle_of(path: Path, golden: bool = True) -> Any:
    with edge_sdk.load(SMALL, plan_budget_s=0) as session:
        y = next(iter(session.run(XS[0]).values()))
    answer = Answer({"y": y}, 0.01, "onnxruntime 1", "x86_64")
    kept = [Golden({"x": XS[0]}, {"small": answer})] if golden else []
    return make(path, variants=variants("small"), files={"small": SMALL}, golden=kept, name="pair")


def answers(model: Any, xs: Any = XS, remote: int = 0, **options: Any) -> tuple[list[Any], str]:
    """To each of `xs`, over and over until so many came from the endpoint; and the plan's reason.

    The first requests are answered here, while the endpoint makes the tail.
    """
    with edge_sdk.load(model, plan_budget_s=0, **options) as session:
        found: list[Any] = []
        while True:
            found += [next(iter(session.run(x).values())) for x in xs]
            figures = session.split_figures()
            if figures is None or figures.remote >= remote:
                return found, session.plan.reason


def repeated(found: list[Any], count: int) -> list[Any]:
    """As many rounds of the same requests."""
    return found * (count // len(found))


NOBODY = "http://127.0.0.1:9"


def travelling(reason: str) -> int:
    match = re.search(r"([\d,]+) bytes.* travel", reason)
    assert match is not None, reason
    return int(match[1].replace(",", ""))


@pytest.mark.parametrize(("codec", "share", "bound"), [("none", 1, 1e-5), ("fp16", 2, 2e-3), ("int8", 4, 0.05)])
def test_the_answer_is_the_same_there_and_here_and_near_the_wholes(
    server: Endpoint, model: Path, codec: str, share: int, bound: float
) -> None:
    asked: dict[str, Any] = {"cut": "h2", "codec": codec, "data": DATA if codec == "int8" else ()}
    there, reason = answers(model, remote=10, endpoints=[server.url], **asked)
    here, _ = answers(model, endpoints=[NOBODY], **asked)
    whole, _ = answers(model)
    assert travelling(reason) == 64 / share
    np.testing.assert_allclose(there, repeated(here, len(there)), rtol=1e-6, atol=0)
    np.testing.assert_allclose(here, whole, rtol=0, atol=bound)
    if codec != "none":
        assert f"as {codec} (answers differ by" in reason
        assert (np.array(here) != np.array(whole)).any()


def test_heads_made_with_other_data_get_other_tails(server: Endpoint, model: Path) -> None:
    wide = [{"x": 50 * x} for x in XS[:3]]
    whole, _ = answers(model)
    apart = []
    for data in (DATA, wide):
        there, _ = answers(model, remote=10, endpoints=[server.url], cut="h2", codec="int8", data=data)
        here, _ = answers(model, endpoints=[NOBODY], cut="h2", codec="int8", data=data)
        np.testing.assert_allclose(there, repeated(here, len(there)), rtol=1e-6, atol=0)
        apart.append(np.abs(np.array(here) - np.array(whole)).max())
    assert apart[0] < 0.05 < apart[1], "ranges that are far too wide leave few levels"


def test_values_that_fp16_cannot_hold_are_found_on_data(model: Path) -> None:
    large = [{"x": np.full((1, 8), 1e6, np.float32)}]
    asked: dict[str, Any] = {"endpoints": [NOBODY], "cut": "h2", "codec": "fp16"}
    with pytest.raises(ModelError, match="differ from the whole model"):
        edge_sdk.load(model, plan_budget_s=0, **asked, data=large)


def test_a_bundles_golden_requests_set_the_ranges(server: Endpoint, tmp_path: Path) -> None:
    bundle_of(tmp_path / "pair.edge").close()
    source = tmp_path / "pair.edge"
    found, reason = answers(source, XS[:1], remote=1, endpoints=[server.url], cut="h2", codec="int8")
    whole, _ = answers(source, XS[:1])
    assert "as int8" in reason
    np.testing.assert_allclose(found, repeated(whole, len(found)), atol=0.02)


def test_a_tflite_model_too(server: Endpoint, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "conv.tflite"
    path.write_bytes(models.tflite_float_conv())
    with edge_sdk.load(path, plan_budget_s=0) as session:
        (spec,) = session.inputs
    xs = [RNG.random([d if isinstance(d, int) else 1 for d in spec.shape or ()], np.float32) for _ in range(20)]
    there, _ = answers(path, xs, remote=5, endpoints=[server.url], codec="int8", data=xs)
    here, _ = answers(path, xs, endpoints=[NOBODY], codec="int8", data=xs)
    np.testing.assert_array_equal(there, repeated(here, len(there)))


def test_what_is_made_of_bytes_already_travels_as_it_is(server: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "quantised.onnx"
    path.write_bytes(models.onnx_int8_qdq())
    with edge_sdk.load(path, plan_budget_s=0) as session:
        (spec,) = session.inputs
    xs = [RNG.random([d if isinstance(d, int) else 1 for d in spec.shape or ()], np.float32) for _ in range(5)]
    there, reason = answers(path, xs, remote=1, endpoints=[server.url], codec="int8")
    whole, _ = answers(path, xs)
    assert " as int8" not in reason
    np.testing.assert_array_equal(there, repeated(whole, len(there)))


@pytest.mark.parametrize("source", ["file", "bundle without golden requests"])
def test_int8_without_any_request_is_refused(model: Path, tmp_path: Path, source: str) -> None:
    if source != "file":
        model = tmp_path / "pair.edge"
        bundle_of(model, golden=False).close()
    with pytest.raises(InputError, match=r"codec int8 takes its ranges from requests.*data=.*golden.*fp16"):
        edge_sdk.load(model, plan_budget_s=0, endpoints=[NOBODY], cut="h2", codec="int8")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"codec": "fp16"}, "codec is given without endpoints"),
        ({"data": DATA}, "data is given without endpoints"),
        ({"codec": "int5", "endpoints": [NOBODY]}, "expected one of none, fp16, int8"),
    ],
)
def test_what_does_not_go_together_is_refused(model: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        edge_sdk.load(model, plan_budget_s=0, **given)


def test_data_that_does_not_fit_is_named(model: Path) -> None:
    wrong = [{"x": np.zeros((1, 9), np.float32)}]
    with pytest.raises(InputShapeError, match=r"mlp\.onnx: data"):
        edge_sdk.load(
            model, plan_budget_s=0, endpoints=[NOBODY], cut="h2", codec="int8", data=wrong
        )  # fmt: skip


# --- the command ---


def test_the_command_takes_codec_and_data(
    server: Endpoint, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for number, x in enumerate(XS[:4]):
        np.save(tmp_path / "data" / f"{number}.npy", x)
    command = ["run", str(model), "--plan-budget", "0", "--endpoint", server.url, "--cut", "h2", "--codec", "int8"]
    inputs = ["--input", str(tmp_path / "data")]
    assert main([*command, *inputs, "--data", str(tmp_path / "data")]) == 0
    assert "16 bytes as int8" in capsys.readouterr().out
    assert main([*command, *inputs]) == 1
    assert "codec int8 takes its ranges from requests" in capsys.readouterr().err
