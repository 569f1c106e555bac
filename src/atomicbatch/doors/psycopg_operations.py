"""
Operations: what psycopg does in several steps, done in the batch's transaction.

psycopg writes each operation once, as a generator that a connection's ``wait`` runs, sync or async.
In a batch the door gives an :class:`Operation` in its place::

    cursor.execute("INSERT ...")                      psycopg's, unchanged
      connection.wait(cursor._execute_gen("INSERT"))  the door gives an Operation
        Operation.run()                               gives it to what stands for the connection
          use.perform("INSERT", ...)                  the join sends its savepoints
            wire.wait(psycopg's own generator)        by the app's cursor, moved to the wire

So psycopg's own code converts parameters and reads results, by whatever adapters, loaders and row
factories the app has given its cursor. A cursor is on the wire while one statement runs.

What psycopg does on connections (``commit``, ``transaction()``) is its own code, too: it is shown
a connection whose transaction is the one in the batch (:class:`Seeming`), and what it wants to
send is taken from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, Protocol, TypeAlias

from atomicbatch.doors.server_uses import NOT_SENT, Use
from atomicbatch.guard.watch import aside
from atomicbatch.sql.kinds import Family, Kind
from atomicbatch.sql.lexing import text_of
from atomicbatch.sql.statements import read_statement

AT = "_atomicbatch_at"
"""The attribute of an app's connection that tells on which wire its statement runs now."""
_TAGS = {
    Kind.BEGIN: "BEGIN",
    Kind.COMMIT: "COMMIT",
    Kind.ROLLBACK: "ROLLBACK",
    Kind.SAVEPOINT: "SAVEPOINT",
    Kind.RELEASE: "RELEASE",
    Kind.ROLLBACK_TO: "ROLLBACK",
    Kind.ISOLATION: "SET",
}
# libpq's PQtransactionStatus().
_IDLE, _IN_TRANSACTION, _IN_ERROR, _UNKNOWN = 0, 2, 3, 4


class Step(Protocol):
    """One thing that an operation wants done."""

    def do(self, use: Use) -> Any:
        """Do it; may block."""

    async def do_async(self, use: Use) -> Any:
        """Do it."""


Plan: TypeAlias = Generator[Step, Any, Any]
"""Yields steps, is sent what they come to, or has their error thrown in."""


class Operation:
    """
    Stands for a generator of psycopg's.

    Args:
        use: What stands for the connection.
        plan: What is to be done.
    """

    __slots__ = ("_plan", "_use")

    def __init__(self, use: Use, plan: Plan) -> None:
        self._use = use
        self._plan = plan

    def __iter__(self) -> Operation:
        return self

    def __next__(self) -> NoReturn:
        # What psycopg's sync ``wait`` does with a generator: this one is done at once.
        raise StopIteration(self.run())

    def send(self, _: Any) -> NoReturn:
        """Likewise; psycopg 3.2 looks for it."""
        raise StopIteration(self.run())

    def run(self) -> Any:
        """Do it, by a sync connection."""
        plan = self._plan
        try:
            step = next(plan)
            while True:
                try:
                    answer = step.do(self._use)
                except BaseException as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(answer)
        except StopIteration as end:
            return end.value

    async def run_async(self) -> Any:
        """Do it, by an async connection."""
        plan = self._plan
        try:
            step = next(plan)
            while True:
                try:
                    answer = await step.do_async(self._use)
                except BaseException as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(answer)
        except StopIteration as end:
            return end.value


# Steps ------------------------------------------------------------------------------------------


class OnWire(NamedTuple):
    """
    Something that psycopg does on the wire.

    Attributes:
        cursor: The app's, which is moved there meanwhile; None: none.
        make: Makes psycopg's generator, given the wire.
        rides: psycopg asks for a pipeline before it sends it, so that SQL of ours can go ahead of
            it in the same round trip; see ``drivers/psycopg_ahead.py``.
    """

    cursor: Any
    make: Callable[[Any], Generator[Any, Any, Any]]
    rides: bool = False

    def do(self, wire: Any) -> Any:
        with aside(), moved(self.cursor, wire):
            return wire.wait(self._generator(wire))

    async def do_async(self, wire: Any) -> Any:
        with aside(), moved(self.cursor, wire):
            return await wire.wait(self._generator(wire))

    def _generator(self, wire: Any) -> Generator[Any, Any, Any]:
        if not self.rides and wire._pipeline is not None:
            yield from wire._pipeline.alone_gen()
        return (yield from self.make(wire))


