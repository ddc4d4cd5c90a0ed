"""Asking one endpoint: its breaker decides, tries follow each other as `Retry` tells, the deadline ends them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from edge_sdk.errors import DeadlineExceeded, EndpointResting, EndpointUnreachable
from edge_sdk.wire.blame import blame
from edge_sdk.wire.breaker import Breaker
from edge_sdk.wire.connections import Connection, Connections
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.exchange import Unanswered
from edge_sdk.wire.link import Link
from edge_sdk.wire.overdue import Transfer
from edge_sdk.wire.retry import Retry, retried

__all__ = ["Ask", "Channel"]

Result = TypeVar("Result")
Ask = Callable[[Connection, Deadline], Result]
"""Sends a request on a connection and reads its answer before a deadline; raises `EndpointError`."""


class Channel:
    """The way to one endpoint. Any number of threads may ask.

    Args:
        name: what messages call the endpoint.
        connections: to it.
        link: learns from how requests go.
        breaker: learns too, and decides.
        retry: tries and pauses.
        timeout_s: how long a request without a nearer deadline may take.
    """

    def __init__(
        self, name: str, connections: Connections, link: Link, breaker: Breaker, retry: Retry, timeout_s: float
    ) -> None:
        self._name = name
        self._connections = connections
        self._link, self._breaker = link, breaker
        self._retry, self._timeout_s = retry, timeout_s

    def ask(self, ask: Ask[Result], deadline: Deadline, transfer: Transfer, sent_bytes: int = 0) -> Result:
        """Asks until there is an answer, or no use in trying again.

        Args:
            ask: one try.
            deadline: of all tries together.
            transfer: ends them from another thread.
            sent_bytes: size of the request, for the estimate of the link.

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
        try:
            if left.passed():
                raise DeadlineExceeded(f"{self._name}: the deadline had passed before the request was sent")
            answer = retried(lambda: self._try(ask, left, transfer), self._retry, left, transfer.given_up.wait)
        except BaseException as error:
            spent_ms = (time.monotonic() - began_s) * 1e3
            given_up = transfer.given_up.is_set() and not transfer.late
            blame(self._link, self._breaker, ticket, error, spent_ms, sent_bytes, given_up)
            raise
        self._breaker.succeeded(ticket)
        return answer

    def _try(self, ask: Ask[Result], deadline: Deadline, transfer: Transfer) -> Result:
        """One try. A kept connection that the endpoint closed meanwhile costs none: a new one is taken at once."""
        connection = self._connections.take(deadline)
        kept = connection.used > 0
        try:
            return self._on(connection, ask, deadline, transfer)
        except Unanswered:
            if not kept or transfer.given_up.is_set():
                raise
        return self._on(self._connections.take(deadline, fresh=True), ask, deadline, transfer)

    def _on(self, connection: Connection, ask: Ask[Result], deadline: Deadline, transfer: Transfer) -> Result:
        connection.reusable = True
        transfer.hold(connection.sock, deadline)
        try:
            return ask(connection, deadline)
        except EndpointUnreachable:
            if transfer.late:
                raise DeadlineExceeded(f"{self._name}: no answer within the deadline") from None
            raise
        finally:
            if transfer.let_go() and connection.reusable:
                connection.used += 1
                self._connections.give(connection)
            else:
                connection.close()
