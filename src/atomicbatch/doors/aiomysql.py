"""
The door of aiomysql, which is PyMySQL on an event loop, and what asyncmy has in common with it.

See ``pymysql.py``. Pools open connections by ``connect()``, which is outside of the batch; they
close those that come back with a transaction open.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from atomicbatch import patches
from atomicbatch.doors import mysql_sessions as sessions
from atomicbatch.doors.mysql_sessions import COM_INIT_DB, COM_QUERY, OWN, RESULT_READER, text_of
from atomicbatch.doors.server_uses import Use, use_of
from atomicbatch.drivers import aiomysql as driver
from atomicbatch.drivers.driver import AsyncDriver, State, SyncDriver
from atomicbatch.drivers.mysql import state_of
from atomicbatch.errors import TransactionError
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver, Watch, aside, watching
from atomicbatch.sql.kinds import Family

WHY = "what takes no part in a batch is refused"
# CLIENT_LOCAL_FILES of the protocol.
_LOCAL_FILES = 128

Found = Callable[..., Any]


def place_of(connection: Any) -> Place | None:
    """Name the database that a connection leads to."""
    host = connection._unix_socket or connection._host
    return of_server("mysql", host, connection._port, connection._db)


class AioMySQL:
    """
    What an adapter has to know of the driver, see ``Kind``.

    Attributes:
        reader: The method that reads a packet.
        connect: The method that opens a connection, after it was made.
        reads_by: What of a connection decides how it reads answers.
        private: What the doors call or change, apart from what the driver documents.
    """

    named = Driver("aiomysql", Family.MYSQL, place_of)
    driver: SyncDriver | AsyncDriver = driver
    is_async = True
    reader = "_read_packet"
    connect = "_connect"
    reads_by: tuple[str, ...] = ("_encoding", "use_unicode", "decoders")
    flags = "client_flag"
    private: tuple[str, ...] = (*("_execute_command", "_read_packet", RESULT_READER, "_connect"),)

    # What the driver's module gives, once it is imported.
    plainly: dict[str, Any]
    """How connections read by default: attributes."""
    packet: Any
    result: Any
    kept: type
    error: type[BaseException]

    def state(self, connection: Any) -> State:
        """The flag of the app's own session."""
        return State.UNKNOWN if self.is_closed(connection) else state_of(self.own(connection))

    def is_closed(self, connection: Any) -> bool:
        """Tell whether it is closed."""
        return connection._writer is None

    def own(self, connection: Any) -> int:
        """The flags of the app's own session."""
        return sessions.own_status(connection, self.shown(connection))

    def shown(self, connection: Any) -> int:
        """The flags that the driver has seen last."""
        status: int = connection.server_status
        return status

    def is_auto(self, connection: Any) -> bool:
        """The flag of the app's own session."""
        return sessions.is_auto(self.own(connection))

    def level(self, connection: Any) -> str:  # noqa: ARG002 - the server is asked
        """No attribute tells it."""
        return ""

    def is_read_only(self, connection: Any) -> bool:  # noqa: ARG002
        """No attribute tells it."""
        return False

    async def ask(self, connection: Any, text: str) -> Any:
        """Ask, and end the transaction that reading a table has begun."""
        affected = connection._affected_rows
        with aside(), sessions.reading(connection, self.plainly):
            await connection.query(text)
            rows = connection._result.rows
            if " FROM " in text.upper() and not self.is_auto(connection):
                await connection.query("ROLLBACK")
        connection._result, connection._affected_rows = None, affected
        return rows[0][0] if rows else None

    async def open(self, connection: Any) -> Any:
        """Open a copy of it, in the database that it is in now."""
        # Nothing is asked: it may be the wire itself, which is in a statement. Then it is for
        # another loop, on which it is stopped.
        database = sessions.database_of(connection, connection._db)
        wire = self.copied(connection)
        wire._loop = asyncio.get_running_loop()
        sessions.forget(wire, self.reader)
        wire._db, wire.autocommit_mode = database, True
        self._set_up(wire)
        with aside():
            await getattr(wire, self.connect)()
        return wire

    def copied(self, connection: Any) -> Any:
        """Make another connection with the same parameters, which is not connected yet."""
        return driver.copied(connection)

    def _set_up(self, wire: Any) -> None:
        wire._local_infile = False
        for name, value in self.plainly.items():
            setattr(wire, name, value)

    async def adopt(self, wire: Any) -> None:
        """Switch autocommit on, and send no files."""
        self._set_up(wire)
        with aside():
            await wire.autocommit(True)

    async def close(self, wire: Any) -> None:
        """Close it, whatever has become of it."""
        try:
            with aside(), suppress(Exception):
                await wire.ensure_closed()
        finally:
            wire.close()

    def note_module(self, module: ModuleType) -> None:
        """Take what the driver's module gives."""
        self.plainly = {
            "cursorclass": module.Cursor,
            "use_unicode": True,
            "decoders": module.decoders,
        }
        self.note_classes(module)

    def note_classes(self, module: ModuleType) -> None:
        """Take the classes that the driver's module gives."""
        self.packet, self.result = module.MysqlPacket, module.MySQLResult
        self.kept = sessions.kept_class(module.MySQLResult, _next_row, _finish)
        self.error = module.Connection.Error

    def check_command(self, watch: Watch, connection: Any, command: int, sql: Any) -> None:  # noqa: ARG002
        """Refuse a command, other than a query, that cannot take part."""
        if command == COM_INIT_DB and (use := joined(self, connection)) is not None:
            use.refuse(sessions.OTHER_DATABASE)


