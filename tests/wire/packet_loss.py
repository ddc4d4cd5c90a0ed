"""Real packet loss without privileges: a filter on a socket drops packets before TCP sees them, as a bad link would.

The sender's kernel finds out by itself and sends again: timers, probes and backoff are the real ones. Needs no network
emulation in the kernel and no network of its own. Sockets that a listening one accepts inherit its filter.
"""

from __future__ import annotations

import ctypes
import socket
import struct

__all__ = ["drop_packets", "retransmitted"]

_SO_ATTACH_FILTER = 26
_LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)  # BPF_LD|BPF_W|BPF_ABS at SKF_AD_OFF + SKF_AD_RANDOM (linux/filter.h)
_JUMP_IF_AT_LEAST, _RETURN = 0x35, 0x06
_TOTAL_RETRANSMITS_AT = 100
"""Of `tcpi_total_retrans` in `struct tcp_info` (linux/tcp.h)."""


def drop_packets(sock: socket.socket, share: float) -> None:
    """From now on this share of the packets that come for `sock` are lost, acknowledgements and openings among them."""
    kept_from = min(int(share * 2**32), 2**32 - 1)
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            _LOAD_RANDOM,
            (_JUMP_IF_AT_LEAST, 0, 1, kept_from),
            (_RETURN, 0, 0, 0xFFFFFFFF),
            (_RETURN, 0, 0, 0),
        )
    )
    held = ctypes.create_string_buffer(program)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 4, ctypes.addressof(held)))


def retransmitted(sock: socket.socket) -> int:
    """How many packets the kernel had to send again on this connection."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    (count,) = struct.unpack_from("=I", info, _TOTAL_RETRANSMITS_AT)
    return int(count)
