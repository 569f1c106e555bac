"""
Uses: what stands for a connection of asyncpg's in a call, and how something is done by it.

asyncpg runs one statement of a connection at a time, and says so. While an app copies, its own code
may run in between, which must not use the database: the wire is the copy's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from atomicbatch.doors.asyncpg_kind import ASYNCPG, KIND
from atomicbatch.doors.asyncpg_sides import ATTRIBUTE, Abroad, Home, side_of
from atomicbatch.doors.server_uses import Use, use_of
from atomicbatch.errors import TransactionError
from atomicbatch.guard.places import Place
from atomicbatch.guard.watch import Watch, watching

Perform = Callable[[Any], Awaitable[Any]]
"""Does something by a protocol."""
_COPYING = (
    "a handler uses the database while it copies, but both share the batch's connection; do the "
    "one after the other, or copy from or to a list in memory"
)


def watch_on(protocol: Any) -> Watch | None:
    """Give the attempt that a protocol is used for; None: it is the batch's own, or for none."""
    watch = watching.get()
    if watch is not None and isinstance(getattr(protocol, ATTRIBUTE, None), Abroad):
        return None
    return watch


def connection_of(protocol: Any) -> Any:
    """Give the app's connection that a protocol is of; None: it is a batch's own."""
    side = side_of(protocol)
    return side.connection if isinstance(side, Home) else None


def use_of_connection(watch: Watch, connection: Any) -> Use | None:
    """Give what stands for a connection that is about to send something."""
    return use_of(watch, connection, KIND, executes=True)


def standing(watch: Watch, connection: Any) -> Use | None:
    """Give what stands for a connection, if the call has used it; never fails."""
    if connection is not None:
        with suppress(TransactionError):
            return use_of(watch, connection, KIND, executes=False)
    return None


# Something is done -------------------------------------------------------------------------------


async def one_at_a_time(use: Use, home: Any, statement: Callable[[], Awaitable[Any]]) -> Any:
    """Run one statement of a connection at a time, as asyncpg does."""
    side = side_of(home)
    if KIND.closed:
        await KIND.closed.end()
    if not isinstance(side, Home):
        return await statement()
    if side.is_busy:
        raise KIND.asyncpg.exceptions.InterfaceError(
            "cannot perform operation: another operation is in progress"
        )
    copy = _copying.get()
    if copy is not None and copy.place == ASYNCPG.place(side.connection):
        use.refuse(_COPYING)
    side.is_busy = True
    try:
        return await statement()
    finally:
        side.is_busy = False


def by(user: Any, perform: Perform) -> Perform:
    async def act(connection: Any) -> Any:
        protocol = KIND.protocol_of(connection)
        side = side_of(protocol)
        if isinstance(side, Abroad):
            side.note_user(user)
        return await perform(protocol)

    return act


def limit_of(home: Any, timeout: Any) -> Any:
    """Tell how many seconds a statement may take, as the app's connection has it."""
    no_timeout = KIND.asyncpg.no_timeout
    seconds = timeout if timeout is no_timeout else home._get_timeout(timeout)
    return no_timeout if seconds is None else seconds


# Copies ------------------------------------------------------------------------------------------


class Copying:
    """
    A copy, in whose course the app's own code runs while nobody else can use the wire.

    Attributes:
        place: The database; None once it is done.
    """

    def __init__(self, place: Place | None) -> None:
        self.place = place


_copying: ContextVar[Copying | None] = ContextVar("atomicbatch_copying", default=None)


@contextmanager
def copying(connection: Any) -> Iterator[None]:
    """Around a copy of a connection of the app's."""
    copy = Copying(ASYNCPG.place(connection))
    token = _copying.set(copy)
    try:
        yield
    finally:
        copy.place = None  # tasks that were begun meanwhile still have it
        _copying.reset(token)
