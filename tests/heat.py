"""Devices that get warm, drawn at random: for tests of what governs them."""

from __future__ import annotations

from hypothesis import strategies as st

from edge_sdk.device.simulated_heat import Heat

__all__ = ["heats"]


@st.composite
def heats(draw: st.DrawFn, warmest_ambient_c: float) -> Heat:
    """A chip in a case, from a bare board to one that takes a quarter of an hour to warm up."""
    return Heat(
        ambient_c=draw(st.floats(10, warmest_ambient_c)),
        chip_c_per_w=draw(st.floats(1.5, 6)),
        case_c_per_w=draw(st.floats(2, 12)),
        chip_s=draw(st.floats(2, 12)),
        case_s=draw(st.floats(60, 900)),
        idle_watts=draw(st.floats(0.2, 1.0)),
        trip_c=draw(st.floats(74, 90)),
        rounded_c=draw(st.sampled_from([0.1, 0.5, 1.0])),
    )
