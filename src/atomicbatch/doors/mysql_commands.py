"""
Commands of PyMySQL, aiomysql and asyncmy: what is done for each in a call of a batch.

Their connections send every command by ``_execute_command``, also COMMIT, and libraries send
SAVEPOINT by it; whoever has called it reads the answer. In a batch the wire sends the statement and
reads all of its answer, which then stands in the place of the methods that would read it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, cast

from atomicbatch import patches
from atomicbatch.doors import mysql_results, mysql_sessions
from atomicbatch.doors.mysql_kinds import Acts, MySQLKind
from atomicbatch.doors.mysql_results import take_answers_away
from atomicbatch.doors.mysql_sessions import COM_QUERY, OWN, RESULT_READER, is_begin, text_of
from atomicbatch.doors.server_uses import Use, use_of
from atomicbatch.errors import TransactionError
from atomicbatch.guard.watch import Driver, Watch, aside, watching

WHY = "what takes no part in a batch is refused"

Found = Callable[..., Any]
Answer = Callable[[Any, Use, Any], Any]
"""Given a connection, what stands for it, and SQL: lets the connection have the answer."""


def change(
    module: ModuleType, kind: MySQLKind, answer: Answer, doors: Mapping[str, Callable[..., Any]]
) -> bool:
    """
    Let connections join, or ask.

    Args:
        module: The driver's.
        kind: Of the driver.
        answer: Answers a statement.
        doors: What else of its connections is changed, by what: given the kind and what is found.

    Returns:
        They join: the driver is one that we know.
    """
    connection = module.Connection
    if not kind.is_known(module):
        _watch_only(connection, kind)
        return False
    kind.note_module(module)
    # Every statement of the process passes it, so that nothing more may stand around it.
    commanding = partial(_commanding, kind, answer)
    patches.change(connection, "_execute_command", commanding, why=WHY, as_it_is=True)
    for name, make in (_DOORS | dict(doors)).items():
        patches.change(connection, name, partial(make, kind), why=WHY)
    return True


def _watch_only(connection: Any, kind: MySQLKind) -> None:
    """Refuse what is written by another version than we know."""
    named = kind.named._replace(
        joins_if=f"install {kind.oldest} or newer, whose connections take part"
    )
    if hasattr(connection, "_execute_command"):
        make = partial(_asking_command, kind, named)
        patches.change(connection, "_execute_command", make, why=WHY)
    else:
        patches.change(connection, "query", partial(_asking, named), why=WHY)


def _asking(named: Driver, found: Found) -> Found:
    def query(self: Any, sql: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.sends(self, named, sql)
        return found(self, sql, *args, **options)

    return query


def _asking_command(kind: MySQLKind, named: Driver, found: Found) -> Found:
    def execute_command(self: Any, command: int, sql: Any) -> Any:
        watch = watching.get()
        if watch is not None and command in (COM_QUERY, kind.prepares):
            watch.sends(self, named, sql)
        elif watch is not None and command in kind.executes:
            watch.writes(self, named, "a prepared statement")
        return found(self, command, sql)

    return execute_command


# Statements -------------------------------------------------------------------------------------


def _commanding(kind: MySQLKind, answer: Answer, found: Found) -> Found:
    # No coroutine function, also for async drivers: outside of batches that would be one more to
    # go through.
    def execute_command(self: Any, command: int, sql: Any) -> Any:
        watch = watching.get()
        if watch is None:
            if OWN in self.__dict__:
                mysql_sessions.show_own(self, kind.reader)
        elif command == COM_QUERY:
            if (use := _use(watch, kind, self, sql)) is not None:
                return answer(self, use, sql)
            if not kind.is_closed(self):
                watch.sends(self, kind.named, sql)
        else:
            kind.check_command(watch, self, command, sql)
        return found(self, command, sql)

    return execute_command


class _Unable:
    """Stands for a connection that cannot take part, until its next statement says so."""

    def in_transaction(self) -> bool:
        return False


def _use(watch: Watch, kind: MySQLKind, connection: Any, sql: Any) -> Use | None:
    if kind.is_closed(connection):
        return None  # it stands for itself, and says so
    # What only ends a transaction need not join where none is open.
    executes = not (type(sql) is str and sql in mysql_sessions.ENDS)
    try:
        return use_of(watch, connection, kind, executes=executes)
    except TransactionError:
        if not is_begin(sql):
            raise
        return cast("Use", _Unable())


def performing(kind: MySQLKind, connection: Any, use: Use, sql: Any) -> Acts[list[Any]]:
    """Do what a statement says; give its results, behind which an error may stand."""
    text = text_of(sql, getattr(connection, kind.encoding))
    results: list[Any] = []
    take_answers_away(connection, kind.reader)
    if is_begin(sql) and not use.in_transaction():
        mysql_sessions.put_begin_off(connection, use)
    elif text in mysql_sessions.ENDS:
        mysql_sessions.take_begin(connection, use)
        if kind.closed:
            yield kind.end_closed
        yield _method(kind, use, "commit" if text == "COMMIT" else "rollback")
    else:
        if kind.closed:
            yield kind.end_closed
        if mysql_sessions.take_begin(connection, use):
            yield _begin(kind, connection, use)
        if (on := mysql_sessions.sets_auto(text)) is not None:
            yield partial(_method(kind, use, "set_auto"), on)
            yield from _setting_own(connection, text)
        else:
            yield from _sending(kind, connection, use, sql, text, results)
    if not results:
        show(kind, connection, use, connection.server_status)
        return [mysql_results.nothing(connection, kind.result)]
    if (seen := mysql_sessions.seen_in(results)) is not None:
        show(kind, connection, use, seen)
    else:
        mysql_sessions.mark(connection, kind.own(connection))
    return results


def _method(kind: MySQLKind, use: Use, name: str) -> Callable[..., Any]:
    method: Callable[..., Any] = getattr(use, name + kind.twin)
    return method


def _begin(kind: MySQLKind, connection: Any, use: Use) -> Callable[[], Any]:
    """Make what begins, after that was put off."""
    text = mysql_sessions.BEGIN
    send = partial(_read_all, kind, connection, use, text, [])
    return partial(_method(kind, use, "perform"), text, None, send)


def _sending(
    kind: MySQLKind, connection: Any, use: Use, sql: Any, text: str, results: list[Any]
) -> Acts[None]:
    """Send a statement that is about more than the transaction; add what comes of it."""
    if kind.may_load(connection) and mysql_sessions.loads_local(text):
        use.refuse(mysql_sessions.READS_FILE)
    send = partial(_read_all, kind, connection, use, sql, results)
    try:
        yield partial(_method(kind, use, "perform"), text, None, send)
    except TransactionError:
        raise
    except Exception as error:
        if not results:
            connection._result = None
            raise
        results.append(error)
    if mysql_sessions.sets_session(text):
        yield from _setting_own(connection, text)
        yield _method(kind, use, "note_session")


def _read_all(
    kind: MySQLKind, connection: Any, use: Use, sql: Any, results: list[Any], wire: Any
) -> Any:
    return kind.run(_reading_all(kind, connection, use, sql, results, wire))


def _reading_all(
    kind: MySQLKind, connection: Any, use: Use, sql: Any, results: list[Any], wire: Any
) -> Acts[None]:
    """Run a statement on the wire; add its results as they come."""
    if not mysql_sessions.are_alike(getattr(connection, kind.flags), getattr(wire, kind.flags)):
        use.refuse(mysql_sessions.UNLIKE)
    reads_by = {name: getattr(connection, name) for name in kind.reads_by}
    with aside(), mysql_results.Reading(wire, reads_by):
        try:
            yield partial(wire.query, sql)
            results.append(wire._result)
            while wire._result.has_next:
                yield wire.next_result
                results.append(wire._result)
        except BaseException as error:
            if not mysql_sessions.is_servers(error, kind.error):
                kind.drop(wire)
            if isinstance(error, Exception) and not isinstance(error, kind.error):
                use.refuse(f"{mysql_sessions.UNREADABLE}: {type(error).__name__}")
            raise
        finally:
            wire._result = None


def _setting_own(connection: Any, text: str) -> Acts[None]:
    """Let the app's own session have a setting as well, which outlives the batch."""
    with aside():
        yield partial(connection.query, text)


