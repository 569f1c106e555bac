"""One kept-alive connection to an HTTP server: the least that can speak HTTP/1.1."""

from __future__ import annotations

import socket


class Connection:
    """What is measured is the server, not the client."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def exchange(self, request: bytes) -> bytes:
        """Send a whole request, return the whole response."""
        self._socket.sendall(request)
        received = self._some()
        while b"\r\n\r\n" not in received:
            received += self._some()
        chunks = [received]
        if b"transfer-encoding: chunked" in received[:2000].lower():
            # The text of JSON has no line breaks of its own.
            while not chunks[-1].endswith(b"0\r\n\r\n"):
                chunks.append(self._some())
            return b"".join(chunks)
        missing = missing_bytes(received)
        while missing > 0:
            chunks.append(self._some())
            missing -= len(chunks[-1])
        return b"".join(chunks)

    def _some(self) -> bytes:
        data = self._socket.recv(262144)
        if not data:
            raise ConnectionError("the server has closed the connection")
        return data


def missing_bytes(received: bytes) -> int:
    """How much of a response is still to come, once its head is there."""
    head, _, body = received.partition(b"\r\n\r\n")
    _, found, rest = head.lower().partition(b"content-length:")
    return (int(rest.partition(b"\r\n")[0]) if found else 0) - len(body)


def check_committed(response: bytes) -> None:
    """Raise unless a batch was committed."""
    if b"batch-outcome: committed" not in response[:2000].lower():
        raise RuntimeError(response[:2000].decode(errors="replace"))


def check_ok(response: bytes) -> None:
    """Raise unless the status is 2xx."""
    if not response.startswith(b"HTTP/1.1 20"):
        raise RuntimeError(response[:2000].decode(errors="replace"))
