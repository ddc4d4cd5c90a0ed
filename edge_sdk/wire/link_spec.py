"""A link as a person states it: "10mbit,40ms,1%"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edge_sdk.errors import InputError
from edge_sdk.wire.link_estimate import LinkEstimate

__all__ = ["LinkSpec", "parse_link"]

_EXPECTED = "expected bandwidth, and if wanted round trip and lost packets, as 10mbit,40ms,1% (20mbit/5mbit: down/up)"
_RATE = re.compile(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)(?:/s)?")
_TIME = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_MBPS = {"kbit": 1e-3, "mbit": 1.0, "gbit": 1e3}
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
LEAST_MBPS, MOST_MBPS, MOST_RTT_MS = 1e-3, 1e6, 6e4


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """A stated link.

    Attributes:
        down_mbps: megabits a second to the device.
        up_mbps: from it.
        rtt_ms: round trip, there and back.
        loss_share: of packets, 0 to below 1.
    """

    down_mbps: float
    up_mbps: float
    rtt_ms: float = 0.0
    loss_share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> LinkSpec:
        """From parts with commas between, in any order: bandwidth (`10mbit`, or `20mbit/5mbit` for down/up; kbit, mbit,
        gbit), round trip (`40ms`; us, ms, s), lost packets (`1%`).

        Raises:
            InputError: a part is none of these, is there twice, or is beyond what a link can be; no bandwidth is given.
        """
        found: dict[str, tuple[float, ...]] = {}
        for part in text.lower().replace(" ", "").split(","):
            kind, values = _read(part, text)
            if kind in found:
                raise InputError(f"link {text!r}: {kind} is given twice; {_EXPECTED}")
            found[kind] = values
        if "bandwidth" not in found:
            raise InputError(f"link {text!r}: no bandwidth is given; {_EXPECTED}")
        down_mbps, up_mbps = found["bandwidth"]
        (rtt_ms,), (loss_share,) = found.get("round trip", (0.0,)), found.get("loss", (0.0,))
        return cls(down_mbps=down_mbps, up_mbps=up_mbps, rtt_ms=rtt_ms, loss_share=loss_share)

    def estimate(self) -> LinkEstimate:
        """What requests take on it. Loss costs them time: see `resending_ms`."""
        return LinkEstimate(
            rtt_ms=self.rtt_ms,
            up_mbps=self.up_mbps,
            down_mbps=self.down_mbps,
            loss_share=self.loss_share,
            measured=False,
        )

    def __str__(self) -> str:
        rate = f"{self.down_mbps:g}mbit"
        if self.up_mbps != self.down_mbps:
            rate += f"/{self.up_mbps:g}mbit"
        return f"{rate},{self.rtt_ms:g}ms" + (f",{self.loss_share * 100:g}%" if self.loss_share else "")


def parse_link(text: str) -> LinkEstimate:
    """`LinkSpec.parse(text)` as an estimate.

    Raises:
        InputError: as `LinkSpec.parse`.
    """
    return LinkSpec.parse(text).estimate()


def _read(part: str, text: str) -> tuple[str, tuple[float, ...]]:
    if not part.isascii():
        raise InputError(f"link {text!r}: {part[:40]!r} is not understood; {_EXPECTED}")
    rates = [_RATE.fullmatch(rate) for rate in re.split(r"/(?!s)", part)]
    if len(rates) <= 2 and all(rates):
        mbps = [float(rate[1]) * _MBPS[rate[2]] for rate in rates if rate is not None]
        if not all(LEAST_MBPS <= one <= MOST_MBPS for one in mbps):
            raise InputError(f"link {text!r}: bandwidth {part[:40]!r} is beyond 1kbit to 1000gbit")
        return "bandwidth", (mbps[0], mbps[-1])
    if (time := _TIME.fullmatch(part)) is not None:
        rtt_ms = float(time[1]) * _MS[time[2]]
        if not rtt_ms <= MOST_RTT_MS:
            raise InputError(f"link {text!r}: the round trip {part[:40]!r} is longer than 60s")
        return "round trip", (rtt_ms,)
    if (share := _SHARE.fullmatch(part)) is not None:
        loss_share = float(share[1]) / 100
        if not (math.isfinite(loss_share) and loss_share < 1):
            raise InputError(f"link {text!r}: lost packets {part[:40]!r}; expected less than 100%")
        return "loss", (loss_share,)
    raise InputError(f"link {text!r}: {part[:40]!r} is not understood; {_EXPECTED}")