KIND = AioMySQL()


def _may_load(connection: Any) -> bool:
    """Tell whether the app lets the server ask for files; aiomysql before 0.3 has but a flag."""
    if hasattr(connection, "_local_infile"):
        return bool(connection._local_infile)
    return bool(connection.client_flag & _LOCAL_FILES)


def change_aiomysql(module: ModuleType) -> None:
    """Let aiomysql's connections join, or ask."""
    change(module, KIND)


def change(module: ModuleType, kind: AioMySQL) -> bool:
    """
    Let connections join, or ask.

    Returns:
        They join: the driver is one that we know.
    """
    connection = module.Connection
    if any(not hasattr(connection, name) for name in kind.private):
        # Another version than we know: what writes is refused.
        patches.change(connection, "query", partial(_asking, kind), why=WHY)
        return False
    kind.note_module(module)
    doors = {
        "show_warnings": _showing_warnings,
        "autocommit": _switching,
        "select_db": _selecting,
        "ping": _pinging,
        kind.connect: _connecting,
        "close": _closing,
        "ensure_closed": _closing_async,
    }
    # Every statement of the process passes it, so that nothing more may stand around it.
    commanding = partial(_commanding, kind)
    patches.change(connection, "_execute_command", commanding, why=WHY, as_it_is=True)
    for name, make in doors.items():
        patches.change(connection, name, partial(make, kind), why=WHY)
    return True


