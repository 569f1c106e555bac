"""
The cursors of psycopg2.

They are written in C, and each belongs to one connection for good. So a connection with a door
gives cursors of a subclass of the class that the app wants. Outside of batches they pass everything
on. In a call of a batch, where the connection is joined, a statement is run by another cursor, of
the batch's own connection: the *inner* one. From then on the app's cursor is of a class that shows
what the inner one has::

    app's cursor.execute() -> inner.execute() -> the batch's own connection
    app's cursor.fetchone(), .description ...  -> inner's

When it is next used to execute anything, it is first of its own class again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from atomicbatch.doors import psycopg2_refusals as refusals
from atomicbatch.doors.custom_settings import note_custom
from atomicbatch.doors.psycopg2_inner import Inner, NamedInner, Names, declaration, inner_of
from atomicbatch.doors.psycopg2_kind import KIND, PSYCOPG2, plain
from atomicbatch.doors.server_uses import NOT_SENT, Use, use_of
from atomicbatch.guard.watch import watching
from atomicbatch.sql.custom_settings import MOST_CHARACTERS as _KEPT
from atomicbatch.sql.custom_settings import settings_named
from atomicbatch.sql.kinds import Family
from atomicbatch.sql.lexing import text_of
from atomicbatch.sql.writing import verb_of

_LISTENS = re.compile(r"\s*LISTEN\b", re.IGNORECASE)
_DISCARDS = re.compile(r"\s*DISCARD\s+ALL\s*;?\s*", re.IGNORECASE)
_FIRST_WORDS = re.compile(r"\s*(START\s+TRANSACTION|\w+)", re.IGNORECASE)
# What the server answers to some statements, if not their first word.
_TAGS = {"END": "COMMIT", "ABORT": "ROLLBACK"}
_READING = "SELECT 1"
"""Stands for copies out of a table."""


class Cursor:
    """What is put in front of psycopg2's cursors."""

    connection: Any
    name: Any
    execute: Any

    def executemany(self, query: Any, vars_list: Any) -> Any:
        """Execute SQL once for each set of parameters."""
        if watching.get() is not None and (use := _use_or_ask(self, query)) is not None:
            return _execute_many(self, use, query, vars_list)
        return plain.cursor.executemany(self, query, vars_list)

    def callproc(self, procname: Any, parameters: Any = None) -> Any:
        """Call a function of the database, which may do anything."""
        if watching.get() is not None:
            use = _use_or_ask(self, "CALL procedure")
            if use is not None:
                return _call(self, use, procname, parameters)
        note_custom(_as_call(procname, parameters), parameters)
        return plain.cursor.callproc(self, procname, parameters)

    def copy_from(self, *args: Any, **options: Any) -> Any:
        """Copy rows into a table."""
        return _copy(self, "copy_from", "COPY a FROM STDIN", *args, **options)

    def copy_to(self, *args: Any, **options: Any) -> Any:
        """Copy rows out of a table."""
        return _copy(self, "copy_to", _READING, *args, **options)

    def copy_expert(self, sql: Any, *args: Any, **options: Any) -> Any:
        """Copy rows, whichever way."""
        if not isinstance(sql, str | bytes):
            sql = sql.as_string(self)
        reads = watching.get() is not None and not verb_of(sql, Family.POSTGRESQL)
        return _copy(self, "copy_expert", _READING if reads else sql, sql, *args, **options)


def _executing(found: Callable[..., Any]) -> Callable[..., Any]:
    # Asked by its name each time: in tests another variable stands there (testing/following.py).
    def execute(self: Any, query: Any, vars: Any = None) -> Any:  # noqa: A002  # as psycopg2's
        """Execute SQL."""
        if watching.get() is None or (use := _use_or_ask(self, query)) is None:
            # The driver is so fast that a function more is felt.
            if query.__class__ is not str or len(query) > _KEPT or settings_named(query):
                note_custom(query, vars)
            return found(self, query, vars)
        return _execute(self, use, query, vars)

    return execute


def prepare() -> None:
    """Make ready for psycopg2, which has just been imported."""
    Cursor.execute = _executing(plain.cursor.execute)


