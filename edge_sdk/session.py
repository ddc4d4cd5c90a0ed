"""A loaded model that runs as its plan says, and keeps running when an accelerator, memory or the plan fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING

from edge_sdk.activation import Active, activate
from edge_sdk.answering import Answering
from edge_sdk.errors import InputError, SessionClosed
from edge_sdk.events import Events
from edge_sdk.metrics import Histogram
from edge_sdk.settings import ModelSource, Settings
from edge_sdk.tensors import TensorSpec
from edge_sdk.timings import Way

if TYPE_CHECKING:
    from edge_sdk.offload import SplitFigures
    from edge_sdk.offload.uploading_behind import UploadsBehind
    from edge_sdk.offloading import EndpointFigures
    from edge_sdk.planner import Plan
    from edge_sdk.report import Report

__all__ = ["Session", "let_go", "uploads_of"]


def uploads_of(model: ModelSource, settings: Settings, events: Events) -> UploadsBehind:
    """What sends a bundle to the endpoints that do not have it.

    Raises:
        InputError: there are no endpoints.
    """
    if settings.offload is None:
        raise InputError("upload is given without endpoints: expected endpoints=['http://HOST:PORT']")
    from edge_sdk.offload.uploading_behind import UploadsBehind

    return UploadsBehind(model, settings.offload.endpoints, settings.offload.model, events.append)


def let_go(settings: Settings) -> None:
    """Closes endpoints that were made for these settings, and restores frequencies that were limited."""
    for endpoint in settings.offload.owned if settings.offload is not None else ():
        endpoint.close()
    if settings.frequencies is not None:
        settings.frequencies.close()


class Session(Answering):
    """A model that runs as its plan says. Any number of threads may call it at once; made by `edge_sdk.load`.

    A context manager: leaving it closes the session.
    """

    def __init__(
        self,
        settings: Settings,
        active: Active,
        began: float,
        events: Events,
        uploads: UploadsBehind | None = None,
    ) -> None:
        super().__init__(settings, active, began, events)
        self._uploads = uploads
        if uploads is not None:
            uploads.start()
        self._watch_plan()

    def swap(self, model: ModelSource) -> None:
        """Puts another model in the place of this one, loaded with the same arguments. Requests in flight finish on the
        old model; no request is lost. When the new model does not load, the old one stays.

        Raises:
            As `load`.
        """
        uploads = self._uploads and uploads_of(model, self._settings, self._events)
        new = activate(model, self._settings, self._events)
        with self._change:
            old = self._active
            if old is None:
                new.retire()
                raise SessionClosed("the session is closed; load the model instead")
            self._put(new)
            self._events.tell("swapped", f"swapped {old.name} for {new.name}")
        old.retire()
        if self._uploads is not None and uploads is not None:
            self._uploads.stop()
            self._uploads = uploads
            uploads.start()
        self._watch_plan()

    def running(self) -> tuple[Active, Settings]:
        """What runs now and how it was asked for: for whoever steers a session (`session_levels`)."""
        return self._now(), self._settings

    def switch(self, new: Active, event: str) -> Active:
        """Has the requests from now on answered by another way to run the model, loaded already. None waits for that.

        Args:
            new: it.
            event: for the report.

        Returns:
            What ran before: its requests in flight finish on it, and it is the caller's to retire.

        Raises:
            SessionClosed: the session was closed.
        """
        with self._change:
            old = self._now()
            self._put(new)
            self._events.tell("stepped", event)
        return old

    def tell(self, event: str) -> None:
        """Adds a line to the events of the report."""
        self._events.append(event)

    def plan_no_more(self) -> None:
        """The plan stays when latency leaves it: something else decides how the model runs."""
        self._settings = replace(self._settings, replan=False)
        self._watch_plan()

    @property
    def plan(self) -> Plan:
        """How the model runs, and the table that was chosen from. With endpoints it is another after each switch."""
        return self._now().plan_now()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What must be fed, in the model's order."""
        return self._now().runner.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What comes back, in the model's order."""
        return self._now().runner.outputs

    def report(self) -> Report:
        """Where each node really runs, and how a request's time divides so far."""
        from edge_sdk.report import make_report

        self._hand_on_times()
        active = self._hold()
        try:
            return make_report(
                model=active.name,
                plan=active.plan_now(),
                power_mode=self._settings.wish.power_mode,
                runner=active.runner,
                stages=self._timings.by_stage(),
                load_ms=active.load_ms,
                first_result_ms=self._first_result_ms,
                events=self._events,
            )
        finally:
            active.release()

    def run_times(self) -> dict[Way, Histogram]:
        """Durations of `run` by the way the model ran, those of earlier plans among them."""
        self._hand_on_times()
        return self._timings.ways()

    def stage_times(self) -> dict[str, Histogram]:
        """Durations by stage, as in the report, to be read in full."""
        self._hand_on_times()
        return {**self._timings.by_stage(), "queue": self._now().runner.queue}

    def split_figures(self) -> SplitFigures | None:
        """How requests went that had their tail at an endpoint, or should have; None without endpoints."""
        if self._settings.offload is None:
            return None
        from edge_sdk.offloading import figures_of

        return figures_of(self._now().runner)

    def endpoint_figures(self) -> tuple[EndpointFigures, ...]:
        """Whether each endpoint may be asked now, and what its link is like; empty without endpoints."""
        if self._settings.offload is None:
            return ()
        from edge_sdk.offloading import endpoint_figures

        return tuple(map(endpoint_figures, self._settings.offload.endpoints))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what surrounds `run` in a request, for the report: `with session.stage("decode"): …`.

        Args:
            name: "decode", "pre" or "post"; another name becomes a stage of its own.
        """
        histogram = self._timings.stages.setdefault(name, Histogram())
        began = perf_counter()
        try:
            yield
        finally:
            histogram.record((perf_counter() - began) * 1e3)

    def close(self) -> None:
        """Waits for the requests in flight and frees the model. Idempotent; later requests raise `SessionClosed`."""
        with self._change:
            active, self._active = self._active, None
            pool, self._threads = self._threads, None
        if self._replanner is not None:
            self._replanner.stop()
        if self._uploads is not None:
            self._uploads.stop()
        if active is not None:
            active.retire()
        if pool is not None:
            pool.shutdown(wait=True)
        let_go(self._settings)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        active = self._active
        return "<Session closed>" if active is None else f"<Session {active.name}: {active.plan.reason}>"
