"""What a radio draws while it sends, receives and waits for an answer.

Source: Huang et al., "A Close Examination of Performance and Power Characteristics of 4G LTE Networks", MobiSys 2012,
table 4: power = up · Mbit/s sent + down · Mbit/s received + base, measured on phones. A cable is taken to draw what the
network chip of a small board does, an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.errors import InputError

__all__ = ["RADIOS", "Radio", "radio_named"]


@dataclass(frozen=True, slots=True)
class Radio:
    """Power of one kind of link.

    Attributes:
        up_mw_per_mbps, down_mw_per_mbps: for each megabit a second.
        base_mw: while it is on for a request.
    """

    up_mw_per_mbps: float
    down_mw_per_mbps: float
    base_mw: float

    def energy_mj(self, up_bytes: float, down_bytes: float, lasts_ms: float) -> float:
        """Of one request, in millijoules: mW for each Mbit/s is nJ a bit, whatever the rate.

        Args:
            up_bytes, down_bytes: that travel.
            lasts_ms: from the first byte sent to the last received.
        """
        travelling = (up_bytes * self.up_mw_per_mbps + down_bytes * self.down_mw_per_mbps) * 8e-6
        return travelling + self.base_mw * lasts_ms * 1e-3


RADIOS = {
    "wifi": Radio(283.17, 137.01, 132.86),
    "lte": Radio(438.39, 51.97, 1288.04),
    "3g": Radio(868.98, 122.12, 817.88),
    "wired": Radio(0.0, 0.0, 100.0),
}


def radio_named(name: str) -> Radio:
    """One of `RADIOS`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in RADIOS:
        raise InputError(f"radio {name!r} is not known; expected one of {', '.join(RADIOS)}")
    return RADIOS[name]
