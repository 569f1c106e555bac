"""
PyMySQL and aiomysql: what a batch has to know of their connections, see ``Kind``.

What is done for a command of the app's is decided by generators (``mysql_commands.py``), which wait
for nothing themselves. A kind runs them, as its driver's callers wait or await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sized
from contextlib import suppress
from types import ModuleType
from typing import Any, TypeVar

from atomicbatch.doors import mysql_sessions as sessions
from atomicbatch.doors.closed import Closed
from atomicbatch.doors.mysql_results import Reading, finish, kept_class, next_row
from atomicbatch.doors.mysql_sessions import COM_INIT_DB, RESULT_READER
from atomicbatch.doors.server_uses import Use, use_of
from atomicbatch.drivers import aiomysql, pymysql
from atomicbatch.drivers.driver import AsyncDriver, State, SyncDriver
from atomicbatch.drivers.mysql import state_of
from atomicbatch.errors import NotBatchableError
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver, Watch, aside, watching
from atomicbatch.sql.kinds import Family

T = TypeVar("T")
Acts = Generator[Callable[[], Any], Any, T]
"""Yields what is to be done, which may have to be awaited, and is sent what comes of it."""

# Set on a connection over a socket that the app has connected.
OWN_SOCKET = "_atomicbatch_socket"
# CLIENT_LOCAL_FILES of the protocol.
_LOCAL_FILES = 128


class MySQLKind:
    """
    What PyMySQL, aiomysql and asyncmy have in common.

    Attributes:
        oldest: The version from which on it has what the doors stand on.
        twin: What the names of those methods of a use end in that may have to wait.
        reader: The method that reads a packet.
        connect: The method that opens a connection, after it was made.
        reads_by: What of a connection decides how it reads answers.
        flags: The attribute with the flags that a connection was opened with.
        database: The attribute with the name of the database.
        encoding: The attribute with what text is encoded by.
        prepares: The protocol's number of the command that prepares a statement; 0: none does.
        executes: Those that execute one.
        private: What the doors call or change, apart from what the driver documents.
    """

    named: Driver
    oldest: str
    driver: SyncDriver | AsyncDriver
    is_async: bool
    twin = ""
    reader = "_read_packet"
    connect = "connect"
    reads_by: tuple[str, ...]
    flags = "client_flag"
    database: str
    encoding: str
    prepares = 0
    executes: tuple[int, ...] = ()
    private: tuple[str, ...]
    closed: Sized = ()
    """Calls with connections that were closed, of which something is still to be undone."""

    # What the driver's module gives, once it is imported.
    plainly: dict[str, Any]
    """How connections read by default: attributes."""
    packet: Any
    result: Any
    kept: type
    error: type[BaseException]

    # What an adapter asks ----------------------------------------------------------------------

    def state(self, connection: Any) -> State:
        """The flag of the app's own session."""
        return State.UNKNOWN if self.is_closed(connection) else state_of(self.own(connection))

    def is_auto(self, connection: Any) -> bool:
        """The flag of the app's own session."""
        return sessions.is_auto(self.own(connection))

    def level(self, connection: Any) -> str:  # noqa: ARG002 - the server is asked
        """No attribute tells it."""
        return ""

    def is_read_only(self, connection: Any) -> bool:  # noqa: ARG002
        """No attribute tells it."""
        return False

    def ask(self, connection: Any, text: str) -> Any:
        """Ask, and end the transaction that reading a table has begun."""
        return self.run(self._asking(connection, text))

    def open(self, connection: Any) -> Any:
        """Open a copy of it, in the database that it is in now."""
        return self.run(self._opening(connection))

    def adopt(self, wire: Any) -> Any:
        """Switch autocommit on, and send no files."""
        return self.run(self._adopting(wire))

    def close(self, wire: Any) -> Any:
        """Close it, whatever has become of it."""
        raise NotImplementedError

    def _asking(self, connection: Any, text: str) -> Acts[Any]:
        affected = connection._affected_rows
        with aside(), Reading(connection, self.plainly):
            yield lambda: connection.query(text)
            rows = connection._result.rows
            if " FROM " in text.upper() and not self.is_auto(connection):
                yield lambda: connection.query("ROLLBACK")
        connection._result, connection._affected_rows = None, affected
        return rows[0][0] if rows else None

    def _opening(self, connection: Any) -> Acts[Any]:
        # Nothing is asked: it may be the wire itself, which is in a statement.
        database = sessions.database_of(connection, getattr(connection, self.database))
        wire = self.copied(connection)
        sessions.forget(wire, self.reader)
        setattr(wire, self.database, database)
        wire.autocommit_mode = True
        self._set_up(wire)
        with aside():
            yield getattr(wire, self.connect)
        return wire

    def _adopting(self, wire: Any) -> Acts[None]:
        self._set_up(wire)
        with aside():
            yield lambda: wire.autocommit(True)

    def _set_up(self, wire: Any) -> None:
        wire._local_infile = False
        for name, value in self.plainly.items():
            setattr(wire, name, value)

    # What the doors ask ------------------------------------------------------------------------

    def run(self, acts: Acts[T]) -> Any:
        """Do what a generator says; give what it returns, or an awaitable of that."""
        raise NotImplementedError

    def waiting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function one that the driver's callers can wait for."""
        return function

    def end_closed(self) -> Any:
        """Wait until all is undone that connections had open when they were closed."""

    def copied(self, connection: Any) -> Any:
        """Make another connection with the same parameters, which is not connected yet."""
        raise NotImplementedError

    def is_closed(self, connection: Any) -> bool:
        """Tell whether it is closed."""
        raise NotImplementedError

    def drop(self, wire: Any) -> None:
        """Close the wire, where the rest of an answer is still to be read."""
        raise NotImplementedError

    def own(self, connection: Any) -> int:
        """The flags of the app's own session."""
        return sessions.own_status(connection, self.shown(connection))

    def shown(self, connection: Any) -> int:
        """The flags that the driver has seen last."""
        status: int = connection.server_status
        return status

    def session_of(self, connection: Any) -> object:
        """What is another one after the connection was opened again."""
        return getattr(connection, "server_thread_id", None)

    def may_load(self, connection: Any) -> bool:
        """Tell whether the app lets the server ask for files."""
        return bool(connection._local_infile)

    def check_command(self, watch: Watch, connection: Any, command: int, sql: Any) -> None:  # noqa: ARG002
        """Refuse a command, other than a query, that cannot take part."""
        if command == COM_INIT_DB and (use := self.joined(connection)) is not None:
            use.refuse(sessions.OTHER_DATABASE)

    def joined(self, connection: Any) -> Use | None:
        """What stands for a connection that its call has used already."""
        watch = watching.get()
        return None if watch is None else use_of(watch, connection, self, executes=False)

    # What the driver gives ---------------------------------------------------------------------

    def is_known(self, module: ModuleType) -> bool:
        """Tell whether a driver is one that the doors can stand on."""
        return all(hasattr(module.Connection, name) for name in self.private)

    def note_module(self, module: ModuleType) -> None:
        """Take what the driver's module gives."""
        self.packet, self.result = module.MysqlPacket, module.MySQLResult
        self.kept = kept_class(self.result, self.waiting(next_row), self.waiting(finish))
        self.error = module.Connection.Error
        self.plainly = self.plain_attributes(module)

    def plain_attributes(self, module: ModuleType) -> dict[str, Any]:
        """Tell by which attributes connections read as they do by default."""
        raise NotImplementedError


