"""What the kernel knows of a connection: packets sent and lost, and bytes that have come and were not read yet.

Source: `struct tcp_info` (linux/tcp.h): `tcpi_total_retrans` at 100, `tcpi_segs_out` at 136, since Linux 4.2.
"""

from __future__ import annotations

import socket
import struct
import sys

__all__ = ["packets", "unread_bytes"]

_RESENT_AT, _SENT_AT = 100, 136


def packets(sock: socket.socket) -> tuple[int, int]:
    """Packets sent so far and, of these, sent again because they were lost; zeros where the system does not tell."""
    if sys.platform != "linux":
        return 0, 0
    try:
        # Not the method of a TLS socket: it is the same socket below.
        info = socket.socket.getsockopt(sock, socket.IPPROTO_TCP, socket.TCP_INFO, _SENT_AT + 4)
    except OSError:
        return 0, 0
    if len(info) < _SENT_AT + 4:
        return 0, 0
    (resent,), (sent,) = struct.unpack_from("=I", info, _RESENT_AT), struct.unpack_from("=I", info, _SENT_AT)
    return sent, resent


def unread_bytes(fileno: int) -> int:
    """Bytes that have come on the socket `fileno` and wait to be read; 0 where the system does not tell."""
    try:
        import fcntl
        import termios

        return int.from_bytes(fcntl.ioctl(fileno, termios.FIONREAD, bytes(4)), sys.byteorder)
    except (ImportError, OSError):
        return 0
