"""Models that share a budget of memory: loaded when they are needed, unloaded when others need the room.

The least recently used of those that nobody uses goes first. Who needs a model waits for room; a model with a promise
stays. What most likely follows the one that is used is loaded meanwhile, as the sequence of uses tells.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_sdk.errors import EdgeError, InputValueError, OutOfMemory, SessionClosed
from edge_sdk.measuring.processes import memory_of
from edge_sdk.schedule.successors import Successors

if TYPE_CHECKING:
    from edge_sdk.session import Session

__all__ = ["Residence"]

_log = logging.getLogger(__name__)

LEAST_OF_ESTIMATE = 0.3
"""A model takes this share of the estimate at least: growth of the process below it is memory that another had left."""


@dataclass(slots=True, eq=False)
class _Tenant:
    """One model, loaded or not."""

    name: str
    load: Callable[[], Session]
    keep: bool
    size_mb: float = 0.0
    session: Session | None = None
    users: int = 0
    used: int = 0
    loads: int = 0
    ahead: int = 0


class Residence:
    """Keeps what is loaded within a budget. Any number of threads may use it.

    Args:
        budget_mb: what all models together may take; None for any.

    Raises:
        InputValueError: the budget is no number above 0.
    """

    def __init__(self, budget_mb: float | None) -> None:
        if budget_mb is not None and not budget_mb > 0:
            raise InputValueError(f"max_memory_mb is {budget_mb!r}; expected MiB above 0")
        self.budget_mb = budget_mb
        self._changed = threading.Condition()
        self._loading = False
        self._engines: set[str] = set()
        self._successors = Successors()
        self._foreseeing = False
        self._waiting = 0
        self._closed = False
        self._tenants: dict[str, _Tenant] = {}
        self._turn = 0

    def add(self, name: str, load: Callable[[], Session], *, keep: bool, size_mb: float | None = None) -> Session:
        """Loads a model for the first time, and finds out what it takes.

        Args:
            name: each once.
            load: loads it, now and whenever it is needed again.
            keep: whether it stays loaded.
            size_mb: what it is thought to take, as room must be made before.

        Raises:
            InputValueError: the name is taken.
            OutOfMemory: it does not fit into the budget beside those that stay.
            EdgeError: as `load`.
        """
        with self._changed:
            if name in self._tenants:
                raise InputValueError(f"there is a model {name!r} already; expected another name")
        tenant = _Tenant(name, load, keep, size_mb or 0.0)
        with self._loading_of(tenant):
            self._make_room(self._at_most(tenant.size_mb), tenant)
            session = self._loaded(tenant)
            with self._changed:
                self._tenants[name] = tenant
        try:
            self._make_room(0.0, tenant)
        except OutOfMemory:
            self.remove(name)
            raise
        return session

    def remove(self, name: str) -> None:
        """Unloads a model for good, once nobody uses it. Idempotent."""
        with self._changed:
            tenant = self._tenants.pop(name, None)
            self._successors.forget(name)
            if tenant is None:
                return
            self._changed.wait_for(lambda: tenant.users == 0)
            session, tenant.session = tenant.session, None
            self._changed.notify_all()
        if session is not None:
            session.close()

    def close(self) -> None:
        """Nothing is loaded ahead any more; waits for what is being loaded. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._foreseeing and not self._loading)

    @contextmanager
    def using(self, name: str) -> Iterator[Session]:
        """The model, loaded; it stays so within.

        Raises:
            SessionClosed: it was removed.
            OutOfMemory: there is no room for it beside those that stay.
            EdgeError: as loading it does.
        """
        tenant = self._hold(name)
        try:
            self._load_if_needed(tenant)
            assert tenant.session is not None
            self._foresee(tenant)
            yield tenant.session
        finally:
            self._let_go(tenant)

    def preload(self, name: str) -> None:
        """Loads a model beside what runs, so that the next request finds it."""

        def load() -> None:
            try:
                tenant = self._hold(name)
                try:
                    self._load_if_needed(tenant)
                finally:
                    self._let_go(tenant)
            except EdgeError as error:
                _log.warning("%s: not loaded beforehand: %s", name, error)

        threading.Thread(target=load, name=f"edge-sdk-preload-{name}", daemon=True).start()

    def _foresee(self, tenant: _Tenant) -> None:
        """Learns from this use, and begins to load what most likely follows it, while it computes. What stays loaded
        tells nothing."""
        if self.budget_mb is None or tenant.keep:
            return
        with self._changed:
            self._successors.see(tenant.name)
            likely = self._tenants.get(self._successors.likely(tenant.name) or "")
            if likely is None or likely.session is not None:
                return
            if self._closed or self._foreseeing or self._loading or self._waiting:
                return  # who has asked goes first
            shares = self._successors.shares(tenant.name)
            spared = {name for name, share in shares.items() if share >= shares[likely.name]}
            self._foreseeing = True
        ahead = (likely, frozenset(spared))
        threading.Thread(target=self._load_ahead, args=ahead, name="edge-sdk-foresee", daemon=True).start()

    def _load_ahead(self, tenant: _Tenant, spared: frozenset[str]) -> None:
        """Loads what is likely to be used next, where there is room without what is as likely or in use."""
        try:
            with self._loading_of(tenant) as needed:
                if needed and self._make_room(tenant.size_mb, tenant, spared, wait=False):
                    self._loaded(tenant)
                    with self._changed:
                        tenant.ahead += 1
                        gone = self._tenants.get(tenant.name) is not tenant
                    if gone and tenant.session is not None:
                        tenant.session.close()
        except EdgeError as error:
            _log.info("%s: not loaded ahead: %s", tenant.name, error)
        finally:
            with self._changed:
                self._foreseeing = False
                self._changed.notify_all()

    def resident(self) -> dict[str, float]:
        """MiB of each that is loaded, the least recently used first."""
        with self._changed:
            loaded = [tenant for tenant in self._tenants.values() if tenant.session is not None]
            return {tenant.name: tenant.size_mb for tenant in sorted(loaded, key=lambda tenant: tenant.used)}

    def loaded(self, name: str) -> Session | None:
        """The model as it is in memory now; None where it is not. It may be closed at any moment."""
        with self._changed:
            tenant = self._tenants.get(name)
            return None if tenant is None else tenant.session

    def loads(self, name: str) -> tuple[int, int]:
        """How often a model was loaded, and how often of these before it was asked; 0 for one that was removed."""
        with self._changed:
            tenant = self._tenants.get(name)
            return (0, 0) if tenant is None else (tenant.loads, tenant.ahead)

    def follower(self, name: str) -> str:
        """What is expected after a use of a model: "b in 92 %"; "" where nothing is."""
        with self._changed:
            likely = self._successors.likely(name)
            return "" if likely is None else f"{likely} in {self._successors.shares(name)[likely]:.0%}"

    def _hold(self, name: str) -> _Tenant:
        with self._changed:
            tenant = self._tenants.get(name)
            if tenant is None:
                raise SessionClosed(f"{name}: the session is closed; load the model again")
            tenant.users += 1
            self._turn += 1
            tenant.used = self._turn
            return tenant

    def _let_go(self, tenant: _Tenant) -> None:
        with self._changed:
            tenant.users -= 1
            self._changed.notify_all()

    def _load_if_needed(self, tenant: _Tenant) -> None:
        if tenant.session is not None:
            return
        with self._changed:
            self._waiting += 1
        try:
            with self._loading_of(tenant) as needed:
                if needed:
                    self._make_room(tenant.size_mb, tenant)
                    self._loaded(tenant)
        finally:
            with self._changed:
                self._waiting -= 1

    @contextmanager
    def _loading_of(self, tenant: _Tenant) -> Iterator[bool]:
        """One loads at a time; whether it is still needed then. Who waits for a model goes on as soon as it is there:
        it counts as one who uses it, and the next one to load may wait for that."""
        with self._changed:
            self._changed.wait_for(lambda: tenant.session is not None or not self._loading)
            needed = tenant.session is None
            if needed:
                self._loading = True
        try:
            yield needed
        finally:
            with self._changed:
                if needed:
                    self._loading = False
                self._changed.notify_all()

    def _at_most(self, thought_mb: float) -> float:
        """What is only thought to be taken is no reason to refuse: at most what those that stay leave."""
        with self._changed:
            staying_mb = sum(tenant.size_mb for tenant in self._tenants.values() if tenant.keep)
        return min(thought_mb, max((self.budget_mb or 0.0) - staying_mb, 0.0))

    def _loaded(self, tenant: _Tenant) -> Session:
        """Loads it, and finds out what it takes once it has computed: what the others do meanwhile only adds to that,
        so that the least of all times counts."""
        before_mb = _private_mb()
        session = _ready(tenant)
        least_mb = LEAST_OF_ESTIMATE * (session.plan.chosen.memory_mb or tenant.size_mb)
        grown_mb = _private_mb() - before_mb
        if self.budget_mb is not None and grown_mb > least_mb and session.plan.engine not in self._engines:
            # An engine's first model brings libraries with it that stay: itself it takes what comes free without it.
            with_mb = before_mb + grown_mb
            session.close()
            grown_mb = with_mb - _private_mb()
            session = _ready(tenant)
        self._engines.add(session.plan.engine)
        size_mb = max(grown_mb, least_mb)
        with self._changed:
            tenant.session = session
            tenant.size_mb = min(size_mb, tenant.size_mb) if tenant.loads else size_mb
            tenant.loads += 1
        return session

    def _make_room(
        self, wanted_mb: float, tenant: _Tenant, spared: frozenset[str] = frozenset(), wait: bool = True
    ) -> bool:
        """Unloads others until so much more fits; waits for those that are in use. Whether there is room then: always,
        where it waits.

        Args:
            wanted_mb: where the tenant is not loaded.
            tenant: that needs room.
            spared: names of those that are not unloaded for it.
            wait: whether to wait for what is in use.

        Raises:
            OutOfMemory: those that stay leave too little.
        """
        if self.budget_mb is None:
            return True
        while True:
            with self._changed:
                others = [other for other in self._tenants.values() if other is not tenant and other.session]
                own_mb = tenant.size_mb if tenant.session is not None else wanted_mb
                total_mb = own_mb + sum(other.size_mb for other in others)
                if total_mb <= self.budget_mb:
                    return True
                staying = {other.name: other.size_mb for other in others if other.keep}
                if own_mb + sum(staying.values()) > self.budget_mb:
                    raise OutOfMemory(
                        f"{tenant.name}: takes {own_mb:.0f} MB; {sum(staying.values()):.0f} MB stay for"
                        f" {', '.join(staying) or 'no other'}, and max_memory_mb is {self.budget_mb:g}"
                    )
                free = [o for o in others if not o.keep and not o.users and o.name not in spared]
                if not free:
                    if not wait:
                        return False
                    self._changed.wait()
                    continue
                victim = min(free, key=lambda other: other.used)
                session, victim.session = victim.session, None
            assert session is not None
            _log.info("%s makes room for %s", victim.name, tenant.name)
            session.close()
            _give_back()


def _ready(tenant: _Tenant) -> Session:
    """Loaded, and run once: weights that are mapped come with the first request, and activations stay from it on."""
    session = tenant.load()
    try:
        session.warm_up()
    except EdgeError as error:
        _log.info("%s: made-up inputs do not run: %s", tenant.name, error)
    return session


def _private_mb() -> float:
    """What this process takes alone, without what was freed."""
    _give_back()
    return memory_of().private_mb or 0.0


def _give_back() -> None:
    """What the allocator holds of freed memory goes back to the system, where it can be told to."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