def decoders_of(module: ModuleType) -> dict[int, Any]:
    """Tell by what a driver's connections read values by default."""
    numbers = module.converters.conversions.items()
    return {key: value for key, value in numbers if type(key) is int}


class SyncKind(MySQLKind):
    """A driver whose callers wait."""

    is_async = False

    def run(self, acts: Acts[T]) -> Any:
        try:
            act = next(acts)
            while True:
                try:
                    done = act()
                except BaseException as error:
                    act = acts.throw(error)
                else:
                    act = acts.send(done)
        except StopIteration as end:
            return end.value


class AsyncKind(MySQLKind):
    """A driver whose callers await."""

    is_async = True
    twin = "_async"
    closed: Closed

    def __init__(self) -> None:
        self.closed = Closed()

    async def run(self, acts: Acts[T]) -> Any:
        try:
            act = next(acts)
            while True:
                try:
                    done = await act()
                except BaseException as error:
                    act = acts.throw(error)
                else:
                    act = acts.send(done)
        except StopIteration as end:
            return end.value

    def waiting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def waited(*args: Any, **options: Any) -> Any:
            return function(*args, **options)

        return waited

    async def end_closed(self) -> None:
        await self.closed.end()


def _place_of_pymysql(connection: Any) -> Place | None:
    host = connection.unix_socket or connection.host
    return of_server("mysql", host, connection.port, connection.db)


