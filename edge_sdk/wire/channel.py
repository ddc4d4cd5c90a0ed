"""Asking one endpoint: its breaker decides, tries follow each other as `Retry` tells, the deadline ends them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from edge_sdk.breaker import Breaker
from edge_sdk.errors import DeadlineExceeded, EndpointResting, EndpointUnreachable
from edge_sdk.wire.blame import blame
from edge_sdk.wire.connections import Connection, Connections
from edge_sdk.wire.deadline import NO_DEADLINE, Deadline
from edge_sdk.wire.exchange import Unanswered
from edge_sdk.wire.link import Link
from edge_sdk.wire.overdue import Transfer
from edge_sdk.wire.retry import Retry, retried

__all__ = ["Ask", "Channel", "Setup"]

Result = TypeVar("Result")
Ask = Callable[[Connection, Deadline], Result]
"""Sends a request on a connection and reads its answer before a deadline; raises `EndpointError`."""


class _GivenUp(EndpointUnreachable):
    """The request was given up before it was sent."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What has to be done once on a connection before it carries a request.

    Attributes:
        done: whether it was.
        run: does it.
    """

    done: Callable[[Connection], bool]
    run: Ask[None]


class Channel:
    """The way to one endpoint. Any number of threads may ask.

    Args:
        name: what messages call the endpoint.
        connections: to it.
        link: learns from how requests go.
        breaker: learns too, and decides.
        retry: tries and pauses.
        timeout_s: how long a request without a nearer deadline may take.
        setup_timeout_s: how long connecting, and then setting up, may go on for a request that was given up.
    """

    def __init__(
        self,
        name: str,
        connections: Connections,
        link: Link,
        breaker: Breaker,
        retry: Retry,
        *,
        timeout_s: float,
        setup_timeout_s: float,
    ) -> None:
        self._name = name
        self._connections = connections
        self._link, self._breaker = link, breaker
        self._retry, self._timeout_s, self._setup_timeout_s = retry, timeout_s, setup_timeout_s

    def ask(
        self,
        ask: Ask[Result],
        deadline: Deadline,
        transfer: Transfer | None = None,
        sent_bytes: int = 0,
        setup: Setup | None = None,
    ) -> Result:
        """Asks until there is an answer, or no use in trying again.

        Args:
            ask: one try.
            deadline: of all tries together.
            transfer: ends them from another thread. Then nobody waits for this one, and it goes on to connect and set
                up for the next request: otherwise a way that is slow to set up would be given up each time, for ever.
            sent_bytes: size of the request, for the estimate of the link.
            setup: of new connections.

        Raises:
            EndpointResting: the breaker is open.
            DeadlineExceeded: the deadline passed.
            EndpointError: as the last try raised it.
        """
        ticket = self._breaker.admit()
        if ticket is None:
            left_s = self._breaker.rest_left_s()
            raise EndpointResting(f"{self._name}: failed too often and is not asked for another {left_s:.1f} s")
        began_s = time.monotonic()
        left = deadline.within(self._timeout_s)
        until = left if transfer is None else NO_DEADLINE.within(self._setup_timeout_s)
        carried = transfer or Transfer()
        try:
            if left.passed():
                raise DeadlineExceeded(f"{self._name}: the deadline had passed before the request was sent")
            answer = retried(
                lambda: self._try(ask, left, carried, setup, until), self._retry, left, carried.given_up.wait
            )
        except _GivenUp:
            self._breaker.abandoned(ticket)
            raise
        except BaseException as error:
            spent_ms = (time.monotonic() - began_s) * 1e3
            given_up = carried.given_up.is_set() and carried.begun and not carried.late
            blame(self._link, self._breaker, ticket, error, spent_ms, sent_bytes, given_up)
            raise
        self._breaker.succeeded(ticket)
        return answer

    def _try(
        self, ask: Ask[Result], left: Deadline, transfer: Transfer, setup: Setup | None, until: Deadline
    ) -> Result:
        """One try. A kept connection that the endpoint closed meanwhile costs none: a new one is taken at once."""
        connection = self._connection(left, until)
        kept = connection.used > 0
        try:
            return self._asked(connection, ask, left, transfer, setup, until)
        except Unanswered:
            if not kept or transfer.given_up.is_set():
                raise
        return self._asked(self._connection(left, until, fresh=True), ask, left, transfer, setup, until)

    def _connection(self, left: Deadline, until: Deadline, fresh: bool = False) -> Connection:
        try:
            return self._connections.take(until, fresh)
        except DeadlineExceeded:
            if until is left:
                raise
            # It was not this request's own deadline: nobody waited for it any more.
            raise EndpointUnreachable(f"{self._name}: cannot connect: timed out") from None

    def _asked(
        self,
        connection: Connection,
        ask: Ask[Result],
        left: Deadline,
        transfer: Transfer,
        setup: Setup | None,
        until: Deadline,
    ) -> Result:
        connection.reusable = True
        if setup is not None and not setup.done(connection):
            self._run(connection, setup.run, until, Transfer())
        if transfer.given_up.is_set() or left.passed():
            self._put_back(connection)
            if transfer.given_up.is_set():
                raise _GivenUp(f"{self._name}: the request was given up before it was sent")
            raise DeadlineExceeded(f"{self._name}: the deadline had passed before the request was sent")
        answer = self._run(connection, ask, left, transfer)
        self._put_back(connection)
        return answer

    def _run(self, connection: Connection, ask: Ask[Result], deadline: Deadline, transfer: Transfer) -> Result:
        """Runs one exchange; if it fails the connection is put back or closed, as its state tells."""
        transfer.hold(connection.sock, deadline)
        try:
            answer = ask(connection, deadline)
        except BaseException as error:
            connection.reusable = transfer.let_go() and connection.reusable
            self._put_back(connection)
            if isinstance(error, EndpointUnreachable) and transfer.late:
                raise DeadlineExceeded(f"{self._name}: no answer within the deadline") from None
            raise
        connection.reusable = transfer.let_go() and connection.reusable
        return answer

    def _put_back(self, connection: Connection) -> None:
        if connection.reusable:
            connection.used += 1
            self._connections.give(connection)
        else:
            connection.close()
