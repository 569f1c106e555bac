"""
Counting: drivers' connections that stop reading an answer once it is too long.

The drivers keep a row in memory until they have all of it, however long it is. These connections
count the bytes as they arrive from the network, and are closed where there are too many.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from atomicbatch.server.arrays import TooMuchError

if TYPE_CHECKING:
    import psycopg

# Where Linux's struct tcp_info has tcpi_bytes_received, and how long it is.
_RECEIVED = slice(128, 136)
_TCP_INFO = getattr(socket, "TCP_INFO", None)


def postgresql() -> type[psycopg.Connection[Any]]:
    """
    psycopg's connection, counting.

    libpq reads by itself, so the kernel is asked, at every second piece of an answer. It only
    knows for TCP, and only Linux's does: elsewhere a single row may be of any length.
    """
    import psycopg

    class Connection(psycopg.Connection[Any]):
        _most: int | None = None

        @contextmanager
        def receiving(self, most_bytes: int) -> Iterator[None]:
            """Close the connection and raise TooMuchError where a statement's answer is longer."""
            self._most = most_bytes
            self._first: int | None = None
            try:
                yield
            finally:
                self._most = None

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            if self._most is not None:
                gen = self._bounded(gen)
            return super().wait(gen, *args, **kwargs)

        def _bounded(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
            try:
                wanted = next(steps)
                # A short answer is there at once.
                wanted = steps.send((yield wanted))
                wanted = steps.send((yield wanted))
                while True:
                    ready = yield wanted
                    if self._is_too_much():
                        steps.close()
                        self.close()
                        raise TooMuchError
                    wanted = steps.send(ready)
            except StopIteration as end:
                return end.value

        def _is_too_much(self) -> bool:
            received = _bytes_received(self.pgconn.socket)
            if received is None or self._most is None:
                return False
            if self._first is None:
                self._first = received
            return received - self._first > self._most

    return Connection


def _bytes_received(descriptor: int) -> int | None:
    if _TCP_INFO is None:
        return None
    own = socket.socket(fileno=descriptor)
    try:
        return int.from_bytes(
            own.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)[_RECEIVED], "little"
        )
    except OSError:
        return None
    finally:
        own.detach()


def mysql() -> Callable[..., Any]:
    """PyMySQL's connection, counting."""
    import pymysql

    base: Any = pymysql.Connection  # its types leave out what is overridden here

    class Connection(base):  # type: ignore[misc]
        _left: int | None = None

        @contextmanager
        def receiving(self, most_bytes: int) -> Iterator[None]:
            """Close the connection and raise TooMuchError where a statement's answer is longer."""
            self._left = most_bytes
            try:
                yield
            finally:
                self._left = None

        def _read_bytes(self, num_bytes: int) -> Any:
            if self._left is not None:
                self._left -= num_bytes
                if self._left < 0:
                    self._force_close()
                    raise TooMuchError
            return super()._read_bytes(num_bytes)

    return Connection