def place_of(connection: Any) -> Place | None:
    """Name the database that a connection of aiomysql or asyncmy leads to."""
    host = connection._unix_socket or connection._host
    return of_server("mysql", host, connection._port, connection._db)


class PyMySQL(SyncKind):
    """PyMySQL's."""

    named = Driver("pymysql", Family.MYSQL, _place_of_pymysql)
    oldest = "PyMySQL 1.1.1"
    driver: SyncDriver | AsyncDriver = pymysql
    reads_by = ("encoding", "use_unicode", "decoders", "_read_timeout", "_write_timeout")
    database = "db"
    encoding = "encoding"
    private = ("_execute_command", "_read_packet", RESULT_READER, "_force_close")

    def is_closed(self, connection: Any) -> bool:
        return connection._sock is None

    def session_of(self, connection: Any) -> object:
        return connection._sock

    def copied(self, connection: Any) -> Any:
        if vars(connection).get(OWN_SOCKET):
            raise NotBatchableError(sessions.OWN_SOCKET)
        return pymysql.copied(connection)

    def drop(self, wire: Any) -> None:
        wire._force_close()

    def close(self, wire: Any) -> None:
        with aside(), suppress(Exception):
            wire.close()

    def plain_attributes(self, module: ModuleType) -> dict[str, Any]:
        numbers = decoders_of(module)
        return {"cursorclass": module.Cursor, "use_unicode": True, "decoders": numbers}


class AioMySQL(AsyncKind):
    """aiomysql's, and what asyncmy's have in common with them."""

    named = Driver("aiomysql", Family.MYSQL, place_of)
    oldest = "aiomysql 0.2"
    driver: SyncDriver | AsyncDriver = aiomysql
    connect = "_connect"
    reads_by: tuple[str, ...] = ("_encoding", "use_unicode", "decoders")
    database = "_db"
    encoding = "_encoding"
    private: tuple[str, ...] = (*("_execute_command", "_read_packet", RESULT_READER, "_connect"),)

    def is_closed(self, connection: Any) -> bool:
        return connection._writer is None

    def copied(self, connection: Any) -> Any:
        wire = aiomysql.copied(connection)
        # It may be for another loop, on which the connection itself is stopped.
        wire._loop = asyncio.get_running_loop()
        return wire

    def drop(self, wire: Any) -> None:
        wire.close()

    async def close(self, wire: Any) -> None:
        try:
            with aside(), suppress(Exception):
                await wire.ensure_closed()
        finally:
            wire.close()

    def may_load(self, connection: Any) -> bool:
        if hasattr(connection, "_local_infile"):
            return super().may_load(connection)
        return bool(connection.client_flag & _LOCAL_FILES)  # aiomysql before 0.3 has but a flag

    def plain_attributes(self, module: ModuleType) -> dict[str, Any]:
        return {"cursorclass": module.Cursor, "use_unicode": True, "decoders": module.decoders}
