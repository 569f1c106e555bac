"""
psycopg: SQL of ours goes ahead of a handler's statement, in the same round trip.

psycopg asks its connection for a pipeline before it sends anything, and if there is one, it queues
commands instead of sending them, and has the pipeline communicate. For one statement we stand in
for that pipeline::

    cursor.execute("INSERT ...")    queues, if the transaction is not begun yet,  BEGIN
                                    queues                                        INSERT
    Ahead._communicate_gen()        sends  BEGIN  SAVEPOINT ab_1  INSERT  Sync, reads all answers,
                                    and gives the cursor its own

The server runs nothing behind a command that has failed, up to Sync. So no statement runs without
its savepoint, and none outside of the transaction if BEGIN fails.

psycopg's own pipeline would do the same, but takes three times as much time of the processor. It
is used for what it is: an interface inside of psycopg, the same since 3.1. If a version does not
know it any more, the statement is run without what should be ahead, and that is an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from importlib import import_module
from typing import Any, TypeVar

from atomicbatch.drivers.ahead import NotReachedError
from atomicbatch.drivers.postgresql import in_one_text
from atomicbatch.drivers.psycopg_pipeline import COMMAND_OK

T = TypeVar("T")


class Progress(Enum):
    """How far a statement has come."""

    WAITING = "waiting"
    """Nothing has been sent."""
    SENT = "sent"
    """Everything has been sent; ours has not succeeded, or has not been answered yet."""
    REACHED = "reached"
    """Ours has succeeded, so that the server runs the statement."""


def is_able(connection: Any) -> bool:
    """Tell whether the connection, sync or async, can take SQL of ours along: libpq 14 or later."""
    pipeline: Any = import_module("psycopg").Pipeline
    return getattr(connection, "_pipeline", connection) is None and bool(pipeline.is_supported())


def own_methods() -> frozenset[Callable[..., Any]]:
    """Give psycopg's own ``execute`` of cursors, sync and async, which asks for the pipeline."""
    module: Any = import_module("psycopg")
    return frozenset({module.Cursor.execute, module.AsyncCursor.execute})


def perform_after(
    connection: Any,
    texts: Sequence[str],
    perform: Callable[[], T],
    send: Callable[[Sequence[str]], object],
) -> T:
    """
    Perform a statement on a connection, with SQL of ours ahead of it.

    Args:
        connection: psycopg's, sync or async; nobody else uses it meanwhile.
        texts: Statements that give no rows.
        perform: Runs ``execute`` of a cursor of this connection, and waits for its end.
        send: Runs ours by itself, where psycopg has refused the statement before it was sent.

    Returns:
        What ``perform`` returns.

    Raises:
        NotReachedError: Ours has failed. Its cause is why.
        Exception: The statement's own; ours has succeeded.
    """
    ahead = Ahead(connection, texts)
    try:
        with ahead.standing_in():
            result = perform()
    except Exception:
        if ahead.progress is Progress.WAITING:
            with _ours():
                send(texts)
        raise
    return result


async def perform_after_async(
    connection: Any,
    texts: Sequence[str],
    perform: Callable[[], Awaitable[T]],
    send: Callable[[Sequence[str]], Awaitable[object]],
) -> T:
    """Perform a statement with SQL of ours ahead of it, as :func:`perform_after` does."""
    ahead = Ahead(connection, texts)
    try:
        with ahead.standing_in():
            result = await perform()
    except Exception:
        if ahead.progress is Progress.WAITING:
            with _ours():
                await send(texts)
        raise
    return result


@contextmanager
def _ours() -> Iterator[None]:
    """What fails in this block is ours."""
    try:
        yield
    except Exception as error:
        raise NotReachedError from error


