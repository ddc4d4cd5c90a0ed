"""The face: `edge_sdk.load(...)` gives a `Session` that runs a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from edge_sdk.activation import activate
from edge_sdk.engines.base import CustomOps, Engine, LoadOptions
from edge_sdk.engines.guard import Guard, both
from edge_sdk.errors import InputError, InputValueError
from edge_sdk.events import Events
from edge_sdk.session import Session, let_go, uploads_of
from edge_sdk.settings import ModelSource, Settings, checked_cpus, checked_threads
from edge_sdk.tensors import Feeds

if TYPE_CHECKING:
    from edge_sdk.device.facts import Device
    from edge_sdk.offloading import Offload
    from edge_sdk.schedule import Caps
    from edge_sdk.wire.address import EndpointAddress
    from edge_sdk.wire.endpoint import Endpoint

__all__ = ["load"]


def load(
    model: ModelSource,
    *,
    objective: str = "latency",
    max_latency_ms: float | None = None,
    min_accuracy: float | None = None,
    max_memory_mb: float | None = None,
    rate_hz: float | None = None,
    device: Device | None = None,
    power_mode: str = "balanced",
    plan_budget_s: float = 1.0,
    sample: Feeds | None = None,
    variant: str | None = None,
    engine: str | Engine | None = None,
    accelerator: str = "cpu",
    accelerator_options: Mapping[str, str] | None = None,
    guard: Guard | None = None,
    strict: bool = False,
    threads: int | None = None,
    cpus: Sequence[int] | None = None,
    state: Mapping[str, str] | None = None,
    float_io: bool = False,
    check_finite: bool = False,
    initializer_inputs: Sequence[str] = (),
    custom_ops: Sequence[CustomOps] = (),
    trusted: bool = False,
    map_weights: bool = False,
    endpoints: Sequence[str | EndpointAddress | Endpoint] = (),
    cut: str | Sequence[str] | None = None,
    codec: str | None = None,
    data: Sequence[Feeds] = (),
    endpoint_model: str | None = None,
    deadline_ms: float | None = None,
    upload: bool = False,
    ways: Sequence[str] | None = None,
    keep_input_local: bool = False,
    max_bytes: int | None = None,
    max_leakage: float | None = None,
    radio: str | None = None,
    coding: str | None = None,
    max_batch: int | None = None,
    max_delay_ms: float = 0.0,
    keep_answers_mb: float = 0,
    caps: Caps | None = None,
    replan: bool = True,
) -> Session:
    """Loads a model the best way this device allows.

    Args:
        model: path of an ONNX or TFLite file or of a bundle, the bytes of a model, or an open `Bundle`.
        objective: what to minimise: "latency"; "energy" for one request; "bytes" that travel for one; or, with
            "throughput", the time from answer to answer: independent requests may then be shared out among several
            runners, one on each cluster of cores or on each core, each with the weights in memory, or the model be cut
            in stages, each on its own cluster or accelerator.
        max_latency_ms: what one request may take; the plan's reason says when it does not.
        min_accuracy: what a variant must reach by the bundle's own metric, from 0 to 1.
        max_memory_mb: what weights and activations may take, in MiB.
        rate_hz: requests a second that you mean to make, as a camera would: measuring paces its own like that.
        device: where it runs; probed where None.
        power_mode: "performance", "balanced" or "efficiency" (little cores where there are any).
        plan_budget_s: how long the first load of this model on this device may measure; 0 measures nothing.
        sample: feeds to measure with; without it inputs are made up, with size 1 for open dimensions.
        variant: name of the one variant of a bundle that is wanted; chosen where None.
        engine: name of the engine, or an `Engine`; chosen where None.
        accelerator: "cpu", or the name of one that `edge-sdk device` lists. Where it fails, the CPU takes over with an
            `AcceleratorFallback` warning that names the cause, until it is well again.
        guard: how it is watched, in a process of its own; see `Guard`.
        accelerator_options: passed to the provider or delegate as they are.
        strict: raise instead of falling back to the CPU, also for a part of the nodes.
        threads, cpus: fixes these; nothing is measured then.
        state: input name to the output that is its next value: carried from call to call, beginning with zeros.
        float_io: quantised inputs and outputs are float32 for the caller.
        check_finite: refuse NaN and infinity in float inputs.
        initializer_inputs: initialisers that the ONNX file lists as graph inputs and that you mean to feed; the others
            are taken out of the inputs, since they make the model 3 to 4 times slower.
        custom_ops: libraries of custom ops with their hashes.
        trusted: skip the trial of an unknown file in a child process.
        map_weights: have weights mapped from a kept file where the engine can, instead of copied: the kernel may have
            their memory back, and loading takes a half to a seventh of the time; the file takes up to twice the model's
            size in the cache. What a request takes beside weights is then given back after it. LiteRT maps anyway.
        endpoints: where the model or its tail may run: addresses ("http://HOST:PORT"), `EndpointAddress` where a token
            or certificates are needed, or an `Endpoint`, which stays open. All of it runs here too wherever an endpoint
            is late, fails or answers wrongly. Unless `cut` is given the planner chooses whether a split, the whole
            model elsewhere or staying here is best over each link as it is now, and again when it changes.
        cut: where to divide it: id of a cut as `edge-sdk split --list` shows it, name of a tensor, or names of several.
            Those of all inputs leave nothing to the head. Where only a codec is given, the cut with the fewest bytes of
            those that leave at least half of the work to the tail.
        codec: how the tensors of the cut travel: "none" (as they are), "fp16" (half of the bytes of floats), "int8" or
            "int8c" (a quarter, with a scale for each tensor or channel), "int4" or "int4c" (an eighth), or "int16" for
            sound. `data` sets the ranges of all but the first two.
        data: requests as `run` takes them, that codecs take their ranges from, and that answers with a codec are
            compared on; the golden requests of a bundle where there are none.
        endpoint_model: name of the whole model at the endpoints; its own without suffix where None.
        deadline_ms: of each request to endpoints, from the start of its head; the local tail begins in time for it.
        upload: send the bundle to endpoints that do not have it, once, beside the session; until then, and where it is
            refused, everything runs here. The report's events tell what came of it.
        ways: kinds of plans that may be chosen: some of "local", "split", "offload", "cascade"; all where None. Where
            no endpoint answers, all of it runs here also without "local".
        keep_input_local: no input of the model leaves the device, nor what it can be read from as it is.
        max_bytes: that one request may send.
        max_leakage: share of the input's variance, from 0 to 1, that a linear decoder may rebuild from what travels, as
            the bundle tells of each cut (`edge-sdk build --cuts`).
        coding: how the bytes of what travels are packed, where a cut is given: "none", "deflate", "zstd", or of whole
            inputs "jpeg@75", "webp@75" (quality 1 to 100) and "flac".
        max_batch: requests that come at once from several threads, or a stream, may be computed together, up to so many
            rows: where the first axis is open, rows are independent, and it was measured to pay.
        max_delay_ms: so long a request waits for others at most; less where it would be later than `max_latency_ms`.
        keep_answers_mb: MiB for answers of earlier requests: one that is equal to an earlier one byte for byte is not
            computed again. For models that answer the same input alike and carry no state; cleared by `swap`. Feeds
            must not change while they are computed.
        caps: utilisation clamps of the threads that compute, and frequencies of the CPUs, held until the session is
            closed: `edge_sdk.schedule.Caps`. Frequencies are the whole machine's, and need the right to set them.
        replan: plan anew, beside the requests, when their latency has left the plan for long.
        radio: what the link goes over, for its energy: "wifi" (also where None), "lte", "3g" or "wired".

    Raises:
        ModelError: the file cannot be used; its subclasses tell why.
        EngineNotInstalled: no engine for its format is installed.
        AcceleratorError: only with `strict`.
        InputError: an argument does not fit.
        DeviceError: with `caps`, where the kernel does not permit or have what is asked for.
    """
    from edge_sdk.planner import Wish

    began = perf_counter()
    events = Events()
    guard = guard or Guard()
    options = LoadOptions(
        threads=checked_threads(threads),
        cpus=checked_cpus(cpus),
        accelerator=accelerator,
        accelerator_options=dict(accelerator_options or {}),
        strict=strict,
        custom_ops=tuple(custom_ops),
        initializer_inputs=tuple(initializer_inputs),
        guard=replace(guard, tell=both(events.append, guard.tell)),
        map_weights=map_weights,
    )
    samples = None if sample is None else sample if isinstance(sample, Mapping) else {"": sample}
    wish = Wish(objective, max_latency_ms, power_mode, plan_budget_s, samples, min_accuracy, max_memory_mb, rate_hz)
    offload = _offload(
        endpoints,
        cut=cut,
        endpoint_model=endpoint_model,
        deadline_ms=deadline_ms,
        codec=codec,
        data=data,
        ways=ways,
        keep_input_local=keep_input_local,
        max_bytes=max_bytes,
        max_leakage=max_leakage,
        radio=radio,
        coding=coding,
    )
    batching = None
    if max_batch is not None:
        from edge_sdk.planner.batched import Batching

        batching = Batching(max_batch, max_delay_ms, math.inf if max_latency_ms is None else max_latency_ms)
    settings = Settings(
        engine,
        options,
        wish,
        device,
        dict(state or {}),
        float_io,
        check_finite,
        trusted,
        variant,
        offload,
        batching,
        replan,
        _bytes_to_keep(keep_answers_mb),
    )
    try:
        if caps is not None:
            settings = _capped(settings, caps, events)
        if (objective == "throughput" or batching is not None) and (offload is not None or state):
            given = "objective='throughput'" if objective == "throughput" else "max_batch"
            raise InputError(f"{given} is for independent requests that stay here: leave out endpoints and state")
        if keep_answers_mb and (offload is not None or state):
            raise InputError(
                "keep_answers_mb is for requests that stay here and carry no state: leave out endpoints and state"
            )
        uploads = uploads_of(model, settings, events) if upload else None
        return Session(settings, activate(model, settings, events), began, events, uploads)
    except BaseException:
        let_go(settings)
        raise


def _capped(settings: Settings, caps: Caps, events: list[str]) -> Settings:
    frequencies = None
    if caps.limits_frequencies:
        from edge_sdk.schedule.capping import LimitedFrequencies

        frequencies = LimitedFrequencies(caps)
        events.extend(frequencies.changes)
    return replace(settings, clamp=caps.clamp, frequencies=frequencies)


def _bytes_to_keep(keep_answers_mb: float) -> int:
    if not 0 <= keep_answers_mb < math.inf:
        raise InputValueError(f"keep_answers_mb is {keep_answers_mb!r}; expected MiB, 0 or more")
    return int(keep_answers_mb * 2**20)


def _offload(endpoints: Sequence[str | EndpointAddress | Endpoint], **asked: Any) -> Offload | None:
    if not endpoints and not any(value is not None and value != () and value is not False for value in asked.values()):
        return None  # without a single import more
    from edge_sdk.offloading import offload_of

    return offload_of(endpoints, **asked)
