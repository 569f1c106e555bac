"""A connection of an engine's pool, as the link on which the join's steps are run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.pool import Pool, PoolProxiedConnection

from atomicbatch.drivers import pep249
from atomicbatch.drivers.driver import State
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.sqlalchemy.dialects import family_of, is_autocommit, level_of
from atomicbatch.transactions.sqlalchemy.links import driver_of, sender_of

logger = logging.getLogger("atomicbatch")


class PooledLink:
    """
    The link of one connection; used in threads, or in SQLAlchemy's greenlets.

    Args:
        engine: Whose connection it is.
        fairy: The connection.
        interrupt: Stops the statement that is running; never blocks.
        level: The isolation level that the user wants for batches, or None.
        deadline: How long SQLite may wait for a lock, as time.monotonic() tells.
        at_once: BEGIN must not wait at all.

    Attributes:
        is_sound: What was changed on the connection could be put back.
        auto: Connections of the engine commit each statement by themselves.
        level: The isolation level, where it is known.
        begins_lazily: The driver begins nothing before reads and savepoints (sqlite3).
        sends_ahead: SQL of ours can go ahead of a handler's statement, see ``join/steps.py``.
        ends_in_one: Likewise of COMMIT.
    """

    sends_ahead = False
    ends_in_one = False

    def __init__(
        self,
        engine: Engine,
        fairy: PoolProxiedConnection,
        interrupt: Callable[[], None],
        *,
        level: str | None,
        deadline: float,
        at_once: bool,
    ) -> None:
        dialect = self._dialect = engine.dialect
        self._family = family_of(dialect)
        self._fairy = fairy
        self._driver: Any = fairy.driver_connection
        self._connection: Any = fairy.dbapi_connection
        self._deadline = deadline
        self._at_once = at_once
        self.interrupt = interrupt
        self.is_sound = True
        self.auto = is_autocommit(dialect, fairy)
        self.level = level or level_of(dialect)
        self._wanted_level: Any = level or (self.level if self.auto else None)
        self._has_changed_level = False
        # sqlite3 in its default mode begins nothing before reads, and takes a SAVEPOINT outside of
        # a transaction for one, whose RELEASE commits.
        self.begins_lazily = self._family is Family.SQLITE and not self.is_in_transaction()
        # For how many milliseconds SQLite waits for a lock, if it is left alone.
        self._patience = 0
        # Until it has begun through the connection itself: some drivers send BEGIN just then.
        self.send: Callable[[Sequence[str]], None] = self._send_first

    def _send_first(self, texts: Sequence[str]) -> None:
        pep249.send(self._fairy, texts)
        self.send = sender_of(self._dialect, self._fairy)

    def ask(self, text: str) -> Any:
        return pep249.ask(self._fairy, text)

    def begin(self) -> None:
        if self.begins_lazily:
            self._patience = int(pep249.ask(self._fairy, "PRAGMA busy_timeout"))
            # IMMEDIATE, because a lock taken later, after reading, may be refused at once.
            with self._patience_within(0.0 if self._at_once else self._seconds_left()):
                pep249.send(self._fairy, ["BEGIN IMMEDIATE"])
        elif self._family is not Family.SQLITE and self._wanted_level is not None:
            self._dialect.set_isolation_level(self._connection, self._wanted_level)
            self._has_changed_level = True

    def commit(self) -> None:
        if self.begins_lazily:
            with self._patience_within(self._seconds_left()):
                pep249.send(self._fairy, ["COMMIT"])
        else:
            self._dialect.do_commit(self._fairy)

    def rollback(self) -> None:
        if not self.begins_lazily:
            self._dialect.do_rollback(self._fairy)
        elif self._driver.in_transaction:
            pep249.send(self._fairy, ["ROLLBACK"])

    def put_back(self) -> None:
        """Put back what was changed on the connection."""
        if self._has_changed_level:
            self._dialect.reset_isolation_level(self._connection)
            if self.auto and not is_autocommit(self._dialect, self._fairy):
                # The driver was told so when it connected (connect_args), not SQLAlchemy.
                self._dialect.set_isolation_level(self._connection, "AUTOCOMMIT")

    def takes_along(self, execute: Callable[..., Any]) -> bool:  # noqa: ARG002
        """Tell whether SQL of ours can go ahead of what a cursor's method sends."""
        return False

    def perform_after(self, texts: Sequence[str], perform: Callable[[], Any]) -> Any:
        """Run SQL of ours, and then a handler's statement (``AheadLink``)."""
        raise NotImplementedError

    def commit_after(self, texts: Sequence[str]) -> None:
        """Run SQL of ours, and then COMMIT (``AheadLink``)."""
        raise NotImplementedError

    def isolation_level(self) -> Any:
        """What the driver itself, or SQLAlchemy's adapter, says of the isolation level."""
        return self._fairy.isolation_level

    def is_in_transaction(self) -> bool:
        return bool(self._driver.in_transaction)

    def is_aborted(self) -> bool | None:
        state = driver_of(self._dialect).state(self._driver)
        return None if state is State.UNKNOWN else state is State.ABORTED

    def is_lost(self, error: Exception) -> bool:
        connection: Any = self._fairy.dbapi_connection
        known: Any = self._dialect
        try:
            return connection is None or bool(known.is_disconnect(error, connection, None))
        except Exception:
            return False

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    @contextmanager
    def _patience_within(self, seconds: float) -> Iterator[None]:
        """Let SQLite wait no longer for a lock: nothing can stop it in the middle of that."""
        milliseconds = int(seconds * 1000)
        if self._patience <= milliseconds:
            yield
            return
        pep249.send(self._fairy, [f"PRAGMA busy_timeout={milliseconds}"])
        try:
            yield
        finally:
            try:
                pep249.send(self._fairy, [f"PRAGMA busy_timeout={self._patience}"])
            except Exception:
                # What COMMIT has come to counts, not this: the connection does not go back.
                logger.debug("SQLite's busy timeout could not be put back", exc_info=True)
                self.is_sound = False


def is_used_up(pool: Pool) -> bool:
    """Tell whether a connection of a pool would have to be waited for (QueuePool)."""
    idle, most = getattr(pool, "_pool", None), getattr(pool, "_max_overflow", -1)
    if idle is None or most < 0:
        return False
    return bool(idle.empty()) and pool._overflow >= most  # type: ignore[attr-defined]
