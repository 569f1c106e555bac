"""
The door of PyMySQL.

Its connections send every command by ``_execute_command``, also COMMIT, and libraries send
SAVEPOINT by it; whoever has called it reads the answer. In a batch the wire sends the statement and
reads all of its answer, which then stands in the place of the methods that would read it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.doors import mysql_sessions as sessions
from atomicbatch.doors.mysql_sessions import COM_INIT_DB, COM_QUERY, OWN, RESULT_READER, text_of
from atomicbatch.doors.server_uses import Use, use_of
from atomicbatch.drivers import pymysql as driver
from atomicbatch.drivers.driver import AsyncDriver, State, SyncDriver
from atomicbatch.drivers.mysql import state_of
from atomicbatch.errors import NotBatchableError, TransactionError
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver, Watch, aside, watching
from atomicbatch.sql.kinds import Family

WHY = "what takes no part in a batch is refused"
# The method that reads a packet.
_READER = "_read_packet"
# Set on a connection over a socket that the app has connected.
_SOCKET = "_atomicbatch_socket"
# What of a connection decides how it reads answers.
_READS_BY = ("encoding", "use_unicode", "decoders", "_read_timeout", "_write_timeout")
# What the doors call or change, apart from what PyMySQL documents.
_PRIVATE = ("_execute_command", "_read_packet", RESULT_READER, "_force_close")

Found = Callable[..., Any]


def _place(connection: Any) -> Place | None:
    host = connection.unix_socket or connection.host
    return of_server("mysql", host, connection.port, connection.db)


class PyMySQL:
    """What an adapter has to know of PyMySQL, see ``Kind``."""

    named = Driver("pymysql", Family.MYSQL, _place)
    driver: SyncDriver | AsyncDriver = driver
    is_async = False
    plainly: dict[str, Any]
    """How connections read by default: attributes."""
    packet: Any
    result: Any
    kept: type
    error: type[BaseException]

    def state(self, connection: Any) -> State:
        """The flag of the app's own session."""
        return State.UNKNOWN if connection._sock is None else state_of(_own_status(connection))

    def is_auto(self, connection: Any) -> bool:
        """The flag of the app's own session."""
        return sessions.is_auto(_own_status(connection))

    def level(self, connection: Any) -> str:  # noqa: ARG002 - the server is asked
        """No attribute tells it."""
        return ""

    def is_read_only(self, connection: Any) -> bool:  # noqa: ARG002
        """No attribute tells it."""
        return False

    def ask(self, connection: Any, text: str) -> Any:
        """Ask, and end the transaction that reading a table has begun."""
        affected = connection._affected_rows
        with aside(), sessions.reading(connection, self.plainly):
            connection.query(text)
            rows = connection._result.rows
            if " FROM " in text.upper() and not self.is_auto(connection):
                connection.query("ROLLBACK")
        connection._result, connection._affected_rows = None, affected
        return rows[0][0] if rows else None

    def open(self, connection: Any) -> Any:
        """Open a copy of it, in the database that it is in now."""
        if vars(connection).get(_SOCKET):
            raise NotBatchableError(sessions.OWN_SOCKET)
        # Nothing is asked: it may be the wire itself, which is in a statement.
        database = sessions.database_of(connection, connection.db)
        wire = driver.copied(connection)
        sessions.forget(wire, _READER)
        wire.db, wire.autocommit_mode, wire._local_infile = database, True, False
        for name, value in self.plainly.items():
            setattr(wire, name, value)
        with aside():
            wire.connect()
        return wire

    def adopt(self, wire: Any) -> None:
        """Switch autocommit on, and send no files."""
        wire._local_infile = False
        for name, value in self.plainly.items():
            setattr(wire, name, value)
        with aside():
            wire.autocommit(True)

    def close(self, wire: Any) -> None:
        """Close it, whatever has become of it."""
        with aside(), suppress(Exception):
            wire.close()


KIND = PyMySQL()