def show(kind: MySQLKind, connection: Any, use: Use, seen: int) -> None:
    """Let the app's connection show its transaction; ``seen``: the last answer's flags."""
    is_open = use.in_transaction() or mysql_sessions.is_begin_put_off(connection, use)
    mysql_sessions.show(connection, kind.own(connection), seen, in_transaction=is_open)


# Answers ----------------------------------------------------------------------------------------


def leave_answer(kind: MySQLKind, connection: Any, use: Use, results: list[Any]) -> None:
    """Leave the answer to a command for whoever has sent it, and now reads it."""
    left = deque(results)

    def read_result(unbuffered: bool = False) -> Any:
        result = left.popleft()
        vars(connection).pop(kind.reader, None)
        if not left:
            vars(connection).pop(RESULT_READER, None)
        return _give(kind, connection, result, unbuffered)

    def read_packet(packet_type: Any = kind.packet) -> Any:
        take_answers_away(connection, kind.reader)
        if results[0].rows is not None:
            use.refuse(mysql_sessions.OWN_READER)
        packet = mysql_results.ok_packet(results[0], connection.server_status)
        return packet_type(packet, getattr(connection, kind.encoding))

    connection._result = None
    readers = {kind.reader: kind.waiting(read_packet), RESULT_READER: kind.waiting(read_result)}
    vars(connection).update(readers)