class Statement(NamedTuple):
    """A statement of the app's; it comes to NOT_SENT if it is about the transaction only."""

    sql: str
    parameters: Any
    act: OnWire

    def do(self, use: Use) -> Any:
        return use.perform(self.sql, self.parameters, self.act.do)

    async def do_async(self, use: Use) -> Any:
        return await use.perform_async(self.sql, self.parameters, self.act.do_async)


class Fetch(NamedTuple):
    """Rows of a cursor in the server, or its end."""

    act: OnWire

    def do(self, use: Use) -> Any:
        return use.fetch(self.act.do)

    async def do_async(self, use: Use) -> Any:
        return await use.fetch_async(self.act.do_async)


class Command(NamedTuple):
    """What psycopg itself sends on a connection, such as ``commit()``."""

    sql: bytes

    def do(self, use: Use) -> None:
        if self.sql == b"COMMIT":
            use.commit()
        elif self.sql == b"ROLLBACK":
            use.rollback()
        else:
            self._as_statement().do(use)

    async def do_async(self, use: Use) -> None:
        if self.sql == b"COMMIT":
            await use.commit_async()
        elif self.sql == b"ROLLBACK":
            await use.rollback_async()
        else:
            await self._as_statement().do_async(use)

    def _as_statement(self) -> Statement:
        act = OnWire(None, lambda wire: wire._exec_command(self.sql))
        return Statement(self.sql.decode(), None, act)


@contextmanager
def moved(cursor: Any, wire: Any) -> Iterator[None]:
    """Let a cursor work on another connection than its own."""
    if cursor is None or cursor._conn is wire:
        yield
        return
    own, pgconn = cursor._conn, cursor._pgconn
    cursor._conn, cursor._pgconn = wire, wire.pgconn
    # What the server has to say about it goes to the app's.
    handlers, wire._notice_handlers = wire._notice_handlers, own._notice_handlers
    setattr(own, AT, wire)
    try:
        yield
    finally:
        delattr(own, AT)
        wire._notice_handlers = handlers
        cursor._conn, cursor._pgconn = own, pgconn


# What psycopg is shown --------------------------------------------------------------------------


class Seeming:
    """
    A connection of the app's, as it would be if its transaction were its own.

    psycopg's code is run with it in the place of the connection. It yields what it wants to send.
    """

    def __init__(self, connection: Any, use: Use) -> None:
        self.__dict__.update(_connection=connection, pgconn=SeemingLink(connection, use))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._connection, name, value)

    @property
    def _prepared(self) -> _NothingPrepared:
        return _NothingPrepared()

    def _exec_command(self, command: Any, *_: Any, **__: Any) -> Plan:
        if not isinstance(command, bytes):
            command = text_of(command).encode()
        yield Command(command)


class SeemingLink:
    """libpq's connection, likewise."""

    def __init__(self, connection: Any, use: Use) -> None:
        self._connection = connection
        self._use = use

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection.pgconn, name)

    @property
    def transaction_status(self) -> int:
        """As libpq tells it."""
        wire = getattr(self._connection, AT, None)
        if wire is not None:
            return int(wire.pgconn.transaction_status)
        if self._connection.closed:
            return _UNKNOWN
        # Its own is idle, or is being asked who it is.
        if not self._use.in_transaction():
            return _IDLE
        return _IN_ERROR if self._use.is_broken() else _IN_TRANSACTION


class _NothingPrepared:
    """The statements that psycopg has prepared: none are, on the wire."""

    def clear(self) -> None:
        """Nothing is there."""

    def maintain_gen(self, _: Any) -> Iterator[Any]:
        """Nothing has to be done."""
        return iter(())


# Statements -------------------------------------------------------------------------------------


def text_for(cursor: Any, query: Any) -> str:
    """Return the text of a query, in whatever form psycopg takes it."""
    if isinstance(query, str):
        return query
    if hasattr(query, "as_string"):
        return str(query.as_string(cursor))
    return text_of(query)


def execute(
    cursor: Any, use: Use, found: Callable[..., Any], query: Any, params: Any, options: Any
) -> Plan:
    """Execute a statement; ``found`` is psycopg's own."""
    check_open(cursor)
    yield from begin(cursor._conn, use)
    text = text_for(cursor, query)
    was_broken = use.is_broken()

    def make(_: Any) -> Any:
        return found(cursor, query, params, **options)

    if (yield Statement(text, _values(params), OnWire(cursor, make, rides=True))) is NOT_SENT:
        _note_control(cursor, query, text, was_broken=was_broken)


def begin(connection: Any, use: Use) -> Plan:
    """Begin as psycopg does before a statement, if the app has said how transactions are to be."""
    if (
        connection._isolation_level is None
        and connection._read_only is None
        and connection._deferrable is None
    ):
        return  # the join begins by itself
    seeming = Seeming(connection, use)
    yield from type(connection)._start_query(seeming)