def change_pymysql(module: ModuleType) -> None:
    """Let PyMySQL's connections join, or ask."""
    kind = module.Connection
    if any(not hasattr(kind, name) for name in _PRIVATE):
        # Another PyMySQL than we know: what writes is refused.
        patches.change(kind, "query", _asking, why=WHY)
        return
    numbers = module.converters.conversions.items()
    KIND.plainly = {
        "cursorclass": module.Cursor,
        "use_unicode": True,
        "decoders": {key: value for key, value in numbers if type(key) is int},
    }
    KIND.packet, KIND.result = module.MysqlPacket, module.MySQLResult
    KIND.kept = sessions.kept_class(module.MySQLResult, sessions.next_row, sessions.finish)
    KIND.error = kind.Error
    doors = {
        "show_warnings": _showing_warnings,
        "autocommit": _switching,
        "select_db": _selecting,
        "ping": _pinging,
        "kill": _aside,
        "connect": _connecting,
        "close": _closing,
    }
    # Every statement of the process passes it, so that nothing more may stand around it.
    patches.change(kind, "_execute_command", _commanding, why=WHY, as_it_is=True)
    for name, make in doors.items():
        patches.change(kind, name, make, why=WHY)


def _asking(found: Found) -> Found:
    def query(self: Any, sql: Any, unbuffered: bool = False) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.sends(self, KIND.named, sql)
        return found(self, sql, unbuffered)

    return query


# Statements -------------------------------------------------------------------------------------


def _commanding(found: Found) -> Found:
    def execute_command(self: Any, command: int, sql: Any) -> Any:
        watch = watching.get()
        if watch is None:
            if OWN in self.__dict__:
                sessions.show_own(self, _READER)
        elif command == COM_QUERY:
            # What only ends a transaction need not join where none is open.
            executes = not (type(sql) is str and sql in sessions.ENDS)
            if (use := _use(watch, self, executes=executes)) is not None:
                return _answer(self, use, sql)
            if self._sock is not None:
                watch.sends(self, KIND.named, sql)
        elif command == COM_INIT_DB and (use := _joined(self)) is not None:
            use.refuse(sessions.OTHER_DATABASE)
        return found(self, command, sql)

    return execute_command


def _use(watch: Watch, connection: Any, *, executes: bool) -> Use | None:
    # One that is closed stands for itself, and says so.
    closed = connection._sock is None
    return None if closed else use_of(watch, connection, KIND, executes=executes)


def _joined(connection: Any) -> Use | None:
    """What stands for a connection that its call has used already."""
    watch = watching.get()
    return None if watch is None else use_of(watch, connection, KIND, executes=False)


def _answer(connection: Any, use: Use, sql: Any) -> None:
    """Do what a command says, and leave the answer for whoever has sent it, and now reads it."""
    results = deque(_perform(connection, use, sql))
    first = results[0]

    def read_result(unbuffered: bool = False) -> Any:
        result = results.popleft()
        vars(connection).pop(_READER, None)
        if not results:
            vars(connection).pop(RESULT_READER, None)
        return _give(connection, result, unbuffered)

    def read_packet(kind: Any = KIND.packet) -> Any:
        sessions.take_answers_away(connection, _READER)
        if first.rows is not None:
            use.refuse(sessions.OWN_READER)
        packet = sessions.ok_packet(first, connection.server_status)
        return kind(packet, connection.encoding)

    connection._result = None
    vars(connection).update({_READER: read_packet, RESULT_READER: read_result})


def _perform(connection: Any, use: Use, sql: Any) -> list[Any]:
    """Do what a statement says; give its results, behind which an error may stand."""
    text = text_of(sql, connection.encoding)
    results: list[Any] = []
    sessions.take_answers_away(connection, _READER)
    if (on := sessions.sets_auto(text)) is not None:
        use.set_auto(on)
        _set_own(connection, text)
    elif text in sessions.ENDS:
        (use.commit if text == "COMMIT" else use.rollback)()
    else:
        if connection._local_infile and sessions.loads_local(text):
            use.refuse(sessions.READS_FILE)
        try:
            use.perform(text, None, lambda wire: _read_all(wire, connection, use, sql, results))
        except TransactionError:
            raise
        except Exception as error:
            if not results:
                connection._result = None
                raise
            results.append(error)
        if sessions.sets_session(text):
            _set_own(connection, text)
            use.note_session()
    if not results:
        _show(connection, use, connection.server_status)
        return [sessions.nothing(connection, KIND.result)]
    if (seen := sessions.seen_in(results)) is not None:
        _show(connection, use, seen)
    else:
        sessions.mark(connection, _own_status(connection))
    return results


