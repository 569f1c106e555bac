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
a connection whose transaction is the one in the batch (``psycopg_seeming.py``), and what it wants
to send is taken from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from atomicbatch.doors.psycopg_seeming import Seeming
from atomicbatch.doors.psycopg_steps import OnWire, Plan, Statement
from atomicbatch.doors.server_uses import NOT_SENT, Use
from atomicbatch.sql.kinds import Family, Kind
from atomicbatch.sql.lexing import text_of
from atomicbatch.sql.statements import read_statement

_TAGS = {
    Kind.BEGIN: "BEGIN",
    Kind.COMMIT: "COMMIT",
    Kind.ROLLBACK: "ROLLBACK",
    Kind.SAVEPOINT: "SAVEPOINT",
    Kind.RELEASE: "RELEASE",
    Kind.ROLLBACK_TO: "ROLLBACK",
    Kind.ISOLATION: "SET",
}


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
