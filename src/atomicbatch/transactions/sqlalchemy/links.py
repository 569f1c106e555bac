"""
Links: a driver's connection as any thread can handle it: stop its statement, or cut it off.

Neither needs the event loop, SQLAlchemy's greenlets or the thread that waits for the database. How
a statement is stopped:

- SQLite: ``interrupt()``.
- PostgreSQL: a CancelRequest, by libpq (psycopg) or over a socket of our own (asyncpg);
  ``pg_cancel_backend()`` over another connection (psycopg2, and psycopg with a libpq before 17).
- MySQL, MariaDB: ``KILL QUERY`` over another connection, made as the engine makes its own.

Cutting off is the same for all that have a socket: ``shutdown``, after which whoever reads from it
or writes to it gets an error at once, however silent the server is.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import selectors
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from contextvars import Context
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

logger = logging.getLogger("atomicbatch")
# Not each way of stopping a statement can be given a time-out. Threads that are stuck in one end
# when the network gives up; more than so many are not started.
_MAX_HELPERS = 32
_helpers = threading.BoundedSemaphore(_MAX_HELPERS)
# PostgreSQL's protocol, 55.7: message formats.
_CANCEL_REQUEST = 80877102
_SSL_REQUEST = 80877103


def aside(act: Callable[[], object], seconds: float = 0.0) -> bool | None:
    """
    Do something in a thread of its own; wait for it for at most so long.

    Returns:
        It is done, or has failed, which is logged. False: it goes on. None: there are too many.
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

    thread = threading.Thread(target=run, name="atomicbatch-link", daemon=True)
    try:
        # It is nobody's call: what it does must not be taken for a part of a batch.
        Context().run(thread.start)
    except BaseException:
        _helpers.release()
        raise
    return seconds > 0 and done.wait(seconds)


class Link:
    """
    What it takes to stop or cut off one connection, found when the connection is known to be free.

    Its methods may be called in any thread, also after the connection is gone.

    Args:
        dialect: Of the connection.
        pool: Where it comes from; another like it is made for MySQL's KILL QUERY.
        fairy: The connection.
    """

    def __init__(self, dialect: Dialect, pool: Pool, fairy: PoolProxiedConnection) -> None:
        self._dialect = dialect
        self._pool = pool
        self._driver: Any = fairy.driver_connection
        self._lock = threading.Lock()
        self._severed = False
        self._is_asking = False
        self._socket = self._own_socket()
        self._server_id = self._id_in_server()

    @property
    def is_severed(self) -> bool:
        """It was cut off: the connection is of no more use, and must not go back to its pool."""
        return self._severed

    def interrupt(self, seconds: float = 1.0) -> bool:
        """
        Stop the statement that is running, if one is.

        A request to a server may arrive late and stop the connection's next statement; so it must
        not be given back to its pool afterwards. SQLite's is not such a request.

        Args:
            seconds: Wait so long for the server to have taken note; 0: return at once.

        Returns:
            The request is through, or has failed. The statement may run on even so.
        """
        act = getattr(self, f"_interrupt_{self._dialect.driver}", None)
        if act is None:
            return True
        if self._dialect.name == "sqlite":
            # Of one that is closed, or whose thread has ended, there is nothing to stop.
            with suppress(Exception):
                act()
            return True
        if self._is_asking:
            return False  # once at a time; whoever is silent is not asked again and again
        self._is_asking = True

        def ask() -> None:
            try:
                act()
            finally:
                self._is_asking = False

        if (done := aside(ask, seconds)) is None:
            self._is_asking = False
        return bool(done)

    def sever(self) -> None:
        """
        Cut the connection off; whoever waits for it gets an error at once. Never blocks.

        The server rolls back as soon as it notices: at once when it waits for a statement, after
        the statement where one is running. SQLite has no server: its statement is interrupted, and
        whoever severs has to roll back.
        """
        self._severed = True
        if self._dialect.name == "sqlite":
            self.interrupt()
            return
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):  # the other side was faster
                    self._socket.shutdown(socket.SHUT_RDWR)

    def behind_statements(self, act: Callable[[sqlite3.Connection], object]) -> threading.Event:
        """
        Do something in the thread of an aiosqlite connection, after what runs there now.

        sqlite3's connections must not be used in one thread while another one closes them.

        Returns:
            Is set when it is done, and never if the connection has been closed before.
        """
        done = threading.Event()

        def run() -> None:
            try:
                act(self._driver._conn)
            finally:
                done.set()

        self._driver._tx.put_nowait((_NobodyWaits(), run))
        return done

    def close(self) -> None:
        """Forget the connection, which goes back to its pool, or is closed."""
        with self._lock:
            own, self._socket = self._socket, None
        if own is not None:
            own.close()

    # The driver's own --------------------------------------------------------------------------

    def _own_socket(self) -> socket.socket | None:
        """A socket of ours on the driver's connection: the number of its own may be reused soon."""
        if self._dialect.name == "sqlite":
            return None
        try:
            number = _file_number(self._dialect.driver, self._driver)
            return None if number < 0 else socket.socket(fileno=socket.dup(number))
        except Exception:
            logger.debug("the socket of a connection was not found", exc_info=True)
            return None

    def _id_in_server(self) -> Any:
        """What the server calls the connection, where another connection has to name it."""
        try:
            if self._dialect.driver == "asyncpg":
                protocol = self._driver._protocol
                return protocol.backend_pid, protocol.backend_secret
            if self._dialect.name in ("mysql", "mariadb"):
                return int(self._driver.thread_id())
            if self._dialect.driver in ("psycopg", "psycopg2"):
                return int(self._driver.info.backend_pid)
        except Exception:
            logger.debug("the server's name of a connection was not found", exc_info=True)
        return None

    def _interrupt_pysqlite(self) -> None:
        self._driver.interrupt()

    def _interrupt_aiosqlite(self) -> None:
        self._driver._conn.interrupt()

    def _interrupt_psycopg(self) -> None:
        try:
            cancel = self._driver.pgconn.cancel_conn()
        except Exception:  # libpq before 17, whose PQcancel would hold Python's lock
            self._cancel_by_name(self._driver.info.get_parameters(), self._driver.info.password)
            return
        try:
            cancel.start()
            _poll(cancel, time.monotonic() + 5)
        finally:
            cancel.finish()

    def _interrupt_psycopg2(self) -> None:
        # Not by its cancel(), which holds Python's lock: a silent server would stop all threads.
        self._cancel_by_name(self._driver.get_dsn_parameters(), self._driver.info.password)

    def _cancel_by_name(self, parameters: dict[str, str], password: str | None) -> None:
        """Let another connection, of the same role, stop the statement."""
        module: Any = self._dialect.loaded_dbapi
        sync: Any = getattr(module, "psycopg", module)  # SQLAlchemy wraps the async one
        with (
            closing(
                sync.connect(**parameters | {"password": password or "", "connect_timeout": 2})
            ) as other,
            closing(other.cursor()) as cursor,
        ):
            cursor.execute(f"SELECT pg_cancel_backend({self._server_id:d})")

    def _interrupt_asyncpg(self) -> None:
        pid, secret = self._server_id
        _request_cancel(
            self._driver._addr,
            self._driver._params,
            struct.pack("!llll", 16, _CANCEL_REQUEST, pid, secret),
        )

    def _interrupt_pymysql(self) -> None:
        # A copy, which connects with the same parameters, but not without a time-out.
        other = copy.copy(self._driver)
        other._sock = other._rfile = other._result = None
        other._closed = True
        other.init_command = None
        other.connect_timeout = other._read_timeout = other._write_timeout = 2
        other.connect()
        with closing(other):
            other.query(f"KILL QUERY {self._server_id}")

    def _interrupt_mysqldb(self) -> None:
        self._kill()

    def _interrupt_aiomysql(self) -> None:
        async def kill() -> None:
            async with asyncio.timeout(5):
                await greenlet_spawn(self._kill)

        # On an event loop of its own: that of the connection may be what stands still.
        asyncio.run(kill())

    _interrupt_asyncmy = _interrupt_aiomysql

    def _kill(self) -> None:
        """Let another connection, made as the pool makes them, stop the statement."""
        creator: Any = self._pool._creator
        with closing(creator()) as other, closing(other.cursor()) as cursor:
            cursor.execute(f"KILL QUERY {self._server_id}")


