"""`plan_over_link`: what is best over a link, measured or stated, without a session to run it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edge_sdk.activation import activate
from edge_sdk.engines.base import LoadOptions
from edge_sdk.errors import InputError
from edge_sdk.events import Events
from edge_sdk.settings import ModelSource, Settings

if TYPE_CHECKING:
    from edge_sdk.device.facts import Device
    from edge_sdk.offloading import Offload
    from edge_sdk.planner import Plan, Wish

__all__ = ["plan_over_link"]


def plan_over_link(
    model: ModelSource,
    offload: Offload,
    wish: Wish,
    *,
    device: Device | None = None,
    variant: str | None = None,
    use_cache: bool = True,
) -> Plan:
    """Chooses among staying here, splitting and offloading: with heads made and timed here, links and endpoints as they
    are, or as `offload.link` and `offload.speed` say.

    Args:
        model: path of an ONNX or TFLite file or of a bundle, the bytes of a model, or an open `Bundle`.
        offload: endpoints, a stated link, and what may leave the device.
        wish: what to minimise and hold, and how long measuring may take.
        device: where the head shall run; this machine where None. For a device that is not here nothing is measured:
            heads are predictions from its rates.
        variant: name of the one variant of a bundle that is wanted; chosen where None.
        use_cache: whether a local plan kept earlier will do.

    Raises:
        ModelError: the model cannot be used.
        InputError: neither endpoints nor a link are given, or an argument does not fit.
    """
    from edge_sdk.planner import this_device

    if not offload.endpoints and offload.link is None:
        raise InputError("neither a link nor an endpoint is given; expected --link 10mbit,40ms or --endpoint URL")
    if wish.objective == "throughput":
        raise InputError(
            "objective is 'throughput' over a link; expected latency, energy or bytes: requests that do"
            " not depend on each other are shared out among the cores of one device"
        )
    if device is not None and device.fingerprint != this_device().fingerprint:
        return _predicted(model, offload, wish, device, variant)
    settings = Settings(None, LoadOptions(), wish, None, {}, False, False, False, variant, replace(offload, cut=None))
    active = activate(model, settings, Events(), use_cache=use_cache)
    active.runner.close()
    return active.plan


def _predicted(model: ModelSource, offload: Offload, wish: Wish, device: Device, variant: str | None) -> Plan:
    """For a device that is not here."""
    from pathlib import PurePath

    from edge_sdk.offloading import Places, WaysTable
    from edge_sdk.planner import plan
    from edge_sdk.planner.rates import rates_for
    from edge_sdk.planner.sources import open_variants

    local = plan(
        model,
        device,
        wish.objective,
        max_latency_ms=wish.max_latency_ms,
        min_accuracy=wish.min_accuracy,
        max_memory_mb=wish.max_memory_mb,
        power_mode=wish.power_mode,
        variant=variant,
    )
    assert local.predicted is not None, "a plan for a device that is not here is a prediction"
    name, variants = open_variants(model, variant)
    try:
        chosen = next(one for one in variants if one.name == local.variant)
        local_ms = local.predicted.latency_ms
        table = WaysTable(offload, wish, chosen, local, local_ms, rates_for(device), timed=False)
        places = Places(offload, offload.model or PurePath(name).stem, chosen.name, local_ms)
        places.look(3.0)
        return table.planned(table.best(places.now()), places.now(), places.failures)
    finally:
        for opened in variants:
            opened.close()
