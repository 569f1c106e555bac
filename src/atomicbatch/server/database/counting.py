"""
Counting: drivers' connections that stop reading an answer once it is too long.

A driver keeps a row in memory until it has all of it, however long it is. These connections count
the bytes as they arrive from the network, and close themselves when there are too many.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from atomicbatch.server.database.bounds import TooMuchError

if TYPE_CHECKING:
    import psycopg

WORN_BYTES = 4 * 1024 * 1024
"""A connection that has received a longer answer is not kept, for the memory it holds."""


class Leaves(Protocol):
    """What may be in pipeline mode."""

    @property
    def is_on(self) -> bool:
        """Whether it is."""

    def leave(self) -> None:
        """Read all answers, and leave pipeline mode."""


# Linux's struct tcp_info has tcpi_bytes_received, 8 bytes, at 128.
_TCP_INFO = getattr(socket, "TCP_INFO", None)


def postgresql() -> type[psycopg.Connection[Any]]:
    """
    psycopg's connection, counting.

    libpq reads by itself, so the kernel is asked, after each piece of an answer but the first. Only
    Linux counts, and only on TCP: elsewhere a single row may be of any length.
    """
    import psycopg

    class Connection(psycopg.Connection[Any]):
        _most: int | None = None
        _own: socket.socket | None = None
        flight: Leaves | None = None
        """What is on its way in libpq's pipeline; None: no pipeline is used."""
        is_worn = False
        """libpq's buffer may have grown to the length of a long row, and never shrinks."""

        @contextmanager
        def receiving(self, most_bytes: int) -> Iterator[None]:
            """Close the connection and raise TooMuchError if a statement's answer is longer."""
            before = _bytes_received(self._own_socket())
            if before is not None:
                self._most = before + most_bytes
            try:
                yield
            finally:
                self._most = None
                if self._own is not None and before is not None:
                    after = _bytes_received(self._own)
                    self.is_worn = self.is_worn or (after or 0) - before > WORN_BYTES

        def bytes_read(self) -> int | None:
            """How much libpq has read so far; None: nobody knows."""
            own = self._own_socket()
            count = _bytes_received(own)
            return None if count is None else count - _bytes_unread(own)

        def _own_socket(self) -> socket.socket:
            if self._own is None:
                self._own = socket.socket(fileno=os.dup(self.pgconn.socket))
            return self._own

        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            if self.flight is not None and self.flight.is_on:
                self.flight.leave()  # psycopg's own way is shut in pipeline mode
            if self._most is not None:
                gen = self._bounded(gen)
            return super().wait(gen, *args, **kwargs)

        def _bounded(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
            try:
                wanted = next(steps)
                # A short answer is there at once.
                wanted = steps.send((yield wanted))
                while True:
                    ready = yield wanted
                    if self._own is not None and self._most is not None:
                        received = _bytes_received(self._own)
                        if received is not None and received > self._most:
                            steps.close()
                            self.close()
                            raise TooMuchError
                    wanted = steps.send(ready)
            except StopIteration as end:
                return end.value

        def close(self) -> None:
            own, self._own = self._own, None
            if own is not None:
                own.close()
            super().close()

    return Connection


def _bytes_unread(own: socket.socket) -> int:
    """What has been received and not been read; asked on Linux only."""
    import fcntl
    import termios

    count = bytearray(4)
    fcntl.ioctl(own, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


def _bytes_received(own: socket.socket) -> int | None:
    if _TCP_INFO is None:
        return None
    try:
        return int.from_bytes(
            own.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 136)[128:], sys.byteorder
        )
    except OSError:
        return None


def mysql() -> Callable[..., Any]:
    """PyMySQL's connection, counting."""
    import pymysql

    base: Any = pymysql.Connection  # its types leave out what is overridden here

    class Connection(base):  # type: ignore[misc]
        _left: int | None = None

        @contextmanager
        def receiving(self, most_bytes: int) -> Iterator[None]:
            """Close the connection and raise TooMuchError if a statement's answer is longer."""
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

        def _force_close(self) -> None:
            # Else the driver tries to read the rest of an answer, when the cursor is thrown away.
            if (result := getattr(self, "_result", None)) is not None:
                result.unbuffered_active = False
            super()._force_close()

    return Connection
