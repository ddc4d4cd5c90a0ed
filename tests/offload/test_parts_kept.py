"""`kept_parts`: heads and tails are made once, and again where anything differs or the file was altered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import StorageError
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import single_cuts
from edge_sdk.offload import parts_kept
from edge_sdk.offload.parts import Parts
from edge_sdk.offload.parts_kept import kept_parts, kept_parts_and_tail
from tests import models

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The codec of every split that was really made."""
    calls: list[str] = []
    make = parts_kept.made_parts

    def counted(*arguments: object, **options: object) -> Parts:
        calls.append(str(options["codec"]))
        return make(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(parts_kept, "made_parts", counted)
    return calls


def test_the_second_call_reads_what_the_first_made(made: list[str]) -> None:
    content = models.onnx_mlp()
    cut = single_cuts(open_graph(content))[0]
    first, second = (kept_parts(open_model(content), cut, codec="fp16") for _ in range(2))
    assert first == second and made == ["fp16"]


def test_another_cut_codec_file_or_sample_is_made_anew(made: list[str]) -> None:
    content = models.onnx_mlp()
    one, other = single_cuts(open_graph(content))[:2]
    sample = {"x": np.ones((1, 8), np.float32)}
    kept_parts(open_model(content), one)
    kept_parts(open_model(content), other)
    kept_parts(open_model(content), one, codec="fp16")
    kept_parts(open_model(content), one, codec="int8", samples=[sample])
    kept_parts(open_model(content), one, codec="int8", samples=[{"x": 2 * sample["x"]}])
    changed = models.onnx_mlp(8, 15)
    kept_parts(open_model(changed), single_cuts(open_graph(changed))[0])
    assert made == ["none", "none", "fp16", "int8", "int8", "none"]


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, None])
def test_what_was_altered_on_disk_is_made_again(made: list[str], own_cache: Path, damage: bytes | None) -> None:
    content = models.onnx_mlp()
    cut = single_cuts(open_graph(content))[0]
    first = kept_parts(open_model(content), cut)
    (file,) = (own_cache / "splits").glob("*.split")
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(bytes(whole) if damage is None else damage)
    assert kept_parts(open_model(content), cut) == first
    assert made == ["none", "none"]


def test_the_tail_is_read_again_from_disk_even_after_the_file_was_dropped(own_cache: Path) -> None:
    content = models.onnx_mlp()
    parts, tail = kept_parts_and_tail(open_model(content), single_cuts(open_graph(content))[0])
    assert tail() == parts.split.tail
    (file,) = (own_cache / "splits").glob("*.split")
    file.unlink()
    assert tail() == parts.split.tail


def test_a_tail_that_was_altered_in_place_is_told(own_cache: Path) -> None:
    content = models.onnx_mlp()
    _, tail = kept_parts_and_tail(open_model(content), single_cuts(open_graph(content))[0])
    (file,) = (own_cache / "splits").glob("*.split")
    with open(file, "r+b") as opened:
        opened.seek(-1, 2)
        opened.write(b"\xff")
    with pytest.raises(StorageError, match="the kept tail was altered"):
        tail()


def test_where_nothing_can_be_kept_the_tail_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SDK_CACHE", "/dev/null/nowhere")
    content = models.onnx_mlp()
    parts, tail = kept_parts_and_tail(open_model(content), single_cuts(open_graph(content))[0])
    assert tail() == parts.split.tail


def test_what_was_used_longest_ago_is_dropped(
    made: list[str], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = models.onnx_mlp()
    cuts = single_cuts(open_graph(content))
    kept_parts(open_model(content), cuts[0])
    (file,) = (own_cache / "splits").glob("*.split")
    monkeypatch.setattr(parts_kept, "MAX_TOTAL_BYTES", int(1.5 * file.stat().st_size))
    kept_parts(open_model(content), cuts[1])
    assert not file.exists() and len(list((own_cache / "splits").glob("*.split"))) == 1


def test_a_cache_that_cannot_be_written_does_no_harm(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SDK_CACHE", "/dev/null/nowhere")
    content = models.onnx_mlp()
    cut = single_cuts(open_graph(content))[0]
    assert kept_parts(open_model(content), cut).difference.relative <= 1e-5
    assert made == ["none"]