def _read_all(wire: Any, connection: Any, use: Use, sql: Any, results: list[Any]) -> None:
    """Run a statement on the wire; add its results as they come."""
    if not sessions.are_alike(connection.client_flag, wire.client_flag):
        use.refuse(sessions.UNLIKE)
    reads_by = {name: getattr(connection, name) for name in _READS_BY}
    with aside(), sessions.reading(wire, reads_by):
        try:
            wire.query(sql)
            results.append(wire._result)
            while wire._result.has_next:
                wire.next_result()
                results.append(wire._result)
        except BaseException as error:
            if not sessions.is_servers(error, KIND.error):
                wire._force_close()  # the rest of the answer is still to be read
            if isinstance(error, Exception) and not isinstance(error, KIND.error):
                use.refuse(f"{sessions.UNREADABLE}: {type(error).__name__}")
            raise
        finally:
            wire._result = None


def _set_own(connection: Any, text: str) -> None:
    """Let the app's own session have a setting as well, which outlives the batch."""
    with aside():
        connection.query(text)


def _own_status(connection: Any) -> int:
    return sessions.own_status(connection, connection.server_status)


def _show(connection: Any, use: Use, seen: int) -> None:
    """Let the app's connection show its transaction; ``seen``: the last answer's flags."""
    own = _own_status(connection)
    sessions.show(connection, own, seen, in_transaction=use.in_transaction())


# Results ----------------------------------------------------------------------------------------


def _give(connection: Any, result: Any, unbuffered: bool) -> Any:
    """Give the app's connection a result, as if it had read it."""
    if isinstance(result, Exception):
        connection._result = None
        raise result
    if unbuffered and result.rows is not None:
        result = sessions.of_unbuffered_cursor(connection, result, KIND.kept)
    connection._result, connection._affected_rows = result, result.affected_rows
    return result.affected_rows


def _showing_warnings(found: Found) -> Found:
    def show_warnings(self: Any) -> Any:
        if (use := _joined(self)) is None:
            with aside():
                return found(self)
        result = _perform(self, use, "SHOW WARNINGS")[0]
        self._result = None
        return result.rows

    return show_warnings


# Connections ------------------------------------------------------------------------------------


def _switching(found: Found) -> Found:
    def autocommit(self: Any, value: Any) -> Any:
        if (use := _joined(self)) is not None:
            use.set_auto(bool(value))
        with aside():
            found(self, value)
        if use is not None:
            _show(self, use, self.server_status)

    return autocommit


def _selecting(found: Found) -> Found:
    def select_db(self: Any, db: Any) -> None:
        found(self, db)
        sessions.note_database(self, db)

    return select_db


def _pinging(found: Found) -> Found:
    def ping(self: Any, *args: Any, **options: Any) -> Any:
        use, before = _joined(self), self._sock
        with aside():
            found(self, *args, **options)
        if use is not None and self._sock is not before:
            use.end()  # it is another session now
        elif use is not None:
            _show(self, use, self.server_status)

    return ping


def _aside(found: Found) -> Found:
    def kill(self: Any, *args: Any) -> Any:
        with aside():
            return found(self, *args)

    return kill


def _connecting(found: Found) -> Found:
    def connect(self: Any, sock: Any = None) -> Any:
        if (use := _joined(self)) is not None:
            use.end()
        sessions.forget(self, _READER)
        if sock is not None:
            vars(self)[_SOCKET] = True
        with aside():
            return found(self, sock)

    return connect


def _closing(found: Found) -> Found:
    def close(self: Any) -> Any:
        if (use := _joined(self)) is not None:
            use.end()
        return found(self)

    return close
