"""Makes one tail of a model in the repository and loads it. Takes a while: not for the event loop's thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from cloud_offload.refusals import Refusal
from cloud_offload.repository import ModelFiles
from cloud_offload.serving import Serving, serving_of
from cloud_offload.settings import ServeSettings
from edge_sdk.errors import ModelError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.cuts import Cut, cut_at, cuts_of, single_cuts
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.view import Graph
from edge_sdk.offload.parts_kept import kept_parts
from edge_sdk.offload.tail_names import TailName
from edge_sdk.wire.endpoint import TailIdentity

__all__ = ["load_tail"]


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
    if name.codec == "int8" and not name.scales:
        # They come from samples: those of a head made elsewhere would be others, and the answers wrong.
        raise Refusal(404, f"tail {str(name)[:200]!r}: int8 needs the scales of its head, as in +int8=SCALE:ZERO,…")
    with _whole(files, name) as model:
        graph = open_graph(model)
        cut = _cut(graph, name)
        made = kept_parts(model, cut, codec=name.codec, scales=name.scales, graph=graph)
        identity = TailIdentity(model.fingerprint, cut.id, name.coding)
    platform = "onnxruntime_onnx" if cut.format == "onnx" else "litert_tflite"
    of_tail = replace(files, name=str(name), platform=platform)
    return serving_of(made.split.tail, of_tail, identity.parameters(), settings, meter=f"{files.name}@")


@contextmanager
def _whole(files: ModelFiles, name: TailName) -> Iterator[ModelFile]:
    """The model file that is to be cut: of a bundle the one with the fingerprint, or the first where none is told."""
    with ExitStack() as stack:
        if files.platform == "edge_bundle":
            from edge_sdk import bundle

            opened = stack.enter_context(bundle.open(files.path))
            models = (stack.enter_context(opened.open_variant(variant.name)) for variant in opened.variants)
        else:
            models = (stack.enter_context(open_model(path)) for path in (files.path,))
        found = next((m for m in models if m.fingerprint.startswith(name.fingerprint)), None)
        if found is None:
            told = f"no file with fingerprint {name.fingerprint[:12]}…" if name.fingerprint else "no model file"
            raise Refusal(404, f"model {files.name!r} has {told}; deploy the one that the device has")
        yield found


def _cut(graph: Graph, name: TailName) -> Cut:
    """The cut that is named, first looked for where there is least to list."""
    if name.cut_id:
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
