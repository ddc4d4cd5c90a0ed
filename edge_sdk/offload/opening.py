"""From head and tail as model files to a runner that has its tail at endpoints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.engines.loading import load_guarded
from edge_sdk.engines.registry import engines_for
from edge_sdk.formats import ModelFile, ModelInfo, open_model
from edge_sdk.graph.codec import coding_mark
from edge_sdk.graph.splitting import Split
from edge_sdk.offload.local import Compute, LocalTail
from edge_sdk.offload.split import SplitRunner
from edge_sdk.offload.split_spec import SplitSpec
from edge_sdk.wire.endpoint import Endpoint, TailIdentity

__all__ = ["open_split"]


def open_split(
    model: ModelFile,
    split: Split,
    endpoints: Sequence[Endpoint],
    tail: str,
    *,
    tail_content: Callable[[], bytes] | None = None,
    tail_info: ModelInfo | None = None,
    source: str | None = None,
    engine: Engine | None = None,
    options: LoadOptions | None = None,
    deadline_ms: float | None = None,
    codings: Mapping[str, str] | None = None,
    content_coding: str = "",
    first_patience_ms: float = 500.0,
    identified: bool = True,
    whole: Runner | None = None,
    expected_tail_ms: float | None = None,
) -> SplitRunner:
    """Loads the head here; the tail is loaded here too, but only once an endpoint is late or fails.

    Args:
        model: the whole that was split.
        split: head and tail, already compared with the whole (`made_parts`).
        endpoints: where the tail may run; they stay open.
        tail: its name there.
        tail_content: reads the tail when it is needed, so that it takes no memory before; None to hold that of `split`.
        tail_info: what its file holds, where the caller has read it.
        source: what the tail says it was made from: digest of the bundle; None for the fingerprint of `model`.
        engine: that runs head and local tail; the first installed one for the format where None.
        options: how head and local tail are loaded.
        deadline_ms: of each request; None for none.
        codings: what travels as a picture or sound file, and as which, by its name in `split.sent`.
        content_coding: of requests: "", "deflate" or "zstd".
        first_patience_ms: how long an endpoint has for itself while its link is unknown.
        identified: whether the endpoints tell which file, cut and codec their tail is of; else its name is trusted.
        whole: runs `model` here already, and stays open as long as this: the local tail of a cut at the inputs.
        expected_tail_ms: what the local tail takes, as far as that is known.

    Raises:
        ModelError, EngineError: the head cannot be loaded.
    """
    options = options or LoadOptions()
    runs_it = engine or engines_for(model.format)[0]

    def load(content: bytes, part: str) -> Runner:
        with open_model(content, name=f"{model.name} ({part})") as file:
            return load_guarded(runs_it, file, options)

    info = model.describe()
    tail_info = tail_info or open_model(split.tail, name=f"{model.name} (tail)").describe()
    identity = TailIdentity(source or model.fingerprint, split.cut.id, coding_mark(split.codec, split.scales))
    spec = SplitSpec(
        name=model.name,
        inputs=tuple(spec for spec in info.inputs if spec.name not in info.initializer_inputs),
        outputs=info.outputs,
        tail=tail,
        travels=split.sent,
        gives=tail_info.outputs,
        identity=identity if identified else None,
        codings=dict(codings or {}),
        content_coding=content_coding,
    )
    content = tail_content or functools.partial(bytes, split.tail)
    there_already = None if whole is None or split.head else _as_tail(whole, spec)
    local = LocalTail(lambda: there_already or load(content(), "tail"), expected_ms=expected_tail_ms)
    head = load(split.head, "head") if split.head else _as_they_are
    return SplitRunner(spec, head, local, endpoints, deadline_ms=deadline_ms, first_patience_ms=first_patience_ms)


def _as_tail(whole: Runner, spec: SplitSpec) -> Compute | None:
    """A runner of the whole as the tail of a cut at its inputs; None where the two go by other names."""
    taken = {one.name for one in whole.inputs} - whole.optional_inputs
    given = {one.name for one in whole.outputs}
    same = taken <= set(spec.travels) and {one.name for one in spec.gives} == given
    return whole.run if same else None


def _as_they_are(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
    """The head of a cut at the inputs."""
    return feeds
