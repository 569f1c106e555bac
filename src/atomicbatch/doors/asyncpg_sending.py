"""
What asyncpg's ``Protocol`` sends: in a batch's call, by the wire's protocol.

The method that the app's connection calls runs there, with what it was given: so rows and codecs
are those of the app's connection. What only controls a transaction is not sent, and gets the answer
that the server would give.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from atomicbatch.doors import asyncpg_statements as statements
from atomicbatch.doors.asyncpg_kind import ASYNCPG, KIND
from atomicbatch.doors.asyncpg_sides import ATTRIBUTE, Abroad, Home, note_portal, side_of
from atomicbatch.doors.asyncpg_uses import (
    Perform,
    by,
    connection_of,
    limit_of,
    one_at_a_time,
    standing,
    use_of_connection,
    watch_on,
)
from atomicbatch.doors.custom_settings import note_custom
from atomicbatch.doors.server_uses import NOT_SENT, Use
from atomicbatch.guard.watch import Watch, watching
from atomicbatch.sql.kinds import Family, Kind, Statement
from atomicbatch.sql.statements import read_statement

Found = Callable[..., Any]

PREPARES = "SELECT 1"
"""Stands for what only reads catalogs: preparing a statement, asking about types."""
_LISTENS = re.compile(r"\s*(?:UN)?LISTEN\b", re.IGNORECASE)
_LISTENING = (
    "a handler listens for notifications, or stops listening, which is a matter of its own "
    "connection and not of the batch's transaction; listen when the app starts"
)
_UTF8 = re.compile(r"['\"\s]utf-?8\b|\Autf-?8\Z", re.IGNORECASE)
_ENCODING = (
    "a handler changes the client encoding of its connection, by which asyncpg reads what all of "
    "the batch's connections share; leave it UTF8, or set it before, outside of batches"
)
# The server's word for what has been done.
_TAGS = {
    Kind.BEGIN: "BEGIN",
    Kind.COMMIT: "COMMIT",
    Kind.ROLLBACK: "ROLLBACK",
    Kind.SAVEPOINT: "SAVEPOINT",
    Kind.ROLLBACK_TO: "ROLLBACK",
    Kind.RELEASE: "RELEASE",
    Kind.ISOLATION: "SET",
}
_BEGINNING = ("BEGIN", "START TRANSACTION")
# For what may go ahead of a handler's statement.
_AHEAD_TAGS = (b"BEGIN", b"SAVEPOINT", b"RELEASE")


# The way of all that is sent ----------------------------------------------------------------------


async def send(home: Any, watch: Watch, sql: str, parameters: Any, perform: Perform) -> Any:
    """
    Send what the app's connection would send, in the batch if it takes part.

    Args:
        home: The connection's protocol.
        watch: The attempt that this code works for.
        sql: What is sent.
        parameters: What goes along with it.
        perform: Sends it by a protocol.

    Returns:
        What ``perform`` returns, or NOT_SENT.
    """
    connection = connection_of(home)
    if connection is None:
        return await perform(home)
    use = use_of_connection(watch, connection)
    if use is None:
        watch.sends(connection, ASYNCPG, sql)
        return await perform(home)
    if _LISTENS.match(sql):
        use.refuse(_LISTENING)
    statement = read_statement(sql, Family.POSTGRESQL)
    side = getattr(home, ATTRIBUTE)
    if statement.settings and _changes_encoding(connection, sql, statement, parameters):
        use.refuse(_ENCODING)
    if statement.lasting:
        side.settings.update(statement.settings)
    if statement.kind in (Kind.COMMIT, Kind.ROLLBACK) and side.portals:
        await _close_portals(use, side, is_commit=statement.kind is Kind.COMMIT)
    if statement.kind is Kind.ROLLBACK and not statement.chains:
        # Also where the batch has failed, so that connections go back to their pools.
        await one_at_a_time(use, home, use.rollback_async)
        return NOT_SENT
    act = by(connection, perform)
    return await one_at_a_time(use, home, lambda: use.perform_async(sql, parameters, act))


def _changes_encoding(connection: Any, sql: str, statement: Statement, parameters: Any) -> bool:
    """Tell whether a statement makes another client encoding, or may do so."""
    given = [one for one in parameters or () if isinstance(one, str)]
    names = statement.settings if statement.settings != ("?",) else map(str.lower, given)
    if "client_encoding" not in names:
        return False
    is_utf8 = connection.get_settings().client_encoding.upper() == "UTF8"
    return not (is_utf8 and any(map(_UTF8.search, (sql, *given))))


async def _close_portals(use: Use, side: Home, *, is_commit: bool) -> None:
    """Close the cursors that end with a transaction; rolling it back closes them by itself."""
    names, side.portals = side.portals, set()

    async def perform(wire: Any) -> None:
        protocol = KIND.protocol_of(wire)
        for name in names:
            await KIND.asyncpg.close_portal(protocol, name, KIND.asyncpg.no_timeout)

    if is_commit and not use.is_broken():
        await use.fetch_async(perform)


async def reset_settings(use: Use, connection: Any) -> None:
    """Reset what a connection has set in the batch, as it is when it goes back to its pool."""
    side = side_of(connection._protocol)
    if not isinstance(side, Home):
        return
    names, side.settings = side.settings - {"?"}, set()
    for name in sorted(names):
        text = f"RESET {name}"

        async def perform(wire: Any, text: str = text) -> Any:
            return await KIND.asyncpg.query(KIND.protocol_of(wire), text, None)

        await use.perform_async(text, None, perform)


# SQL by itself ------------------------------------------------------------------------------------


def querying(found: Found) -> Found:
    def query(self: Any, query: Any, timeout: Any) -> Any:
        watch = watching.get()
        if watch is None or (watch := watch_on(self)) is None:
            note_custom(query)
            return found(self, query, timeout)
        return _query(found, self, watch, query, timeout)

    return query


async def _query(found: Found, home: Any, watch: Watch, query: str, timeout: Any) -> Any:
    seconds = home._get_timeout(timeout)

    async def perform(protocol: Any) -> Any:
        # In one message with it, ours could not be told from it.
        await KIND.send_ahead(protocol, side_of(protocol))
        return await found(protocol, query, seconds)

    tag = _tag(home, watch, query)
    try:
        result = await send(home, watch, query, None, perform)
    except BaseException:
        if tag in _BEGINNING and (connection := connection_of(home)) is not None:
            # asyncpg believes in its transaction from before it is begun, and for ever.
            connection._top_xact = None
        raise
    return tag if result is NOT_SENT else result


def _tag(home: Any, watch: Watch | None, sql: str) -> str:
    """Tell what the server will say to a statement that controls the transaction."""
    kind = read_statement(sql, Family.POSTGRESQL).kind
    if kind is Kind.BEGIN and sql.lstrip()[:5].upper() == "START":
        return "START TRANSACTION"
    if kind is Kind.COMMIT and watch is not None:
        use = standing(watch, connection_of(home))
        if use is not None and use.is_broken():
            return "ROLLBACK"
    return _TAGS.get(kind, "")


# Statements that are prepared ---------------------------------------------------------------------


def preparing(found: Found) -> Found:
    def prepare(self: Any, stmt_name: Any, query: Any, timeout: Any, **options: Any) -> Any:
        watch = watching.get()
        connection = None if watch is None else connection_of(self)
        if watch is None or connection is None:
            return found(self, stmt_name, query, timeout, **options)
        use = use_of_connection(watch, connection)
        if use is None:
            watch.sends(connection, ASYNCPG, query)
            return found(self, stmt_name, query, timeout, **options)
        state = options.get("state") or KIND.asyncpg.state(
            stmt_name,
            query,
            self,
            options["record_class"],
            options.get("ignore_custom_codec", False),
        )
        return _prepare(self, use, connection, state, timeout)

    return prepare


async def _prepare(home: Any, use: Use, connection: Any, state: Any, timeout: Any) -> Any:
    limit = limit_of(home, timeout)

    async def perform(protocol: Any) -> None:
        side = side_of(protocol)
        if isinstance(side, Abroad) and side.ahead[:1] and side.ahead[0].startswith("BEGIN"):
            # asyncpg learns of it with the next Sync, and there is none behind this.
            await KIND.send_ahead(protocol, side)
        await statements.prepare_first(KIND.asyncpg, protocol, side, state, limit, home)

    if read_statement(state.query, Family.POSTGRESQL).kind not in _TAGS:
        act = by(connection, perform)
        await one_at_a_time(use, home, lambda: use.perform_async(PREPARES, None, act))
    elif not state.name:
        state.mark_unprepared()
    statements.note_born(side_of(home), state)
    return state


def executing(found: Found) -> Found:
    def bind_execute(
        self: Any,
        state: Any,
        args: Any,
        portal_name: str,
        limit: int,
        return_extra: bool,
        timeout: Any,
    ) -> Any:
        watch = watching.get()
        if watch is None:
            side = getattr(self, ATTRIBUTE, None)
            if side is None or not side.born or not side.lacks(state):
                note_custom(state.query, args)
                return found(self, state, args, portal_name, limit, return_extra, timeout)
        elif (watch := watch_on(self)) is None:
            return found(self, state, args, portal_name, limit, return_extra, timeout)

        async def perform(protocol: Any, seconds: Any) -> Any:
            result = await found(protocol, state, args, portal_name, limit, return_extra, seconds)
            note_portal(self, protocol, portal_name)
            if return_extra and protocol is not self and result[1] in _AHEAD_TAGS:
                # The answer to ours; to the statement there was none yet, since it has more rows.
                return result[0], None, False
            return result

        tag = _tag(self, watch, state.query)
        nothing: Any = ([], tag.encode(), True) if return_extra else []
        return _execute(self, watch, state, args, timeout, perform, nothing)

    return bind_execute


def executing_many(found: Found) -> Found:
    def bind_execute_many(
        self: Any, state: Any, args: Any, portal_name: str, timeout: Any, return_rows: bool
    ) -> Any:
        watch = watching.get()
        if watch is None:
            side = getattr(self, ATTRIBUTE, None)
            if side is None or not side.born or not side.lacks(state):
                return found(self, state, args, portal_name, timeout, return_rows)
        elif (watch := watch_on(self)) is None:
            return found(self, state, args, portal_name, timeout, return_rows)

        async def perform(protocol: Any, seconds: Any) -> Any:
            return await found(protocol, state, args, portal_name, seconds, return_rows)

        nothing: Any = [] if return_rows else None
        return _execute(self, watch, state, None, timeout, perform, nothing)

    return bind_execute_many


def binding(found: Found) -> Found:
    def bind(self: Any, state: Any, args: Any, portal_name: str, timeout: Any) -> Any:
        watch = watching.get()
        if watch is None:
            side = getattr(self, ATTRIBUTE, None)
            if side is None or not side.born or not side.lacks(state):
                return found(self, state, args, portal_name, timeout)
        elif (watch := watch_on(self)) is None:
            return found(self, state, args, portal_name, timeout)

        async def perform(protocol: Any, seconds: Any) -> Any:
            result = await found(protocol, state, args, portal_name, seconds)
            note_portal(self, protocol, portal_name)
            return result

        return _execute(self, watch, state, args, timeout, perform, None)

    return bind


async def _execute(
    home: Any,
    watch: Watch | None,
    state: Any,
    args: Any,
    timeout: Any,
    perform: Callable[[Any, Any], Awaitable[Any]],
    nothing: Any,
) -> Any:
    limit = limit_of(home, timeout)

    async def act(protocol: Any) -> Any:
        side = side_of(protocol)
        if side is not None:
            await statements.prepare_again(KIND.asyncpg, protocol, side, state, limit, home)
        return await perform(protocol, limit)

    if watch is None:
        return await act(home)
    result = await send(home, watch, state.query, args, act)
    return nothing if result is NOT_SENT else result


def forgetting(found: Found) -> Found:
    """Around the closing of a statement that asyncpg has no more use for."""

    def close_statement(self: Any, state: Any, timeout: Any) -> Any:
        side = getattr(self, ATTRIBUTE, None)
        if isinstance(side, Home) and side.lacks(state):
            return _forget(side, state)
        return found(self, state, timeout)

    return close_statement


async def _forget(side: Home, state: Any) -> None:
    del side.born[state.name]
    state.mark_closed()


# What is known without sending --------------------------------------------------------------------


def telling(found: Found) -> Found:
    def is_in_transaction(self: Any) -> Any:
        watch = watching.get()
        use = None if watch is None else standing(watch, connection_of(self))
        return found(self) if use is None else use.in_transaction()

    return is_in_transaction
