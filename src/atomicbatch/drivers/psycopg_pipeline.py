"""
psycopg (version 3): libpq's pipeline. Statements are sent before earlier ones are answered.

Nothing here waits, and nothing here knows what a statement is for. From libpq 14 on; psycopg's own
low-level API (``psycopg.pq``) is used, and its own conversions of parameters and columns.

The traps:

- A Sync ends what the server skips after an error. If one is sent before BEGIN has succeeded, the
  next statement runs outside of any transaction, and is stored. So there is one, at the end; before
  that the server is asked for answers by ``ask_for_answers``, which ends nothing.
- libpq waits in C, with Python's lock held, for an answer that is not there. So ask ``has_arrived``
  first.
- If the last statement before pipeline mode was read in chunks, libpq reads the first one in it so
  too. So nothing is sent first, see ``was_streamed``.
- After an error libpq still gives an answer for every statement behind it: ABORTED, which says
  nothing about that statement.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from atomicbatch.drivers.psycopg_names import Key, Names

# libpq's ExecStatusType; no driver is imported here.
COMMAND_OK, TUPLES_OK, _FATAL_ERROR, _SYNC, _ABORTED = 1, 2, 7, 10, 11
_FIRST_LIBPQ, _FIRST_WITH_CLOSE = 140000, 170000
_DONE = (COMMAND_OK, TUPLES_OK)
# Different SQL texts whose conversion is kept.
_MOST_TEXTS = 512


def has_pipeline(module: Any) -> bool:
    """
    Whether libpq has a pipeline.

    Args:
        module: psycopg.
    """
    return bool(module.pq.version() >= _FIRST_LIBPQ)


class Of(Enum):
    """What an answer that is due belongs to."""

    STATEMENT = "statement"
    BEGIN = "begin"
    PREPARE = "prepare"
    CLOSE = "close"
    SYNC = "sync"


class _Due(NamedTuple):
    of: Of
    key: Key | None = None
    name: bytes = b""


_STATEMENT, _BEGIN, _AT_SYNC = _Due(Of.STATEMENT), _Due(Of.BEGIN), _Due(Of.SYNC)


class Pipeline:
    """
    The pipeline of one connection.

    Args:
        connection: psycopg's, which does not prepare statements by itself.
        prepares: Statements that are used again are prepared.

    Attributes:
        is_on: The connection is in pipeline mode.
        statements_due: How many statements are not answered yet.
        is_synced: Sync has been sent.
        has_begun: What ``begin`` has sent has succeeded.
        was_streamed: The last statement outside of pipeline mode was read in chunks, or row by row.
        transformer: psycopg's, which reads the columns of answers.
    """

    def __init__(self, connection: Any, *, prepares: bool) -> None:
        psycopg = sys.modules["psycopg"]
        self._pgconn = connection.pgconn
        self._errors = psycopg.errors
        self._encoding: str = connection.info.encoding
        self._auto = psycopg.adapt.PyFormat.AUTO
        self.transformer = psycopg.adapt.Transformer.from_context(connection)
        self._names = Names() if prepares else None
        self._closes = psycopg.pq.version() >= _FIRST_WITH_CLOSE
        self._texts: dict[str, tuple[bytes, list[Any]]] = {}
        self._due: deque[_Due] = deque()
        self.is_on = self.is_synced = self.has_begun = self.was_streamed = False
        self.statements_due = 0

    @property
    def is_full(self) -> bool:
        """Whether a new connection is needed to prepare more: this libpq cannot forget names."""
        return self._names is not None and not self._closes and self._names.is_full

    def enter(self) -> None:
        """Enter pipeline mode."""
        self._pgconn.enter_pipeline_mode()
        self._due.clear()
        self.is_on, self.is_synced, self.statements_due = True, False, 0
        if self.was_streamed:
            self._pgconn.send_prepare(b"", b"")
            self._due.append(_Due(Of.PREPARE))
            self.was_streamed = False

    # Sending ---------------------------------------------------------------------------------

    def begin(self, texts: Sequence[str]) -> None:
        """Send what begins a transaction; the answers are nobody's but ours."""
        self.has_begun = False
        for text in texts:
            self._pgconn.send_query_params(text.encode(), ())
            self._due.append(_BEGIN)

    def send(self, sql: str, parameters: Sequence[Any]) -> None:
        """
        Send a statement.

        Args:
            sql: With ``%s`` for each parameter, and ``%%`` for a percent sign.
            parameters: As psycopg takes them.

        Raises:
            psycopg.Error: A parameter cannot be sent, or the connection is lost.
        """
        text = self._texts.get(sql)
        if text is None:
            text = self._keep(sql)
        query, formats = text
        transformer, pgconn = self.transformer, self._pgconn
        values: Sequence[Any] = ()
        types: tuple[int, ...] = ()
        given = None
        if parameters:
            values = transformer.dump_sequence(parameters, formats)
            types, given = transformer.types, transformer.formats
        names = self._names
        name = None if names is None else self._name(names, (query, types))
        if name is None:
            pgconn.send_query_params(query, values, types, given)
        else:
            pgconn.send_query_prepared(name, values, given)
        self._due.append(_STATEMENT)
        self.statements_due += 1

    def _keep(self, sql: str) -> tuple[bytes, list[Any]]:
        if len(self._texts) >= _MOST_TEXTS:
            self._texts.clear()
        query, count = numbered(sql)
        text = self._texts[sql] = query.encode(self._encoding), [self._auto] * count
        return text

    def _name(self, names: Names, key: Key) -> bytes | None:
        """The name by which a statement is prepared, or is now; None: it has to be sent whole."""
        name = names.find(key)
        if name is not None or not names.is_worth_one(key):
            return name
        if names.is_full:
            if not self._closes:
                return None
            for old in names.drop_oldest():
                self._close(old)
        name = names.add(key)
        self._pgconn.send_prepare(name, *key)
        self._due.append(_Due(Of.PREPARE, key))
        return name

    def _close(self, name: bytes) -> None:
        self._pgconn.send_close_prepared(name)
        self._due.append(_Due(Of.CLOSE, name=name))

    def ask_for_answers(self) -> None:
        """Ask the server not to hold answers back; it ends nothing, unlike Sync."""
        self._pgconn.send_flush_request()

    def sync(self) -> None:
        """Send Sync: nothing may be sent after it before all answers are read."""
        self._pgconn.pipeline_sync()
        self._due.append(_AT_SYNC)
        self.is_synced = True

    def push(self) -> bool:
        """Hand what was sent to the network, as far as it takes it; whether that was all."""
        return bool(self._pgconn.flush() == 0)

    # Reading ---------------------------------------------------------------------------------

    def next_due(self) -> Of | None:
        """What the next answer belongs to; None: all are read."""
        return self._due[0].of if self._due else None

    def has_arrived(self) -> bool:
        """Whether the next answer can be read at once."""
        return not self._pgconn.is_busy()

    def read(self) -> Any:
        """
        Read the next answer, which has arrived: libpq's result.

        Raises:
            psycopg.Error: It is an error; of a statement behind another error, PipelineAborted.
        """
        due = self._due.popleft()
        result = self._pgconn.get_result()
        if due is not _AT_SYNC and result is not None:
            self._pgconn.get_result()  # libpq's mark between two answers
        if due is _STATEMENT:
            self.statements_due -= 1
        status = None if result is None else result.status
        if due is _AT_SYNC:
            if status == _SYNC:
                return result
        elif status in _DONE:
            if due is _BEGIN:
                self.has_begun = not self._due or self._due[0] is not _BEGIN
            return result
        self._note_failure(due)
        raise self._error(result, status)

    def _note_failure(self, due: _Due) -> None:
        if self._names is None:
            return
        if due.key is not None:
            self._names.forget(due.key)
        elif due.name:
            self._names.keep_for_later(due.name)

    def _error(self, result: Any, status: int | None) -> Exception:
        errors = self._errors
        if status == _FATAL_ERROR:
            error: Exception = errors.error_from_result(result, encoding=self._encoding)
        elif status == _ABORTED:
            error = errors.PipelineAborted("pipeline aborted")
        elif status is None:
            error = errors.OperationalError("the connection to the server was lost")
        else:
            error = errors.InternalError(f"unexpected status of an answer: {int(status)}")
        return error

    def leave(self) -> None:
        """Leave pipeline mode, once all answers are read."""
        self._pgconn.exit_pipeline_mode()
        self.is_on = self.is_synced = False
        while self._pgconn.notifies():  # which functions of the database may have asked for
            pass


_MARK = re.compile(r"%(.?)", re.DOTALL)


def numbered(sql: str) -> tuple[str, int]:
    """
    SQL with ``%s`` as PostgreSQL takes it, with ``$1``, and how many parameters it has.

    Raises:
        ValueError: A percent sign is followed by something else than ``s`` or another one.
    """
    count = 0

    def write(found: re.Match[str]) -> str:
        nonlocal count
        if found[1] == "%":
            return "%"
        if found[1] != "s":
            raise ValueError("a percent sign in SQL is neither doubled nor a parameter")
        count += 1
        return f"${count}"

    return _MARK.sub(write, sql), count
