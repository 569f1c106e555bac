"""Round trips of drivers that are written in C, counted between them and the server."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Trips:
    """Counts how often a client waits for a server: between two turns there is an answer."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._target = address
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        with source, suppress(OSError):
            while data := source.recv(65536):
                self.count += is_client
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
