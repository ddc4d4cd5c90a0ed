"""The variants of a bundle, as the planner chooses among them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_sdk.engines.base import Runner
from edge_sdk.planner.variants import Golden, Variant

if TYPE_CHECKING:
    from edge_sdk import bundle

__all__ = ["variants_of_bundle"]


def variants_of_bundle(source: bundle.Bundle, only: str | None = None) -> tuple[Variant, ...]:
    """The variants in the manifest's order. One kept although it did not pass is barred, unless `only` names it.

    Args:
        source: open; stays open as long as a variant may be loaded.
        only: the name of the one variant that is wanted.

    Raises:
        ModelNotFound: the bundle has no variant of that name.
    """
    wanted = source.variants if only is None else (source.variant(only),)
    return tuple(_variant(source, entry, asked_for=only is not None) for entry in wanted)


def _variant(source: bundle.Bundle, entry: bundle.Variant, asked_for: bool) -> Variant:
    accuracy, accuracy_of = _accuracy(entry)
    barred = f"{entry.kept}; ask for it by name to use it all the same" if entry.kept and not asked_for else ""
    return Variant(
        entry.name,
        entry.format,
        "+".join(file.sha256 for file in entry.files),
        functools.partial(source.open_variant, entry.name),
        accuracy=accuracy,
        accuracy_of=accuracy_of,
        barred=barred,
        cuts=tuple(cut for cut in source.manifest.cuts if cut.variant == entry.name),
        cascades=tuple(cascade for cascade in source.manifest.cascades if cascade.big == entry.name),
        wrap=functools.partial(_mapped, source=source, entry=entry),
        golden=functools.partial(_golden, source, entry.name),
    )


def _accuracy(entry: bundle.Variant) -> tuple[float | None, str]:
    for figure in entry.accuracy:
        of = f"{figure.metric} on {figure.samples} samples of {figure.data}, {figure.engine}, {figure.isa}"
        if figure.metric == "mean_error":
            return max(0.0, 1.0 - figure.value), f"1 - {of}"
        return figure.value, of
    return None, ""


def _mapped(runner: Runner, source: bundle.Bundle, entry: bundle.Variant) -> Runner:
    from edge_sdk.engines.mapped import mapped

    return mapped(runner, source.signature, entry.mapping)


def _golden(source: bundle.Bundle, variant: str) -> Iterator[Golden]:
    if not any(output.variant == variant for sample in source.manifest.golden for output in sample.outputs):
        return
    for sample in source.golden(only=variant):
        answer = sample.answers.get(variant)
        if answer is not None:
            yield Golden(sample.feeds, answer.outputs, answer.tolerance)