class Joined(Cursor):
    """
    What is put in front of a cursor that shows what an inner one has.

    Attributes:
        _atomicbatch: The inner cursor.
    """

    _atomicbatch: Any
    arraysize: int
    closed: bool

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002
        if self.name is not None and not self.closed:
            raise plain.error("can't call .execute() on named cursors more than once")
        leave(self)
        return Cursor.execute(self, query, vars)

    def executemany(self, query: Any, vars_list: Any) -> Any:
        leave(self)
        return Cursor.executemany(self, query, vars_list)

    def callproc(self, procname: Any, parameters: Any = None) -> Any:
        leave(self)
        return Cursor.callproc(self, procname, parameters)

    def copy_from(self, *args: Any, **options: Any) -> Any:
        leave(self)
        return Cursor.copy_from(self, *args, **options)

    def copy_to(self, *args: Any, **options: Any) -> Any:
        leave(self)
        return Cursor.copy_to(self, *args, **options)

    def copy_expert(self, sql: Any, *args: Any, **options: Any) -> Any:
        leave(self)
        return Cursor.copy_expert(self, sql, *args, **options)

    def fetchone(self) -> Any:
        return _ready(self).fetchone()

    def fetchmany(self, size: int | None = None) -> Any:
        return _ready(self).fetchmany(self.arraysize if size is None else size)

    def fetchall(self) -> Any:
        return _ready(self).fetchall()

    def __next__(self) -> Any:
        return next(_ready(self))

    def scroll(self, value: int, mode: str = "relative") -> None:
        self._atomicbatch.scroll(value, mode)

    def close(self) -> None:
        self._atomicbatch.close()
        plain.cursor.close(self)


def _shown(name: str) -> property:
    """Show an attribute of the inner cursor."""
    return property(lambda cursor: getattr(cursor._atomicbatch, name))


for _name in (
    *("description", "rowcount", "rownumber", "lastrowid", "statusmessage", "query"),
    *("pgresult_ptr", "typecaster"),
):
    setattr(Joined, _name, _shown(_name))


def _ready(cursor: Any) -> Any:
    inner = cursor._atomicbatch
    inner.get_ready(cursor)
    return inner


# Its classes -------------------------------------------------------------------------------------


def asking_cursor(factory: Any) -> Any:
    """Put ours between a class of the app's for cursors and the driver's own."""
    if factory is None or isinstance(factory, type):
        return _asking(factory)
    return lambda *args, **options: _with_door(factory(*args, **options))


@lru_cache(maxsize=1024)
def _asking(factory: type | None) -> Any:
    return plain.in_front(Cursor, plain.cursor, factory)


def _with_door(cursor: Any) -> Any:
    """Give a cursor a door that somebody's function has made."""
    if not isinstance(cursor, plain.cursor) or type(give_cursor_door(cursor)) is not plain.cursor:
        return cursor
    made = asking_cursor(None)
    like = made(cursor.connection) if cursor.name is None else made(cursor.connection, cursor.name)
    for name in ("arraysize", "itersize", "row_factory", "tzinfo_factory", "withhold"):
        setattr(like, name, getattr(cursor, name))
    return like


def give_cursor_door(cursor: Any) -> Any:
    """Give a cursor a door that has none, unless its class cannot be changed; return the cursor."""
    kind = type(cursor)
    if kind is not plain.cursor and not isinstance(cursor, (Cursor, plain.our_cursor)):
        cursor.__class__ = asking_cursor(kind)
    return cursor


@lru_cache(maxsize=1024)
def _joined(kind: type) -> type:
    """The class of a cursor of this class, while it shows what an inner one has."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    bases = (kind, plain.in_front(Joined, plain.cursor))
    return type(kind.__name__, bases, {**names, "_atomicbatch_class": kind})


def show(cursor: Any, inner: Any) -> None:
    """Let a cursor of the app's show what an inner one has."""
    if not isinstance(cursor, Joined):
        cursor.__class__ = _joined(type(cursor))  # type: ignore[arg-type]  # it is hashable
    cursor._atomicbatch = inner


def leave(cursor: Any) -> None:
    """Let a cursor of the app's be of its own class again."""
    if isinstance(cursor, Joined):
        cursor.__class__ = cursor._atomicbatch_class  # type: ignore[attr-defined]
        del cursor._atomicbatch


# In a batch --------------------------------------------------------------------------------------


def _use_or_ask(cursor: Any, query: Any) -> Use | None:
    """Find what stands for a cursor's connection; where nothing does, ask the guard."""
    watch = watching.get()
    if watch is None or cursor.closed:
        return None  # closed: the driver itself says so
    connection = cursor.connection
    use = use_of(watch, connection, KIND, executes=True)
    if use is None:
        watch.sends(connection, PSYCOPG2, query)
    elif connection.async_:
        use.refuse(refusals.ASYNCHRONOUS)
    elif not hasattr(connection, "_atomicbatch_mark"):
        advice = watch.allowed.advice
        use.refuse(refusals.EARLY.format(since=advice.joins_since, first=advice.join_first))
    return use


