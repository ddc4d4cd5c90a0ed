"""Learning a link where no requests teach it: at the start of a session, and now and then while it is idle."""

from __future__ import annotations

import time

from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.endpoint import Endpoint

__all__ = ["probe_afresh", "probe_idle"]

FIRST_BYTES, MOST_BYTES = 2 << 10, 128 << 10
TELLING_S = 0.08
"""A transfer that takes as long tells the bandwidth well enough; larger ones would only cost."""
IDLE_SHARE_S = 0.05
"""A probe of an idle link takes about as long."""


def probe_afresh(endpoint: Endpoint, deadline: Deadline) -> None:
    """A few exchanges of growing size, until one takes long enough to tell.

    Raises:
        DeadlineExceeded, EndpointError: the endpoint does not answer.
    """
    endpoint.probe(deadline=deadline)
    size_bytes = FIRST_BYTES
    while size_bytes <= MOST_BYTES:
        began_s = time.monotonic()
        if not endpoint.probe(size_bytes, size_bytes // 4, deadline=deadline):
            return  # no endpoint of ours: requests will tell
        if time.monotonic() - began_s > TELLING_S:
            break
        size_bytes *= 4
    endpoint.probe(deadline=deadline)


def probe_idle(endpoint: Endpoint, deadline: Deadline) -> None:
    """One exchange that shows whether a link is still what it was.

    Raises:
        DeadlineExceeded, EndpointError: the endpoint does not answer.
    """
    estimate = endpoint.link.estimate()
    mbps = estimate.up_mbps if estimate is not None and estimate.up_mbps is not None else 0.0
    size_bytes = round(min(max(mbps * 1e6 / 8 * IDLE_SHARE_S, FIRST_BYTES), MOST_BYTES / 4))
    endpoint.probe(size_bytes, size_bytes // 4, deadline=deadline)
