"""
Statements of asyncpg on both sides: on the app's connection, and on the batch's own.

Whichever side prepares a statement first, the other does it when the statement is used there. What
asyncpg knows of its parameters and columns is from the first time. Where the server now says
something else, a table has been altered meanwhile, and asyncpg is told what the server would say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from atomicbatch.doors.asyncpg_sides import Abroad, Home, Side


class Means(NamedTuple):
    """What asyncpg itself has for us."""

    prepare: Callable[..., Any]
    query: Callable[..., Any]
    close_portal: Callable[..., Any]
    state: Callable[..., Any]
    """Makes what asyncpg knows of one statement: PreparedStatementState."""
    record: type
    no_timeout: Any
    """In the place of seconds: for as long as it takes."""
    exceptions: Any


async def prepare_first(
    means: Means, protocol: Any, side: Any, state: Any, timeout: Any, home: Any
) -> None:
    """
    Prepare a statement that the app has not used before.

    Args:
        means: asyncpg's.
        protocol: Of the connection where it is to be used.
        side: Of that.
        state: What asyncpg is to know of the statement.
        timeout: In seconds, or ``means.no_timeout``.
        home: The protocol of the app's connection, with its codecs.
    """
    if side.has(state.name) and side.may_take(state.name, home):
        await _forget(means, protocol, state.name)
    await _describe(means, protocol, state, timeout)
    if state.name:
        side.note_prepared(state, home)
    else:
        # The next one without a name takes its place: asyncpg is to prepare it with each use.
        state.mark_unprepared()


async def prepare_again(
    means: Means, protocol: Any, side: Any, state: Any, timeout: Any, home: Any
) -> None:
    """
    Prepare a statement on this side as well, if it is not yet; arguments as before.

    Raises:
        InvalidCachedStatementError: It gives, or takes, something else than before.
    """
    if not state.name:
        if state.prepared and isinstance(side, Abroad):
            state.mark_unprepared()
        return
    if not side.lacks(state):
        return
    if side.has(state.name):
        await _forget(means, protocol, state.name)
    found = means.state(
        state.name, state.query, home, state.record_class, state.ignore_custom_codec
    )
    await _describe(means, protocol, found, timeout)
    if _columns(found) != _columns(state) or _parameters(found) != _parameters(state):
        await _forget(means, protocol, state.name)
        raise means.exceptions.InvalidCachedStatementError(
            "cached plan must not change result type"
        )
    side.note_prepared(state, home)


async def _describe(means: Means, protocol: Any, state: Any, timeout: Any) -> None:
    await means.prepare(
        protocol, state.name, state.query, timeout, state=state, record_class=state.record_class
    )


async def _forget(means: Means, protocol: Any, name: str) -> None:
    quoted = name.replace('"', '""')
    await means.query(protocol, f'DEALLOCATE "{quoted}"', None)


def note_born(side: Side | None, state: Any) -> None:
    """Take note that a statement was prepared in a batch: its own connection lacks it."""
    if isinstance(side, Home) and state.name:
        side.born[state.name] = state


def _columns(state: Any) -> Any:
    try:
        return state._get_attributes()
    except Exception:  # of a type that is not known yet
        return None


def _parameters(state: Any) -> Any:
    try:
        return state._get_parameters()
    except Exception:  # likewise; or it controls a transaction, and was never described
        return ()
