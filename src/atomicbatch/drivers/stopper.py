"""
Stopper: stops a connection's statement, or cuts the connection off, from any thread.

Neither needs the event loop, or the thread that waits for the database. How a statement is stopped:

- SQLite: ``interrupt()``.
- PostgreSQL: a CancelRequest, by libpq (psycopg) or over a socket of our own (asyncpg);
  ``pg_cancel_backend()`` over another connection (psycopg2, and psycopg with a libpq before 17).
- MySQL, MariaDB: ``KILL QUERY`` over another connection.

Cutting off is the same for all that have a socket: ``shutdown``. Whoever reads from it or writes to
it then gets an error at once, however silent the server is.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context
from typing import Any

from atomicbatch.drivers import aiosqlite, sqlite3
from atomicbatch.drivers.driver import Driver, Elsewhere, Interrupt

logger = logging.getLogger("atomicbatch")
# How long a request to stop may take; the thread that makes it is of no use meanwhile.
_REQUEST_SECONDS = 5.0
# Not each way of stopping a statement can be given a time limit. Threads that are stuck in one end
# when the network gives up; more than so many are not started.
_MAX_HELPERS = 32
_helpers = threading.BoundedSemaphore(_MAX_HELPERS)


def aside(act: Callable[[], object], seconds: float = 0.0) -> bool | None:
    """
    Do something in a thread of its own.

    Args:
        act: What to do. If it raises, that is logged and nothing else.
        seconds: Wait for it for at most so long.

    Returns:
        True: it is done, or has failed. False: it goes on. None: too many such threads are
        running, and nothing was done.
    """
    if not _helpers.acquire(blocking=False):
        return None
    done = threading.Event()

    def run() -> None:
        try:
            act()
        except Exception:
            logger.debug("a connection could not be handled from outside", exc_info=True)
        finally:
            _helpers.release()
            done.set()

    thread = threading.Thread(target=run, name="atomicbatch-stopper", daemon=True)
    try:
        # It is nobody's call: what it does must not be taken for a part of a batch.
        Context().run(thread.start)
    except BaseException:
        _helpers.release()
        raise
    return seconds > 0 and done.wait(seconds)


def own_socket(driver: Driver, connection: Any) -> socket.socket | None:
    """
    Make a socket of ours on a driver's connection; None where there is none.

    The number of the driver's own may be reused as soon as the driver closes it. Ours must be
    closed by us, and closing it does not close the connection.
    """
    try:
        number = driver.socket_number(connection)
        return None if number is None or number < 0 else socket.socket(fileno=socket.dup(number))
    except Exception:
        logger.debug("the socket of a connection was not found", exc_info=True)
        return None


class Stopper:
    """
    What it takes to stop or cut off one connection, made while nobody uses the connection.

    Its methods may be called in any thread, also after the connection is gone.

    Args:
        driver: Of the connection.
        connection: The driver's own.
        elsewhere: Runs a statement on another connection, which MySQL's drivers need.
        around: What to ask the server inside of: it may take a connection, which is nobody's.
    """

    def __init__(
        self,
        driver: Driver,
        connection: Any,
        elsewhere: Elsewhere | None = None,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._has_server = driver is not sqlite3 and driver is not aiosqlite
        self._lock = threading.Lock()
        self._severed = False
        self._is_asking = False
        self._around = around
        self._socket = own_socket(driver, connection)
        self._interrupt = _interrupter(driver, connection, elsewhere)

    @property
    def is_severed(self) -> bool:
        """It was cut off: the connection is of no more use, and must not go back to its pool."""
        return self._severed

    def interrupt(self, seconds: float = 1.0) -> bool:
        """
        Stop the statement that is running, if one is.

        A request to a server may arrive late and stop the connection's next statement; so the
        connection must not be given back to its pool afterwards. SQLite's is not such a request.

        Args:
            seconds: Wait so long for the server to have taken note; 0: return at once.

        Returns:
            The request is through, or has failed. The statement may run on even so.
        """
        act = self._interrupt
        if act is None:
            return True
        if not self._has_server:
            act(0)
            return True
        if self._is_asking:
            return False  # once at a time; whoever is silent is not asked again and again
        self._is_asking = True

        def request() -> None:
            try:
                with self._around():
                    act(_REQUEST_SECONDS)
            finally:
                self._is_asking = False

        if (done := aside(request, seconds)) is None:
            self._is_asking = False
        return bool(done)

    def sever(self) -> None:
        """
        Cut the connection off; whoever waits for it gets an error at once. Never blocks.

        The server rolls back when it notices: at once if it waits for a statement, else after the
        statement that is running. SQLite has no server: its statement is interrupted, and whoever
        severs has to roll back.
        """
        self._severed = True
        if not self._has_server:
            self.interrupt()
            return
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):  # the other side was faster
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Forget the connection, which goes back to its pool, or is closed."""
        with self._lock:
            own, self._socket = self._socket, None
        if own is not None:
            own.close()


def _interrupter(driver: Driver, connection: Any, elsewhere: Elsewhere | None) -> Interrupt | None:
    try:
        return driver.interrupter(connection, elsewhere)
    except Exception:
        logger.debug("the server's name of a connection was not found", exc_info=True)
        return None
