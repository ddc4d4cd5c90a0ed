"""The proxy's packet loss is real: kernels send again, and everything arrives."""

from __future__ import annotations

import socket
import threading

from tests.wire.fault_proxy import FaultProxy
from tests.wire.packet_loss import retransmitted


def test_packets_are_lost_and_sent_again_and_nothing_else_changes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as echo:

        def serve() -> None:
            connection, _ = echo.accept()
            with connection:
                while piece := connection.recv(4096):
                    connection.sendall(piece)

        threading.Thread(target=serve, daemon=True).start()
        proxy = FaultProxy(echo.getsockname()[1])
        proxy.drop_packets(0.2)
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            for number in range(40):
                sent = b"%06d" % number
                client.sendall(sent)
                assert client.recv(6, socket.MSG_WAITALL) == sent
            assert retransmitted(client) > 0
        proxy.close()
