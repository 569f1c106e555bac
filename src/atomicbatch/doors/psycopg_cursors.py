"""
Cursors in the server (``connection.cursor("name")``), in the batch's transaction.

Their names belong to a session, and all connections of the app share one. So a cursor whose name is
taken has another name on the wire. A cursor ends with the app's transaction, as far as the app can
tell; in the server it is closed when the app closes it, or when the batch ends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from atomicbatch.doors.psycopg_operations import begin, check_open, text_for
from atomicbatch.doors.psycopg_steps import Fetch, OnWire, Plan, Statement
from atomicbatch.doors.server_uses import Use
from atomicbatch.sql.kinds import CHANGES_DATA, Family
from atomicbatch.sql.statements import read_statement

Found = Callable[..., Generator[Any, Any, Any]]


class _Opened(NamedTuple):
    """What is known of a cursor of the app's."""

    name: str
    """Its name on the wire."""
    use: Callable[[], Any]
    """What stood for its connection when it was opened."""


# The names that have been used on a wire; and what the app has open.
_taken: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
_opened: WeakKeyDictionary[Any, _Opened] = WeakKeyDictionary()


def declare(
    cursor: Any, use: Use, found: Found, query: Any, params: Any, binary: bool | None
) -> Plan:
    """Open a cursor; ``found`` is psycopg's own code, here and below."""
    check_open(cursor)
    connection = cursor._conn
    if connection.autocommit and not use.in_transaction() and not cursor.withhold:
        raise _errors().NoActiveSqlTransaction(
            "DECLARE CURSOR can only be used in transaction blocks"
        )
    yield from begin(connection, use)
    if cursor._described:
        yield from close(cursor, use, lambda one: one._close_gen())
        cursor._described = False

    def make(wire: Any) -> Generator[Any, Any, Any]:
        names = _taken.setdefault(wire, set())
        name, number = cursor.name, 1
        while name in names:
            number += 1
            name = f"{cursor.name}_{number}"
        names.add(name)
        _opened[cursor] = _Opened(name, ref(use))
        return _by_name(cursor, lambda: found(cursor, query, params, binary))

    yield Statement(_read_as(cursor, query), _values(params), OnWire(cursor, make))


def fetch(cursor: Any, use: Use, found: Found, *args: Any) -> Plan:
    """Fetch or skip rows."""
    check_open(cursor)
    if _has_ended(cursor, use):
        raise _errors().InvalidCursorName(f'cursor "{cursor.name}" does not exist')
    act = OnWire(cursor, lambda _: _by_name(cursor, lambda: found(cursor, *args)))
    return (yield Fetch(act))


def close(cursor: Any, use: Use, found: Found) -> Plan:
    """Close a cursor; one that ended with the app's transaction is still there in the server."""
    if use.wire is None or use.is_broken():
        return

    def make(_: Any) -> Generator[Any, Any, Any]:
        if _has_ended(cursor, use):
            cursor._described = False  # so that psycopg looks first whether it is there
        return _by_name(cursor, lambda: found(cursor))

    yield Fetch(OnWire(cursor, make))
    opened = _opened.pop(cursor, None)
    if opened is not None:
        _taken.get(use.wire, set()).discard(opened.name)


def _has_ended(cursor: Any, use: Use) -> bool:
    """Tell whether alone it would have ended with its transaction."""
    opened = _opened.get(cursor)
    if opened is None or cursor.withhold:
        return False  # somebody else has opened it: a function, perhaps
    return opened.use() is not use or not use.in_transaction()


def _by_name(cursor: Any, make: Callable[[], Generator[Any, Any, Any]]) -> Generator[Any, Any, Any]:
    """Run psycopg's code while the cursor has the name that it has on the wire."""
    own, opened = cursor._name, _opened.get(cursor)
    if opened is not None:
        cursor._name = opened.name
    try:
        return (yield from make())
    finally:
        cursor._name = own


def _read_as(cursor: Any, query: Any) -> str:
    """Return what tells the join what the cursor does: it is as harmless as its query."""
    text = text_for(cursor, query)
    if read_statement(text, Family.POSTGRESQL).kind in CHANGES_DATA:
        return text
    return f"DECLARE c CURSOR FOR {text}"


def _values(params: Any) -> Any:
    return None if params is None else (params,)


def _errors() -> Any:
    return sys.modules["psycopg"].errors
