"""
Flight: statements on their way to PostgreSQL, sent before earlier ones are answered.

::

    begin, send ... send, push, take, take, send ...   in pipeline mode; answers are taken in order
    leave                                              Sync, all answers read: now psycopg's own way

BEGIN travels with the first statements. Sync is sent once, by ``leave`` or ``finish``, after the
last of them: see the traps in ``drivers/psycopg_pipeline.py``.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from atomicbatch.drivers.conflicts import statement_error
from atomicbatch.drivers.psycopg_pipeline import TUPLES_OK, Of, Pipeline
from atomicbatch.errors import BrokenTransactionError
from atomicbatch.server.database.backend import Row, received
from atomicbatch.server.database.bounds import TooMuchError, too_long
from atomicbatch.server.database.counting import WORN_BYTES
from atomicbatch.server.database.threads import too_late
from atomicbatch.server.database.tickets import AnyTicket

T = TypeVar("T")
# An interrupt is lost if it comes while the server waits for us, so that no wait is without an end.
_PIECE_MILLISECONDS = 100
# libpq's PGTransactionStatusType.
_IN_TRANSACTION = 2


class Flight:
    """
    What is on its way on one connection.

    Args:
        raw: psycopg's connection, counting (``counting.py``).
        prepares: Statements that are used again are prepared.
        interrupt: Ends the statement that the server is executing; raises nothing.
    """

    def __init__(self, raw: Any, *, prepares: bool, interrupt: Callable[[], None]) -> None:
        self._raw = raw
        self._pgconn = raw.pgconn
        self._driver_error: type[Exception] = type(raw).Error
        self._interrupt = interrupt
        self._pipeline = Pipeline(raw, prepares=prepares)
        self._ticket: AnyTicket
        self._most_bytes: int | None = None
        self._failure: Exception | None = None
        self._is_pushed, self._is_stale = True, False
        self._to_read, self._to_read_or_write = select.poll(), select.poll()
        self._to_read.register(self._pgconn.socket, select.POLLIN)
        self._to_read_or_write.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)

    @property
    def is_on(self) -> bool:
        """Whether the connection is in pipeline mode, where psycopg's own way is shut."""
        return self._pipeline.is_on

    @property
    def can_carry(self) -> bool:
        """Whether a statement can go this way: the transaction is open, as far as is known."""
        return self._pipeline.is_on or self._pgconn.transaction_status == _IN_TRANSACTION

    @property
    def has_begun(self) -> bool:
        """Whether BEGIN is known to have succeeded."""
        return self._pipeline.has_begun

    @property
    def statements_due(self) -> int:
        """How many statements are not answered yet."""
        return self._pipeline.statements_due

    @property
    def is_worn(self) -> bool:
        """Whether the connection should be replaced, and with it all prepared statements."""
        return self._is_stale or self._pipeline.is_full

    def begin(self, texts: Sequence[str], ticket: AnyTicket) -> None:
        """Send what begins a transaction with the first statement; nothing leaves before that."""
        self._ticket, self._failure, self._most_bytes = ticket, None, None
        self._pipeline.was_streamed = False
        self._pipeline.enter()
        self._pipeline.begin(texts)
        self._is_pushed = False

    # Sending ---------------------------------------------------------------------------------

    def send(self, sql: str, parameters: Sequence[Any]) -> None:
        """
        Send a statement; it may leave with a later one, or with ``push``.

        Raises:
            BrokenTransactionError: There is no open transaction.
            psycopg.Error: A parameter cannot be sent, or the connection is lost.
        """
        if self._pipeline.is_synced:
            self.leave()
        if not self._pipeline.is_on:
            self._enter_again()
        self._is_pushed = False
        self._pipeline.send(sql, parameters)

    def _enter_again(self) -> None:
        # Never on hope: outside of a transaction a statement would be stored at once.
        if not self.can_carry:
            raise BrokenTransactionError("the transaction was not in order before a statement")
        self._pipeline.enter()

    def push(self) -> None:
        """
        Hand over what was sent, and ask for the answers; as far as that can be done at once.

        Raises:
            TimeoutExceededError: The time is over, or the client is gone.
        """
        if self._ticket.over:
            raise too_late()
        if not self._pipeline.is_synced:
            self._pipeline.ask_for_answers()
        self._is_pushed = self._pipeline.push()

    def sync(self) -> None:
        """Say that nothing follows: after this, answers are taken and ``leave`` is called."""
        if self._pipeline.is_on and not self._pipeline.is_synced:
            self._pipeline.sync()
            self._is_pushed = False

    # Reading ---------------------------------------------------------------------------------

    def look(self) -> None:
        """Read what has come, without waiting for more."""
        self._pgconn.consume_input()

    def is_answered(self) -> bool:
        """Whether ``take`` would not have to wait."""
        pipeline = self._pipeline
        try:
            while self._failure is None and pipeline.has_arrived():
                if pipeline.next_due() is Of.STATEMENT:
                    return True
                pipeline.read()
        except self._driver_error as error:
            self._failure = error
        return self._failure is not None

    def wait_for_begin(self) -> None:
        """
        Wait until BEGIN is known to have succeeded.

        Raises:
            psycopg.Error: It has failed.
            TimeoutExceededError: The time was over before it was answered.
        """
        if self._pipeline.has_begun:
            return
        if self._failure is not None:
            raise self._failure
        if not self._is_pushed:
            self.push()
        while not self._pipeline.has_begun:
            if self._ticket.over:
                raise too_late()
            self._wait_for_answer(None)
            self._pipeline.read()

    def take(self, most_bytes: int | None = None) -> Answer:
        """
        Wait for the answer of the first statement that has not been answered, and take it.

        Args:
            most_bytes: How much the database may send for it; None: any amount.

        Raises:
            psycopg.Error: The statement has failed. Those behind it are lost, see ``leave``.
            TooMuchError: The answer is longer; the connection is closed.
        """
        if self._failure is not None:
            raise self._failure
        pipeline = self._pipeline
        while True:
            if not pipeline.has_arrived():
                self._wait_for_answer(most_bytes)
            of = pipeline.next_due()
            try:
                result = pipeline.read()
            except self._driver_error as error:
                self._is_stale = _is_stale(error)
                raise
            if of is Of.STATEMENT:
                return Answer(result, pipeline.transformer, self._raw)

    def one(self, most_bytes: int) -> Row | None:
        """Take an answer that is one row of any length, as ``Backend.one`` does."""
        self._most_bytes = received(most_bytes)
        try:
            return self.take(self._most_bytes).fetchone()
        except self._driver_error as error:
            raise too_long(error) or error from None

    def few(self, most_bytes: int) -> list[Row]:
        """Take an answer that is a few rows, as ``Backend.few`` does."""
        self._most_bytes = received(most_bytes)
        try:
            return self.take(self._most_bytes).fetchall()
        except self._driver_error as error:
            raise too_long(error) or error from None

    def ask(self, sql: str, parameters: Sequence[Any], take: Callable[[], T]) -> T:
        """
        Send a statement and take its answer by ``take``; no other may be on its way.

        Afterwards pipeline mode is left. After an error psycopg's own way says of what follows that
        the transaction has failed.
        """
        self.send(sql, parameters)
        try:
            self.sync()
            self.push()
            answer = take()
        except self._driver_error:
            with suppress(self._driver_error, TooMuchError):
                self.leave()
            raise
        self.leave()
        return answer

    # Leaving ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """
        Leave pipeline mode before COMMIT, which has not been sent.

        Raises:
            BrokenTransactionError: An answer was not taken.
            ConflictError: The connection is lost.
        """
        if self._pipeline.is_on and self._pipeline.statements_due:
            raise BrokenTransactionError("a statement was not answered before COMMIT")
        try:
            self.leave()
        except self._driver_error as error:
            broken = BrokenTransactionError("the transaction was not in order before COMMIT")
            raise statement_error(error) or broken from error

    def leave(self) -> None:
        """
        Leave pipeline mode, if it is on; answers that were not taken are thrown away.

        Whoever needs the transaction looks at its state afterwards.

        Raises:
            psycopg.Error, TooMuchError: The connection is lost, or was closed.
        """
        pipeline = self._pipeline
        if not pipeline.is_on:
            return
        try:
            self.sync()
            while pipeline.next_due() is not None:
                self._wait_for_answer(self._most_bytes)
                with suppress(self._driver_error):
                    pipeline.read()
            pipeline.leave()
        except BaseException:
            pipeline.is_on = False
            self._raw.close()
            raise

    def leave_to_stream(self) -> None:
        """Leave pipeline mode for a statement that psycopg reads in chunks."""
        self.leave()
        self._pipeline.was_streamed = True

    # Waiting ---------------------------------------------------------------------------------

    def _wait_for_answer(self, most_bytes: int | None) -> None:
        """Wait until the next answer has arrived; close the connection if it is too long."""
        if most_bytes is None:
            while not self._pipeline.has_arrived():
                self._wait()
            return
        if not self._pipeline.has_arrived():
            self._wait()
        # A short answer is there at once. For a longer one the kernel is asked after each piece.
        if not self._pipeline.has_arrived():
            self._wait_and_count(most_bytes)

    def _wait_and_count(self, most_bytes: int) -> None:
        start = self._raw.bytes_read()
        while not self._pipeline.has_arrived():
            self._wait()
            if start is None:
                continue
            count = self._raw.bytes_read() - start
            if count > WORN_BYTES:
                self._raw.is_worn = True
            if count > most_bytes:
                self._raw.close()
                raise TooMuchError

    def _wait(self) -> None:
        """Wait for a piece of an answer, or for a while; send meanwhile what was not sent yet."""
        if self._is_pushed:
            ready = self._to_read.poll(_PIECE_MILLISECONDS)
        else:
            self._is_pushed = self._pipeline.push()
            poll = self._to_read if self._is_pushed else self._to_read_or_write
            ready = poll.poll(_PIECE_MILLISECONDS)
        if not ready and self._ticket.over:
            # The first may have come while the server waited for us, and was lost. In a thread of
            # its own, since it goes by way of the network.
            threading.Thread(target=self._interrupt, daemon=True).start()
        # Also if there is nothing to read: it tells whether the connection is lost.
        self._pgconn.consume_input()


def _is_stale(error: Any) -> bool:
    """Whether a prepared statement is gone, or what it gives has changed, as its table has."""
    if error.sqlstate == "26000":
        return True
    # "cached plan must not change result type"; the code has other meanings too.
    return error.sqlstate == "0A000" and (error.diag.source_file or "").endswith("plancache.c")


class Answer:
    """
    The answer to one statement, with what is used of a DB-API cursor (PEP 249).

    Args:
        result: libpq's.
        transformer: psycopg's, which reads columns.
        raw: The connection.
    """

    __slots__ = ("_raw", "_result", "_transformer")

    def __init__(self, result: Any, transformer: Any, raw: Any) -> None:
        self._result, self._transformer, self._raw = result, transformer, raw

    @property
    def rowcount(self) -> int:
        """How many rows it gives, or has reached."""
        result = self._result
        if result.status == TUPLES_OK:
            return int(result.ntuples)
        reached = result.command_tuples
        return -1 if reached is None else int(reached)

    def fetchone(self) -> Row | None:
        """The first row, or None."""
        self._read_columns()
        row: Row | None = None
        if self._result.ntuples:
            row = self._transformer.load_row(0, tuple)
        return row

    def fetchall(self) -> list[Row]:
        """All rows."""
        self._read_columns()
        rows: list[Row] = self._transformer.load_rows(0, self._result.ntuples, tuple)
        return rows

    def _read_columns(self) -> None:
        if self._result.status != TUPLES_OK:
            tag = (self._result.command_status or b"").decode()
            raise self._raw.ProgrammingError(f"the statement has given no rows: {tag}")
        self._transformer.set_pgresult(self._result)
