"""Makes one tail of a model in the repository and loads it. Takes a while: not for the event loop's thread."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cloud_offload.refusals import Refusal
from cloud_offload.repository import ModelFiles
from cloud_offload.serving import Serving, serving_of
from cloud_offload.settings import ServeSettings
from edge_sdk.engines.base import LoadOptions
from edge_sdk.engines.registry import engines_for
from edge_sdk.engines.trial import require_trial
from edge_sdk.errors import EdgeError, ModelError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.codec import scaled_as
from edge_sdk.graph.cuts import Cut, cut_at, cuts_of, input_cut, single_cuts
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.view import Graph
from edge_sdk.offload.parts_kept import kept_parts
from edge_sdk.offload.sampling import inner_feeds
from edge_sdk.offload.tail_names import TailName
from edge_sdk.wire.endpoint import TailIdentity

if TYPE_CHECKING:
    from edge_sdk.bundle import Cut as KeptCut
    from edge_sdk.planner import Variant

__all__ = ["load_tail"]

_MOST_GOLDEN = 8


def load_tail(files: ModelFiles, name: TailName, settings: ServeSettings) -> Serving:
    """Makes the tail, or takes the one kept from an earlier time, compares it with the whole, and loads it.

    Args:
        files: of the whole.
        name: which tail.
        settings: of the endpoint.

    Raises:
        Refusal: 404 where there is no such cut, model file or codec.
        EdgeError: the model cannot be cut there, or the tail cannot be used.
    """
    with _whole(files, name) as (model, variant):
        graph = open_graph(model)
        cut = _cut(graph, name, () if variant is None else variant.cuts)
        if not name.scales and scaled_as(graph, cut, name.codec):
            # They come from samples: those of a head made elsewhere would be others, and the answers wrong.
            raise Refusal(
                404, f"tail {str(name)[:200]!r}: {name.codec} needs the scales of its head, as in +int8=SCALE:ZERO,…"
            )
        samples = () if variant is None else _golden_feeds(model, variant)
        made = kept_parts(model, cut, codec=name.codec, scales=name.scales, samples=samples, graph=graph)
        identity = TailIdentity(model.fingerprint, cut.id, name.coding_mark)
    platform = "onnxruntime_onnx" if cut.format == "onnx" else "litert_tflite"
    of_tail = replace(files, name=str(name), platform=platform)
    return serving_of(made.split.tail, of_tail, identity.parameters(), settings, meter=f"{files.name}@")


@contextmanager
def _whole(files: ModelFiles, name: TailName) -> Iterator[tuple[ModelFile, Variant | None]]:
    """The model file that is to be cut: of a bundle the one with the fingerprint, or the first where none is told."""
    with ExitStack() as stack:
        models: Iterator[tuple[ModelFile, Variant | None]]
        if files.platform == "edge_bundle":
            from edge_sdk import bundle
            from edge_sdk.planner.bundled import variants_of_bundle

            opened = stack.enter_context(bundle.open(files.path))
            models = ((stack.enter_context(v.file()), v) for v in variants_of_bundle(opened))
        else:
            models = ((stack.enter_context(open_model(path)), None) for path in (files.path,))
        found = next(((m, v) for m, v in models if m.fingerprint.startswith(name.fingerprint)), None)
        if found is None:
            told = f"no file with fingerprint {name.fingerprint[:12]}…" if name.fingerprint else "no model file"
            raise Refusal(404, f"model {files.name!r} has {told}; deploy the one that the device has")
        yield found


def _golden_feeds(model: ModelFile, variant: Variant) -> list[dict[str, Any]]:
    """The bundle's golden requests as the variant's own file takes them: what is compared on tells more than noise."""
    requests = [golden.feeds for golden in itertools.islice(variant.golden(), _MOST_GOLDEN)]
    if not requests:
        return []
    engine, options = engines_for(model.format)[0], LoadOptions(spin=False, cache=False)
    if engine.native:
        require_trial(model, engine, options)
    return inner_feeds(engine.load(model, options), variant.wrap, requests, f"{model.name}: golden request")


def _cut(graph: Graph, name: TailName, kept: Sequence[KeptCut]) -> Cut:
    """The cut that is named, first looked for where there is least to list: among those that the bundle keeps."""
    if (whole := _at_inputs(graph, name)) is not None:
        return whole
    if name.cut_id:
        if (known := next((cut for cut in kept if cut.id == name.cut_id), None)) is not None:
            return cut_at(graph, known.tensors, nearest=False, where=f"model {name.model!r}")
        for cuts in (single_cuts, cuts_of):
            for cut in cuts(graph):
                if cut.id == name.cut_id:
                    return cut
    try:
        # As named: a cut moved elsewhere would not take what the head sends.
        return cut_at(graph, name.tensors, nearest=False, where=f"model {name.model!r}")
    except ModelError as error:
        if not name.cut_id:
            raise Refusal(404, str(error)) from None
        raise Refusal(
            404,
            f"model {name.model!r} has no cut {name.cut!r} among those listed; name its tensors instead, as in"
            f" {name.model}@TENSOR,TENSOR, or see that device and endpoint have the same file",
        ) from None


def _at_inputs(graph: Graph, name: TailName) -> Cut | None:
    """The cut at the inputs, if that is named: of a graph with control flow it is the only one."""
    try:
        whole = input_cut(graph)
    except EdgeError:
        return None
    named = name.cut_id == whole.id if name.cut_id else set(name.tensors) == set(whole.tensors)
    return whole if named else None
