"""A link as it is now, or as somebody says it is: what a request with so many bytes takes on it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DOWN_HEAD_BYTES", "PACKET_BYTES", "UP_HEAD_BYTES", "LinkEstimate", "resending_ms"]

UP_HEAD_BYTES, DOWN_HEAD_BYTES = 700, 600
"""What HTTP and JSON add to a request and to its answer, until real ones tell."""
PACKET_BYTES = 1460
_MOST_ROUNDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEstimate:
    """One link.

    Attributes:
        rtt_ms: what a request takes apart from its bytes, and from queueing and computing where these are told.
        up_mbps: megabits a second from the device; None where nothing tells.
        down_mbps: to the device; None where nothing tells, which is taken to be as fast as up.
        loss_share: of packets, 0 to 1; 0 where nothing tells.
        failure_share: of the latest requests, those that got no answer, 0 to 1.
        rtt_spread_ms: half the distance between the 16th and the 84th percentile (one standard deviation, if normal).
        up_spread_mbps, down_spread_mbps: the same of the bandwidths.
        requests: how many were measured in all.
        mean_bytes: mean size of the tensors of these requests, both ways; what `rtt_ms` holds where bandwidth is None.
        up_head_bytes, down_head_bytes: what travels beside the tensors.
        measured: whether it comes from traffic. Then what loss costs is in the other figures already.
    """

    rtt_ms: float
    up_mbps: float | None = None
    down_mbps: float | None = None
    loss_share: float = 0.0
    failure_share: float = 0.0
    rtt_spread_ms: float = 0.0
    up_spread_mbps: float = 0.0
    down_spread_mbps: float = 0.0
    requests: int = 0
    mean_bytes: float = 0.0
    up_head_bytes: int = UP_HEAD_BYTES
    down_head_bytes: int = DOWN_HEAD_BYTES
    measured: bool = True

    def transfer_ms(self, up_bytes: int, down_bytes: int = 0) -> float:
        """Predicted time of a request, without queueing and computing.

        Args:
            up_bytes: of the tensors sent, as they travel.
            down_bytes: of the tensors received.
        """
        up_mbps, down_mbps = self.up_mbps or self.down_mbps, self.down_mbps or self.up_mbps
        if up_mbps is None or down_mbps is None:
            # Nothing is known about more bytes than were ever sent, so these are taken to cost in proportion.
            return self.rtt_ms * max(1.0, (up_bytes + down_bytes) / max(self.mean_bytes, 1.0))
        up_bytes, down_bytes = up_bytes + self.up_head_bytes, down_bytes + self.down_head_bytes
        transfer_ms = self.rtt_ms + up_bytes * 8e-3 / up_mbps + down_bytes * 8e-3 / down_mbps
        if self.measured or not self.loss_share:
            return transfer_ms
        packets = -(-up_bytes // PACKET_BYTES), -(-down_bytes // PACKET_BYTES)
        return transfer_ms + sum(resending_ms(count, self.loss_share, self.rtt_ms) for count in packets)


def resending_ms(packets: int, loss_share: float, rtt_ms: float) -> float:
    """What lost packets cost a transfer on average: those lost are sent again a round trip later, all at once.

    The mean number of rounds until all of n packets are through is the sum over k of 1 - (1 - p**k)**n.
    """
    rounds = 0.0
    for k in range(1, _MOST_ROUNDS):
        again = 1.0 - (1.0 - loss_share**k) ** packets
        rounds += again
        if again < 1e-6:
            break
    return rounds * rtt_ms