def _give(kind: MySQLKind, connection: Any, result: Any, unbuffered: bool) -> Any:
    """Give the app's connection a result, as if it had read it."""
    if isinstance(result, Exception):
        connection._result = None
        raise result
    if unbuffered and result.rows is not None:
        result = mysql_results.of_unbuffered_cursor(connection, result, kind.kept)
    connection._result, connection._affected_rows = result, result.affected_rows
    return result.affected_rows


# Connections ------------------------------------------------------------------------------------


def _showing_warnings(kind: MySQLKind, found: Found) -> Found:
    def acts(connection: Any) -> Acts[Any]:
        if (use := kind.joined(connection)) is None:
            with aside():
                return (yield partial(found, connection))
        results = yield from performing(kind, connection, use, "SHOW WARNINGS")
        connection._result = None
        return results[0].rows

    return lambda self: kind.run(acts(self))


def _switching(kind: MySQLKind, found: Found) -> Found:
    def acts(connection: Any, value: Any) -> Acts[None]:
        if (use := kind.joined(connection)) is not None:
            if kind.closed:
                yield kind.end_closed
            if mysql_sessions.take_begin(connection, use):
                yield _begin(kind, connection, use)
            yield partial(_method(kind, use, "set_auto"), bool(value))
        with aside():
            yield partial(found, connection, value)
        if use is not None:
            show(kind, connection, use, connection.server_status)

    return lambda self, value: kind.run(acts(self, value))


def _selecting(kind: MySQLKind, found: Found) -> Found:
    def acts(connection: Any, db: Any) -> Acts[None]:
        yield partial(found, connection, db)
        mysql_sessions.note_database(connection, db)

    return lambda self, db: kind.run(acts(self, db))


def _pinging(kind: MySQLKind, found: Found) -> Found:
    def acts(connection: Any, args: Any, options: Any) -> Acts[None]:
        use, before = kind.joined(connection), kind.session_of(connection)
        with aside():
            yield partial(found, connection, *args, **options)
        if use is not None and kind.session_of(connection) is not before:
            yield _method(kind, use, "end")  # it is another session now
        elif use is not None:
            show(kind, connection, use, connection.server_status)

    return lambda self, *args, **options: kind.run(acts(self, args, options))


_DOORS: dict[str, Callable[..., Any]] = {
    "show_warnings": _showing_warnings,
    "autocommit": _switching,
    "select_db": _selecting,
    "ping": _pinging,
}