def _asking(kind: AioMySQL, found: Found) -> Found:
    async def query(self: Any, sql: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.sends(self, kind.named, sql)
        return await found(self, sql, *args, **options)

    return query


# Statements -------------------------------------------------------------------------------------


def _commanding(kind: AioMySQL, found: Found) -> Found:
    # No coroutine function: outside of batches that would be one more to go through.
    def execute_command(self: Any, command: int, sql: Any) -> Any:
        watch = watching.get()
        if watch is None:
            if OWN in self.__dict__:
                sessions.show_own(self, kind.reader)
        elif command == COM_QUERY:
            # What only ends a transaction need not join where none is open.
            executes = not (type(sql) is str and sql in sessions.ENDS)
            if (use := _use(watch, kind, self, executes=executes)) is not None:
                return _answer(kind, self, use, sql)
            if not kind.is_closed(self):
                watch.sends(self, kind.named, sql)
        else:
            kind.check_command(watch, self, command, sql)
        return found(self, command, sql)

    return execute_command


def _use(watch: Watch, kind: AioMySQL, connection: Any, *, executes: bool) -> Use | None:
    # One that is closed stands for itself, and says so.
    closed = kind.is_closed(connection)
    return None if closed else use_of(watch, connection, kind, executes=executes)


def joined(kind: AioMySQL, connection: Any) -> Use | None:
    """What stands for a connection that its call has used already."""
    watch = watching.get()
    return None if watch is None else use_of(watch, connection, kind, executes=False)


async def _answer(kind: AioMySQL, connection: Any, use: Use, sql: Any) -> None:
    """Do what a command says, and leave the answer for whoever has sent it, and now reads it."""
    results = deque(await _perform(kind, connection, use, sql))
    first = results[0]

    async def read_result(unbuffered: bool = False) -> None:
        result = results.popleft()
        vars(connection).pop(kind.reader, None)
        if not results:
            vars(connection).pop(RESULT_READER, None)
        _give(kind, connection, result, unbuffered)

    async def read_packet(packet_type: Any = kind.packet) -> Any:
        sessions.take_answers_away(connection, kind.reader)
        if first.rows is not None:
            use.refuse(sessions.OWN_READER)
        packet = sessions.ok_packet(first, connection.server_status)
        return packet_type(packet, connection._encoding)

    connection._result = None
    vars(connection).update({kind.reader: read_packet, RESULT_READER: read_result})


async def _perform(kind: AioMySQL, connection: Any, use: Use, sql: Any) -> list[Any]:
    """Do what a statement says; give its results, behind which an error may stand."""
    await _end_closed()
    text = text_of(sql, connection._encoding)
    results: list[Any] = []
    sessions.take_answers_away(connection, kind.reader)
    if (on := sessions.sets_auto(text)) is not None:
        await use.set_auto_async(on)
        await _set_own(connection, text)
    elif text in sessions.ENDS:
        await (use.commit_async if text == "COMMIT" else use.rollback_async)()
    else:
        if _may_load(connection) and sessions.loads_local(text):
            use.refuse(sessions.READS_FILE)
        try:
            await use.perform_async(
                text, None, lambda wire: _read_all(kind, wire, connection, use, sql, results)
            )
        except TransactionError:
            raise
        except Exception as error:
            if not results:
                connection._result = None
                raise
            results.append(error)
        if sessions.sets_session(text):
            await _set_own(connection, text)
            await use.note_session_async()
    if not results:
        _show(kind, connection, use, connection.server_status)
        return [sessions.nothing(connection, kind.result)]
    if (seen := sessions.seen_in(results)) is not None:
        _show(kind, connection, use, seen)
    else:
        sessions.mark(connection, kind.own(connection))
    return results


async def _read_all(
    kind: AioMySQL, wire: Any, connection: Any, use: Use, sql: Any, results: list[Any]
) -> None:
    """Run a statement on the wire; add its results as they come."""
    if not sessions.are_alike(getattr(connection, kind.flags), getattr(wire, kind.flags)):
        use.refuse(sessions.UNLIKE)
    reads_by = {name: getattr(connection, name) for name in kind.reads_by}
    with aside(), sessions.reading(wire, reads_by):
        try:
            await wire.query(sql)
            results.append(wire._result)
            while wire._result.has_next:
                await wire.next_result()
                results.append(wire._result)
        except BaseException as error:
            if not sessions.is_servers(error, kind.error):
                wire.close()  # the rest of the answer is still to be read
            if isinstance(error, Exception) and not isinstance(error, kind.error):
                use.refuse(f"{sessions.UNREADABLE}: {type(error).__name__}")
            raise
        finally:
            wire._result = None


async def _set_own(connection: Any, text: str) -> None:
    """Let the app's own session have a setting as well, which outlives the batch."""
    with aside():
        await connection.query(text)


def _show(kind: AioMySQL, connection: Any, use: Use, seen: int) -> None:
    """Let the app's connection show its transaction; ``seen``: the last answer's flags."""
    own = kind.own(connection)
    sessions.show(connection, own, seen, in_transaction=use.in_transaction())


# Results ----------------------------------------------------------------------------------------


def _give(kind: AioMySQL, connection: Any, result: Any, unbuffered: bool) -> None:
    """Give the app's connection a result, as if it had read it."""
    if isinstance(result, Exception):
        connection._result = None
        raise result
    if unbuffered and result.rows is not None:
        result = sessions.of_unbuffered_cursor(connection, result, kind.kept)
    connection._result, connection._affected_rows = result, result.affected_rows


async def _next_row(self: Any) -> Any:
    return sessions.next_row(self)


async def _finish(self: Any) -> None:
    sessions.finish(self)


def _showing_warnings(kind: AioMySQL, found: Found) -> Found:
    async def show_warnings(self: Any) -> Any:
        if (use := joined(kind, self)) is None:
            with aside():
                return await found(self)
        result = (await _perform(kind, self, use, "SHOW WARNINGS"))[0]
        self._result = None
        return result.rows

    return show_warnings


# Connections ------------------------------------------------------------------------------------


def _switching(kind: AioMySQL, found: Found) -> Found:
    async def autocommit(self: Any, value: Any) -> None:
        if (use := joined(kind, self)) is not None:
            await _end_closed()
            await use.set_auto_async(bool(value))
        with aside():
            await found(self, value)
        if use is not None:
            _show(kind, self, use, self.server_status)

    return autocommit


def _selecting(_: AioMySQL, found: Found) -> Found:
    async def select_db(self: Any, db: Any) -> None:
        await found(self, db)
        sessions.note_database(self, db)

    return select_db


def _pinging(kind: AioMySQL, found: Found) -> Found:
    async def ping(self: Any, *args: Any, **options: Any) -> None:
        use, before = joined(kind, self), getattr(self, "server_thread_id", None)
        with aside():
            await found(self, *args, **options)
        if use is not None and self.server_thread_id is not before:
            await use.end_async()  # it is another session now
        elif use is not None:
            _show(kind, self, use, self.server_status)

    return ping


def _connecting(kind: AioMySQL, found: Found) -> Found:
    async def connect(self: Any) -> Any:
        if (use := joined(kind, self)) is not None:
            await use.end_async()
        sessions.forget(self, kind.reader)
        with aside():
            return await found(self)

    return connect


_closed: WeakKeyDictionary[Watch, list[asyncio.Task[None]]] = WeakKeyDictionary()
"""What is still to be undone of connections that were closed by a call that cannot await."""


def _closing(kind: AioMySQL, found: Found) -> Found:
    def close(self: Any) -> None:
        use = joined(kind, self)
        # Without a loop it is the garbage collector that closes it.
        if use is not None and use.in_transaction() and asyncio._get_running_loop() is not None:
            _end_later(use)
        found(self)

    return close


def _end_later(use: Use) -> None:
    """Undo what a connection has open, ahead of whatever the call does next."""
    watch = watching.get()
    if watch is not None:
        task = asyncio.ensure_future(use.end_async())
        _closed.setdefault(watch, []).append(task)


async def _end_closed() -> None:
    """Wait until all is undone that connections had open when they were closed."""
    if _closed and (watch := watching.get()) is not None:
        for task in _closed.pop(watch, ()):
            await task


def _closing_async(kind: AioMySQL, found: Found) -> Found:
    async def ensure_closed(self: Any) -> None:
        if (use := joined(kind, self)) is not None:
            await use.end_async()
        await found(self)

    return ensure_closed