def _perform(
    cursor: Any,
    use: Use,
    text: str,
    act: Callable[[Any], Any],
    *,
    parameters: Iterable[Any] | None = None,
    kind: type[Inner] = Inner,
) -> Any:
    """
    Perform a statement by an inner cursor.

    Args:
        cursor: The app's.
        use: What stands for its connection.
        text: What the statement is read as.
        act: Executes it, given the inner cursor.
        parameters: What the driver was given for it.
        kind: Of the inner cursor.
    """
    connection = cursor.connection

    def perform(wire: Any) -> Any:
        if wire.encoding != connection.encoding:
            use.refuse(refusals.ENCODING)
        inner = inner_of(cursor, wire, kind)
        show(cursor, inner)
        connection._atomicbatch_running = True
        try:
            return act(inner)
        finally:
            connection._atomicbatch_running = False
            _bring_notices(wire, connection)

    result = use.perform(text, parameters, perform)
    if result is NOT_SENT:
        # It has been done; there are no rows.
        inner = inner_of(cursor, use.wire)
        inner.told = {"statusmessage": _tag(text), "query": text.encode()}
        show(cursor, inner)
        return None
    return result


def _tag(text: str) -> str:
    found = _FIRST_WORDS.match(text)
    words = " ".join(found[1].upper().split()) if found else ""
    return _TAGS.get(words, words)


def _bring_notices(wire: Any, connection: Any) -> None:
    """Give the app's connection what the server has told the batch's own."""
    if wire is not connection and (notices := wire.notices):
        connection.notices = [*connection.notices, *notices][-50:]  # as many as the driver keeps
        wire.notices = []


def _execute(cursor: Any, use: Use, query: Any, parameters: Any) -> Any:
    text = query if isinstance(query, str | bytes) else query.as_string(cursor)
    read = text_of(text)
    if cursor.name is not None:
        return _declare(cursor, use, read, parameters)
    if _LISTENS.match(read):
        use.refuse(refusals.LISTENING)
    if _DISCARDS.fullmatch(read) and KIND.is_auto(cursor.connection) and not use.in_transaction():
        # What Pony says before it gives a connection back. Its own transactions have ended.
        KIND.forget_settings(cursor.connection, use, "DISCARD ALL")
        read = "ROLLBACK"
    return _perform(
        cursor,
        use,
        read,
        lambda inner: plain.execute(inner, text, parameters),
        parameters=_values(parameters),
    )


def _values(parameters: Any) -> Iterable[Any] | None:
    return (parameters,) if isinstance(parameters, dict) else parameters


def _execute_many(cursor: Any, use: Use, query: Any, sets: Iterable[Any]) -> Any:
    if cursor.name is not None:
        return plain.cursor.executemany(cursor, query, sets)  # which refuses it
    text = query if isinstance(query, str | bytes) else query.as_string(cursor)
    if use.in_transaction() or not KIND.is_auto(cursor.connection):
        return _perform(
            cursor, use, text_of(text), lambda inner: plain.cursor.executemany(inner, text, sets)
        )
    # Each commits by itself.
    total = 0
    for one in sets:
        _execute(cursor, use, text, one)
        total += max(0, cursor.rowcount)
        cursor._atomicbatch.told["rowcount"] = total
    return None


def _call(cursor: Any, use: Use, name: Any, parameters: Any) -> Any:
    if cursor.name is not None:
        return plain.cursor.callproc(cursor, name, parameters)  # which refuses it
    return _perform(
        cursor,
        use,
        _as_call(name, parameters),
        lambda inner: plain.cursor.callproc(inner, name, parameters),
        parameters=_values(parameters),
    )


def _as_call(name: Any, parameters: Any) -> str:
    """Write what the driver sends for a call of a function; ours is read, not sent."""
    marks = ", ".join(["%s"] * len(parameters or ()))
    return f"SELECT * FROM {text_of(name)}({marks})"  # noqa: S608


def _copy(cursor: Any, method: str, reads_as: Any, *args: Any, **options: Any) -> Any:
    copy = getattr(plain.cursor, method)
    if watching.get() is not None and (use := _use_or_ask(cursor, reads_as)) is not None:
        return _perform(cursor, use, text_of(reads_as), lambda inner: copy(inner, *args, **options))
    return copy(cursor, *args, **options)


def _declare(cursor: Any, use: Use, query: str, parameters: Any) -> None:
    """Open a cursor in the server."""
    connection = cursor.connection
    if KIND.is_auto(connection) and not cursor.withhold:
        raise plain.error("can't use a named cursor outside of transactions")
    label = plain.quote(cursor.name, connection)
    text = declaration(cursor, label, query, has_parameters=parameters is not None)

    def declare(inner: Any) -> None:
        Names.of(use.wire).take(label, cursor, use, use.wire)
        inner.label, inner.mark = label, connection._atomicbatch_mark
        plain.execute(inner, text, parameters)
        inner.told = {"query": inner.query}

    _perform(cursor, use, query, declare, parameters=_values(parameters), kind=NamedInner)
