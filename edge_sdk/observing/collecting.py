"""`Metrics`: what several sessions, schedulers and governors of a process tell, together with heat and memory.

    metrics = edge_sdk.Metrics()
    session = metrics.add(edge_sdk.load("model.onnx"))
    metrics.as_dict()
    metrics.serve(9600)

Requests are not touched by it: all is worked out from what sessions keep anyway, when somebody asks.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from edge_sdk.errors import InputError, InputValueError, SessionClosed
from edge_sdk.observing import reading
from edge_sdk.observing.families import samples
from edge_sdk.observing.snapshot import DeviceNow, GovernorNow, ModelNow, ProcessNow, SchedulerNow, Snapshot
from edge_sdk.scheduler import Scheduler
from edge_sdk.session import Session

if TYPE_CHECKING:
    from prometheus_client import Metric

    from edge_sdk.observing.page import Serving
    from edge_sdk.observing.reading import Leveled

    Source = TypeVar("Source", bound="Session | Scheduler | Leveled")

__all__ = ["Metrics"]

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Metrics:
    """Tells how what was added to it goes. Any number of threads may use it.

    It is a collector of `prometheus_client` too: `REGISTRY.register(metrics)` puts it on a page of your own.

    Args:
        sysroot: the folder with `proc/` and `sys/` that heat and power are read below.
    """

    def __init__(self, sysroot: str | os.PathLike[str] = "/") -> None:
        self._sysroot = os.fspath(sysroot)
        self._lock = threading.Lock()
        self._sources: dict[str, weakref.ref[Any]] = {}
        self._unread = 0

    def add(self, source: Source, name: str | None = None) -> Source:
        """Takes something in. It is not kept alive by that, and leaves by itself once it is closed.

        Args:
            source: a `Session`, a `Scheduler` with all that it has loaded, or what has `level`, `levels`, `target` and
                `reachable` as a `Governor` has them.
            name: its label; that of the model, "scheduler" or "governor" where None. Models of a scheduler have the
                names that they were loaded under.

        Returns:
            The source.

        Raises:
            InputValueError: something else has this name.
            InputError: it is none of these.
            SessionClosed: no name is given, and the session is closed.
        """
        name = _name_of(source) if name is None else name
        with self._lock:
            if self._found(name) is not None:
                raise InputValueError(f"there are metrics of {name!r} already; expected another name=")
            self._sources[name] = weakref.ref(source)
        return source

    def snapshot(self) -> Snapshot:
        """All of it as it is now. What cannot be read is missing, and counted as `unread`."""
        from edge_sdk import __version__

        models: dict[str, ModelNow] = {}
        schedulers: dict[str, SchedulerNow] = {}
        governors: dict[str, GovernorNow] = {}
        for name, source in self._living():
            if isinstance(source, Session):
                self._session(name, source, models)
            elif isinstance(source, Scheduler):
                self._scheduler(name, source, models, schedulers)
            else:
                governor = self._read(partial(reading.governor_now, source), name)
                if governor is not None:
                    governors[name] = governor
        return Snapshot(
            at_s=time.time(),
            version=__version__,
            models=models,
            schedulers=schedulers,
            governors=governors,
            device=self._read(partial(reading.device_now, self._sysroot), "the device") or DeviceNow(),
            process=self._read(reading.process_now, "the process") or ProcessNow(),
            unread=self._unread,
        )

    def as_dict(self) -> dict[str, Any]:
        """`snapshot()` as plain dicts, lists, strings and numbers that `json.dumps` takes; times in milliseconds."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.snapshot()))
        return plain

    def prometheus(self) -> str:
        """The page in Prometheus' text format.

        Raises:
            MissingExtra: `prometheus_client` is not installed.
        """
        from edge_sdk.observing.page import text

        return text(self)

    def serve(self, port: int, host: str = "127.0.0.1") -> Serving:
        """Answers to Prometheus over HTTP until what is returned is closed.

        Args:
            port: to listen on; 0 for any that is free.
            host: address of this device to listen on: the page is readable for all who reach it.

        Raises:
            MissingExtra: `prometheus_client` is not installed.
            StorageError: the address cannot be listened on.
        """
        from edge_sdk.observing.page import serve

        return serve(self, port, host)

    def collect(self) -> Iterable[Metric]:
        """For a registry of `prometheus_client`: families with their samples, as they are now."""
        from edge_sdk.observing.page import metrics_of

        return metrics_of(samples(self.snapshot()))

    def describe(self) -> Iterable[Metric]:
        """For a registry of `prometheus_client`: all families, without samples."""
        from edge_sdk.observing.page import metrics_of

        return metrics_of((), all_families=True)

    def _found(self, name: str) -> Any:
        """What has this name now; None where it is gone. Called while the lock is held."""
        known = self._sources.get(name)
        source = None if known is None else known()
        if isinstance(source, Session) and source.closed:
            source = None
        if source is None:
            self._sources.pop(name, None)
        return source

    def _living(self) -> Iterator[tuple[str, Any]]:
        with self._lock:
            found = [(name, self._found(name)) for name in tuple(self._sources)]
        return ((name, source) for name, source in found if source is not None)

    def _session(self, name: str, session: Session, models: dict[str, ModelNow]) -> None:
        found = self._read(partial(reading.session_now, session), name)
        if found is not None:
            models[_free(name, models)] = ModelNow(session=found)

    def _scheduler(
        self, name: str, scheduler: Scheduler, models: dict[str, ModelNow], schedulers: dict[str, SchedulerNow]
    ) -> None:
        resident_mb = scheduler.resident_mb()
        schedulers[name] = reading.scheduler_now(scheduler, resident_mb)
        for one in scheduler.sessions:
            loaded = one.loaded()
            session = None if loaded is None else self._read(partial(reading.session_now, loaded), one.name)
            scheduled = self._read(partial(reading.scheduled_now, one, name), one.name)
            models[_free(one.name, models)] = ModelNow(session=session, scheduled=scheduled)

    def _read(self, read: Callable[[], T], what: str) -> T | None:
        """What is read; None where it failed, since one that fails must not take the others along."""
        try:
            return read()
        except SessionClosed:
            return None  # in between
        except Exception:  # noqa: BLE001 - whatever a plug-in raises
            _log.warning("no metrics of %s", what, exc_info=True)
            with self._lock:
                self._unread += 1
            return None


def _name_of(source: object) -> str:
    if isinstance(source, Session):
        return source.report().model
    if isinstance(source, Scheduler):
        return "scheduler"
    if not hasattr(source, "levels"):
        raise InputError(
            f"a {type(source).__name__} tells no metrics; expected a Session, a Scheduler (not one of its sessions: it"
            " tells of all of them) or a Governor"
        )
    return "governor"


def _free(name: str, taken: Mapping[str, object]) -> str:
    """The name, or one like it that is not taken: two samples of one name would have Prometheus refuse the page."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free
