"""
Waiting: which database the thread of an event loop is waiting for, read off its stack.

Sync engines block the event loop while a statement runs. Whether one runs, and since when, could be
written down by those who run it, at a cost for every statement of every request. Here a thread that
looks from outside finds it out, and only while a batch is open: the stack of the loop's thread
shows SQLAlchemy, or a driver, in the middle of its work. A look takes some 20 microseconds.

Drivers written in C leave no trace of their own on the stack: psycopg2, sqlite3 and mysqlclient are
seen where SQLAlchemy calls them, but not where an app calls them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from weakref import ref

from sqlalchemy import URL
from sqlalchemy.engine import Connection
from sqlalchemy.pool import QueuePool
from sqlalchemy.util.queue import Queue

from atomicbatch.errors import NotBatchableError
from atomicbatch.guard.callers import function_of
from atomicbatch.sql.lexing import text_of
from atomicbatch.sql.statements import Family, Kind, read_statement
from atomicbatch.transactions.sqlalchemy.checkout import SessionCheckout
from atomicbatch.transactions.sqlalchemy.dialects import family_of
from atomicbatch.transactions.sqlalchemy.real import RealTransaction

_DRIVERS = frozenset({"MySQLdb", "psycopg", "pymysql"})
_CONNECTING = frozenset({"connect", "__init__"})
# They wait for nobody's locks.
_NEVER_WAIT = frozenset({Kind.READ, Kind.ROLLBACK, Kind.ROLLBACK_TO, Kind.SAVEPOINT, Kind.RELEASE})


class Wait:
    """
    One thing that a thread is in the middle of, as long as it is in the same.

    Attributes:
        since: When it was first seen, as time.monotonic() tells.
        real: Whose statement it is, where it is a batch's.
        url: The database, where that is known.
        family: Of that database, where it is known.
        may_wait: It may be waiting for a lock, or for a connection, that a batch holds.
        function: The innermost function of the app that led to it, in words.
    """

    __slots__ = ("_code", "_subject", "family", "function", "may_wait", "real", "since", "url")

    def __init__(self, code: CodeType, subject: object) -> None:
        self._code = code
        # Weak: nothing of the app's may live longer because we looked at it.
        self._subject = ref(subject)
        self.since = 0.0
        self.real: RealTransaction | None = None
        self.url: URL | None = None
        self.family: Family | None = None
        self.may_wait = True
        self.function = ""

    def is_same(self, other: Wait) -> bool:
        """Tell whether it is still the same statement, not the next one."""
        subject = self._subject()
        return self._code is other._code and subject is not None and subject is other._subject()


def wait_of(frame: FrameType | None) -> Wait | None:
    """
    Tell what the thread with this stack is waiting in.

    Returns:
        None where it is in no database at all, or in an async engine's, which waits elsewhere.
    """
    try:
        wait = _read(frame)
    except (AttributeError, KeyError, TypeError):
        return None  # it has gone on while we looked at it
    if wait is not None:
        wait.function = function_of(frame)
    return wait


def _read(frame: FrameType | None) -> Wait | None:
    driver: FrameType | None = None
    for inner in _outwards(frame):
        reader = _READERS.get(inner.f_code)
        if reader is not None:
            return reader(inner)
        if _library_of(inner) in _DRIVERS:
            if inner.f_code.co_name in _CONNECTING:
                return None  # no lock is in the way of that
            driver = inner
    return _driver(driver) if driver is not None else None


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _library_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


# What is told by a frame -------------------------------------------------------------------------


def _statement(frame: FrameType) -> Wait | None:
    """Connection._exec_single_context() and its like."""
    found = frame.f_locals
    connection: Connection = found["self"]
    if connection.dialect.is_async:
        return None
    context = found["context"]
    wait = Wait(frame.f_code, connection if context is None else context)
    text = found["statement"] if context is None else context.statement
    return _of_connection(wait, connection, text)


def _commit(frame: FrameType) -> Wait | None:
    """Connection._commit_impl(): constraints that are checked last may wait."""
    connection: Connection = frame.f_locals["self"]
    if connection.dialect.is_async:
        return None
    return _of_connection(Wait(frame.f_code, connection), connection, None)


def _of_connection(wait: Wait, connection: Connection, text: object) -> Wait:
    wait.url = connection.engine.url
    try:
        wait.family = family_of(connection.dialect)
    except NotBatchableError:
        return wait
    if text is not None:
        wait.may_wait = read_statement(text_of(text), wait.family).kind not in _NEVER_WAIT
    return wait


def _queue(frame: FrameType) -> Wait | None:
    """The queue of a pool, until somebody gives a connection back."""
    outer = frame.f_back
    pool = None if outer is None else outer.f_locals["self"]
    if not isinstance(pool, QueuePool) or pool._dialect.is_async:
        return None
    return Wait(frame.f_code, pool)


def _checkout(frame: FrameType) -> Wait | None:
    return _own(frame, frame.f_locals["self"].real)


def _real(frame: FrameType) -> Wait | None:
    return _own(frame, frame.f_locals["self"])


def _own(frame: FrameType, real: RealTransaction) -> Wait | None:
    if real.dialect.is_async:
        return None
    wait: Wait | None = None
    for outer in _outwards(frame):
        if outer.f_code in _STATEMENTS:
            wait = _statement(outer)
            break
    # Without SQLAlchemy nothing tells one statement from the next.
    wait = wait or Wait(frame.f_code, real)
    wait.real, wait.url, wait.family = real, real.url, real.family
    return wait


def _driver(frame: FrameType) -> Wait | None:
    """A driver written in Python, called by the app itself: what it does is not known."""
    subject = frame.f_locals.get("self")
    if subject is None or type(subject).__name__.startswith("Async"):
        return None
    return Wait(frame.f_code, subject)


_READERS: dict[CodeType, Callable[[FrameType], Wait | None]] = {}


# A name that is missing is an error at once, rather than a watchdog that sees nothing.
_STATEMENTS = frozenset(
    {
        Connection._exec_single_context.__code__,
        Connection._exec_insertmany_context.__code__,
        Connection._cursor_execute.__code__,
    }
)
_READERS |= dict.fromkeys(_STATEMENTS, _statement)
_READERS[Connection._commit_impl.__code__] = _commit
_READERS[Queue.get.__code__] = _queue
_USES = (
    *(SessionCheckout.perform, SessionCheckout.fetch, SessionCheckout.before_copy),
    *(SessionCheckout.commit, SessionCheckout.rollback, SessionCheckout.close),
)
_READERS |= dict.fromkeys((use.__code__ for use in _USES), _checkout)
_READERS[RealTransaction.begin.__code__] = _real