class _NobodyWaits:
    """Stands for the future, and for its event loop, that aiosqlite tells of a result."""

    def get_loop(self) -> _NobodyWaits:
        return self

    def call_soon_threadsafe(self, *_: object) -> None:
        pass


def _file_number(driver: str, connection: Any) -> int:
    """The number of the connection's socket, by which the operating system knows it."""
    if driver == "psycopg":
        return int(connection.pgconn.socket)
    if driver == "asyncpg":
        transport = connection._transport
    elif driver == "aiomysql":
        transport = connection._writer.transport
    elif driver == "asyncmy":
        transport = connection._transport
    elif driver == "pymysql":
        return int(connection._sock.fileno())
    else:
        return int(connection.fileno())
    return int(transport.get_extra_info("socket").fileno())


def _poll(cancel: Any, deadline: float) -> None:
    """Drive libpq's cancelling connection until it is through."""
    while True:
        # psycopg.pq.PollingStatus; no driver is imported here.
        wanted = {1: selectors.EVENT_READ, 2: selectors.EVENT_WRITE}.get(int(cancel.poll()))
        if wanted is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(cancel.socket, wanted)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError("the server does not take the request to cancel")


def _request_cancel(address: Any, parameters: Any, request: bytes) -> None:
    """Send a CancelRequest as asyncpg does, over a plain socket."""
    if isinstance(address, str):
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(2)
        plain.connect(address)
    else:
        plain = socket.create_connection(address, 2)
    with plain:
        tls, mode = parameters.ssl, getattr(parameters.sslmode, "name", "")
        if isinstance(address, str) or not tls or mode == "allow":
            _say(plain, request)
            return
        if getattr(getattr(parameters, "ssl_negotiation", None), "name", "") != "direct":
            plain.sendall(struct.pack("!ll", 8, _SSL_REQUEST))
            if plain.recv(1) != b"S":
                # The session itself is not encrypted either, or is not to be had.
                if mode == "prefer":
                    _say(plain, request)
                return
        with tls.wrap_socket(plain, server_hostname=address[0]) as encrypted:
            _say(encrypted, request)


def _say(line: socket.socket, request: bytes) -> None:
    line.sendall(request)
    line.recv(1)  # the server closes it when it has passed the request on