def execute_many(cursor: Any, use: Use, query: Any, params_seq: Any, returning: bool) -> Plan:
    """Execute a statement with many parameters, one after another, never in a pipeline."""
    check_open(cursor)
    yield from begin(cursor._conn, use)
    # What gives the parameters may itself use the database, so it is not asked on the wire.
    given, failure = _gathered(params_seq)
    if given or failure is None:

        def make(_: Any) -> Any:
            return cursor._executemany_gen_no_pipeline(query, given, returning)

        yield Statement(text_for(cursor, query), given, OnWire(cursor, make))
    if failure is not None:
        raise failure


def stream(
    cursor: Any,
    use: Use,
    query: Any,
    params: Any,
    *,
    binary: bool | None = None,
    size: int = 1,
) -> Plan:
    """Execute what is to be streamed; all rows come at once, since others may want the wire."""
    check_open(cursor)
    if size < 1:
        raise ValueError("size must be >= 1")
    yield from begin(cursor._conn, use)

    def make(_: Any) -> Any:
        return cursor._execute_gen(query, params, prepare=False, binary=binary)

    act = OnWire(cursor, make, rides=True)
    result = yield Statement(text_for(cursor, query), _values(params), act)
    if result is NOT_SENT or cursor.description is None:
        errors = sys.modules["psycopg"].errors
        raise errors.ProgrammingError("the operation in stream() didn't produce a result")


def rows_of(cursor: Any) -> Iterator[Any]:
    """Give the rows of what was to be streamed."""
    result, make_row = cursor.pgresult, cursor._make_row
    cursor._rowcount = -1
    for position in range(result.ntuples):
        yield cursor._tx.load_row(position, make_row)


def check_open(cursor: Any) -> None:
    """Refuse a cursor that is closed, as psycopg does."""
    if cursor.closed:
        raise sys.modules["psycopg"].InterfaceError("the cursor is closed")


def _values(params: Any) -> Any:
    """What the join looks for settings in."""
    return None if params is None else (params,)


def _gathered(params_seq: Any) -> tuple[list[Any], BaseException | None]:
    given: list[Any] = []
    try:
        given.extend(params_seq)
    except Exception as error:
        return given, error
    return given, None


def _note_control(cursor: Any, query: Any, text: str, *, was_broken: bool) -> None:
    """Leave a cursor as a statement does that gives no rows, such as COMMIT."""
    kind = read_statement(text, Family.POSTGRESQL).kind
    tag = _TAGS.get(kind, "")
    if kind is Kind.BEGIN and text.lstrip()[:5].upper() == "START":
        tag = "START TRANSACTION"
    elif kind is Kind.COMMIT and was_broken:
        tag = "ROLLBACK"
    psycopg = sys.modules["psycopg"]
    done = psycopg.pq.ExecStatus.COMMAND_OK
    result: Any = cursor._pgconn.make_empty_result(done)
    cursor._reset()
    if hasattr(type(cursor), "_statusmessage"):
        cursor._statusmessage = tag.encode()
    else:  # before 3.3 the result tells it
        result = _Done(int(done), tag.encode())
    cursor._results, cursor.pgresult = [result], result
    cursor._last_query = query
    # Django's log of queries takes the text from here.
    cursor._query = cursor._query_cls(psycopg.adapt.Transformer.from_context(cursor))
    cursor._query.convert(query, None)


class _Done(NamedTuple):
    """libpq's result of a statement without rows, as far as cursors ask for it."""

    status: int
    command_status: bytes
    nfields: int = 0
    ntuples: int = 0
    command_tuples: int | None = None


# Connections ------------------------------------------------------------------------------------


def on_connection(connection: Any, use: Use, found: Callable[..., Any], *args: Any) -> Plan:
    """Run psycopg's own ``_commit_gen`` and the like on what the connection seems to be."""
    return (yield from found(Seeming(connection, use), *args))


def on_transaction(block: Any, use: Use, found: Callable[..., Any], *args: Any) -> Plan:
    """Run psycopg's own code of ``transaction()`` likewise."""
    own = block._conn, block.pgconn
    depth = block._conn._num_transactions
    block._conn = Seeming(block._conn, use)
    block.pgconn = block._conn.pgconn
    try:
        return (yield from found(block, *args))
    except BaseException:
        if not hasattr(block, "status") and block._conn._num_transactions > depth:
            # Before 3.3 psycopg would take a block for entered that was refused.
            block._conn._num_transactions = depth
        raise
    finally:
        block._conn, block.pgconn = own