class Ahead:
    """
    Stands in for psycopg's ``Pipeline`` while one statement is sent.

    Attributes:
        progress: How far it has come.
        command_queue: What psycopg wants to send, as functions to call.
        result_queue: For each of them the cursor that wants the answer, or None.
    """

    __slots__ = ("_before", "_connection", "_texts", "command_queue", "progress", "result_queue")

    def __init__(self, connection: Any, texts: Sequence[str]) -> None:
        self._connection = connection
        self._texts = texts
        # How many commands go even before ours: BEGIN.
        self._before = 0
        self.progress = Progress.WAITING
        self.command_queue: deque[Callable[[], None]] = deque()
        self.result_queue: deque[Any] = deque()

    @contextmanager
    def standing_in(self) -> Iterator[None]:
        """
        Stand in for the connection's pipeline while one statement is performed.

        Raises:
            NotReachedError: Ours has failed, or was not sent although the statement was performed.
        """
        self._connection._pipeline = self
        try:
            yield
        except Exception as error:
            if self.progress is Progress.SENT:
                raise NotReachedError from error
            raise
        finally:
            self._connection._pipeline = None
        if self.progress is not Progress.REACHED:
            raise NotReachedError from RuntimeError("psycopg has run a statement on its own")

    def alone_gen(self) -> Generator[Any, Any, None]:
        """Send ours by itself, ahead of a statement that cannot be queued."""
        connection = self._connection
        connection._pipeline = None
        generators: Any = import_module("psycopg.generators")
        self.progress = Progress.SENT
        connection.pgconn.send_query(in_one_text(self._texts).encode())
        for result in (yield from generators.execute(connection.pgconn)):
            if (failure := _failure([result], connection.pgconn)) is not None:
                raise failure
        self.progress = Progress.REACHED

    def _sync_gen(self) -> Generator[Any, Any, None]:
        """psycopg has queued BEGIN, and wants its answer; that comes with all the others."""
        self._before = len(self.command_queue)
        return
        yield

    def _communicate_gen(self) -> Generator[Any, Any, None]:
        """Send everything, and read all answers."""
        connection = self._connection
        connection._pipeline = None  # from here on psycopg is itself again
        generators: Any = import_module("psycopg.generators")
        pgconn = connection.pgconn
        self.progress = Progress.SENT
        pgconn.enter_pipeline_mode()
        asked, refusal = self._send(pgconn)
        yield from generators.send(pgconn)
        failure = None
        for _ in range(self._before + len(self._texts)):
            results = yield from generators.fetch_many(pgconn)
            failure = failure or _failure(results, pgconn)
        if failure is None:
            self.progress = Progress.REACHED
        answers = []
        for _ in asked:
            answers.append((yield from generators.fetch_many(pgconn)))  # noqa: PERF401
        yield from generators.fetch_many(pgconn)  # the answer to Sync
        pgconn.exit_pipeline_mode()
        if failure is not None:
            raise failure
        for queued, results in zip(asked, answers, strict=True):
            self._hand_out(queued, results)
        if refusal is not None:
            raise refusal

    def _send(self, pgconn: Any) -> tuple[list[Any], Exception | None]:
        """
        Put everything into libpq's buffer.

        Returns:
            For each command of the statement, who wants its answer; and why libpq does not take
            one of them, or None. What is ours has been sent all the same.
        """
        commands, wanted = self.command_queue, self.result_queue
        for _ in range(self._before):
            commands.popleft()()
            wanted.popleft()
        for text in self._texts:
            pgconn.send_query_params(text.encode(), None)
        asked: list[Any] = []
        refusal = None
        try:
            while commands:
                commands.popleft()()
                asked.append(wanted.popleft())
        except Exception as error:
            refusal = error
        pgconn.pipeline_sync()
        return asked, refusal

    def _hand_out(self, queued: Any, results: Any) -> None:
        """Give an answer to the cursor that wants it, as psycopg's pipeline does."""
        if queued is None:  # the statement's own PREPARE
            if (failure := _failure(results, self._connection.pgconn)) is not None:
                raise failure
            return
        cursor, prepared = queued
        if prepared is not None:
            self._connection._prepared.validate(*prepared, results)
        cursor._check_results(results)
        cursor._set_results(results)


def _failure(results: Any, pgconn: Any) -> Exception | None:
    """Make the exception for the answer to a command that gives no rows, if it is an error."""
    (result,) = results
    if result.status == COMMAND_OK:
        return None
    errors: Any = import_module("psycopg.errors")
    failure: Exception = errors.error_from_result(result, encoding=pgconn._encoding)
    return failure
