"""A tail of a bundle: made of the right variant, found in the bundle's own set, compared on the bundle's requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from cloud_offload import tail_making
from cloud_offload.repository import listed
from cloud_offload.settings import ServeSettings
from cloud_offload.tail_making import load_tail
from edge_sdk import bundle
from edge_sdk.building.cutting import kept_cuts
from edge_sdk.bundle import Answer, Golden, Variant
from edge_sdk.formats import open_model
from edge_sdk.offload.tail_names import TailName
from edge_sdk.signature import LogicalTensor, Mapping, Signature, TensorMapping
from tests import models

SIGNATURE = Signature(
    inputs=(LogicalTensor(name="sample", dtype="float32", shape=("batch", 8)),),
    outputs=(LogicalTensor(name="shares", dtype="float32", shape=("batch", 4)),),
)
MAPPING = Mapping(
    inputs=(TensorMapping(name="sample", tensor="x"),), outputs=(TensorMapping(name="shares", tensor="y"),)
)
REQUESTS = [np.random.default_rng(seed).standard_normal((1, 8), np.float32) for seed in range(12)]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each tail that is made was compared on."""
    seen: list[Any] = []
    real = tail_making.kept_parts

    def watched(*arguments: Any, samples: Any, **options: Any) -> Any:
        seen.append(samples)
        return real(*arguments, samples=samples, **options)

    monkeypatch.setattr(tail_making, "kept_parts", watched)
    monkeypatch.setattr("edge_sdk.engines.trial.require_trial", lambda *_: None)
    return seen


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    """A bundle that calls its tensors otherwise than its variants do, with golden requests and cuts of one of them."""
    network = tmp_path / "small.onnx"
    network.write_bytes(models.onnx_mlp(8, 4, 4))
    answer = {"small": Answer({"shares": np.full((1, 4), 0.25, np.float32)}, 1e6)}
    folder = tmp_path / "repository"
    folder.mkdir()
    bundle.create(
        folder / "net.edge",
        name="net",
        signature=SIGNATURE,
        variants=[Variant(name="small", mapping=MAPPING), Variant(name="large", mapping=MAPPING)],
        files={"small": network, "large": models.onnx_mlp(8, 64, 4)},
        golden=[Golden({"sample": request}, answer) for request in REQUESTS],
        cuts=kept_cuts("small", network)[0],
    ).close()
    yield folder


def test_it_is_compared_on_the_golden_requests_as_the_variant_takes_them(repository: Path, compared: list[Any]) -> None:
    files = listed(repository)["net"][1]
    load_tail(files, TailName("net", "h2"), ServeSettings(repository=repository)).session.close()
    assert [list(sample) for sample in compared[0]] == [["x"]] * 8, "a bounded number of them"
    for sample, request in zip(compared[0], REQUESTS, strict=False):
        np.testing.assert_array_equal(sample["x"], request)


def test_a_variant_without_golden_requests_is_compared_on_made_up_ones(repository: Path, compared: list[Any]) -> None:
    with open_model(models.onnx_mlp(8, 64, 4)) as model:
        name = TailName("net", "h2", fingerprint=model.fingerprint)
    load_tail(listed(repository)["net"][1], name, ServeSettings(repository=repository)).session.close()
    assert compared == [[]]


def test_a_cut_that_the_bundle_keeps_is_found_without_listing_all(
    repository: Path, compared: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the cuts were listed anew")

    monkeypatch.setattr(tail_making, "single_cuts", never)
    monkeypatch.setattr(tail_making, "cuts_of", never)
    with bundle.open(repository / "net.edge") as opened:
        wanted = opened.manifest.cuts[0]
    files = listed(repository)["net"][1]
    serving = load_tail(files, TailName("net", wanted.id), ServeSettings(repository=repository))
    assert serving.parameters["edge_cut"] == wanted.id
    assert [spec.name for spec in serving.session.inputs] == list(wanted.tensors)
    serving.session.close()
