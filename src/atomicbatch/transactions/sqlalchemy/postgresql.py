"""
PostgreSQL's links: how few round trips a batch takes with each driver.

What is ours goes along with the handler's statement, or at least with more of ours::

                       BEGIN, root        a savepoint             RELEASE, COMMIT
    psycopg            with the first     with the statement      one
    asyncpg            with the first     one, by itself          one
    psycopg2           one, then likewise one, by itself          two
    any other          as its cursors do it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.util import await_only

from atomicbatch.drivers import asyncpg, psycopg, psycopg_ahead, psycopg_async
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.sqlalchemy.dialects import family_of
from atomicbatch.transactions.sqlalchemy.links import sender_of
from atomicbatch.transactions.sqlalchemy.pooled import PooledLink


class PostgreSQLLink(PooledLink):
    """psycopg2, and drivers that we do not know: they begin before whatever is sent first."""

    def begin(self) -> None:
        super().begin()
        self.send = sender_of(self._dialect, self._fairy)


class PsycopgLink(PostgreSQLLink):
    """psycopg, sync and async."""

    _prepare_threshold: int | None = None

    def begin(self) -> None:
        super().begin()
        driver = self._driver
        # It would go on to use statements whose preparation ROLLBACK TO has undone.
        self._prepare_threshold = driver.prepare_threshold
        driver.prepare_threshold = None
        self.sends_ahead = psycopg_ahead.is_able(driver)
        self.ends_in_one = True
        self._is_async = self._dialect.is_async
        self._own_methods = psycopg_ahead.own_methods()

    def takes_along(self, execute: Callable[..., Any]) -> bool:
        if getattr(execute, "__name__", "") != "execute":
            return False
        cursor = execute.__self__  # type: ignore[attr-defined]
        if self._is_async:
            cursor = getattr(cursor, "_cursor", None)  # SQLAlchemy's adapter has it
        # A class of the app's own, or of a tracer's, may do anything in its execute().
        return type(cursor).execute in self._own_methods

    def perform_after(self, texts: Sequence[str], perform: Callable[[], Any]) -> Any:
        return psycopg_ahead.perform_after(self._driver, texts, perform, self.send)

    def commit_after(self, texts: Sequence[str]) -> None:
        if not texts:
            self._dialect.do_commit(self._fairy)
        elif self._dialect.is_async:
            await_only(psycopg_async.commit_after(self._driver, texts))
        else:
            psycopg.commit_after(self._driver, texts)

    def put_back(self) -> None:
        super().put_back()
        self._driver.prepare_threshold = self._prepare_threshold


class AsyncpgLink(PostgreSQLLink):
    """
    asyncpg. SQLAlchemy's adapter would begin by itself, by a round trip of its own.

    So it is told that statements commit by themselves, and we begin.
    """

    _begin: Sequence[str] = ()
    """What begins the transaction, until it is sent."""
    _is_ours = False
    """The adapter has begun nothing, and ends nothing."""
    _own_level: Any = None

    def begin(self) -> None:
        super().begin()
        if self._driver.is_in_transaction():
            return  # what the app does when connections are checked out has begun it
        adapter = self._connection
        level = self._own_level = adapter.isolation_level
        self._begin = [
            asyncpg.begin(level, read_only=adapter.readonly, deferrable=adapter.deferrable)
        ]
        adapter.isolation_level = "autocommit"
        self._is_ours = self.ends_in_one = True
        self._send = self.send
        self.send = self._send_with_begin

    def _send_with_begin(self, texts: Sequence[str]) -> None:
        begin, self._begin = self._begin, ()
        self.send = self._send
        self._send([*begin, *texts])

    def ask(self, text: str) -> Any:
        if self._begin:
            self.send(())
        return super().ask(text)

    def commit(self) -> None:
        self.commit_after(())

    def commit_after(self, texts: Sequence[str]) -> None:
        if not self._is_ours:
            super().commit()
        elif not self._begin:
            await_only(asyncpg.commit_after(self._driver, texts))

    def rollback(self) -> None:
        if self._is_ours:
            await_only(asyncpg.rollback(self._driver))
        else:
            super().rollback()

    def put_back(self) -> None:
        if self._is_ours:
            self._connection.isolation_level = self._own_level
        super().put_back()

    def isolation_level(self) -> Any:
        return self._own_level if self._is_ours else super().isolation_level()


def kind_of_link(dialect: Dialect) -> type[PooledLink]:
    """Tell which kind of link a dialect's connections need."""
    if family_of(dialect) is not Family.POSTGRESQL:
        return PooledLink
    return {"psycopg": PsycopgLink, "asyncpg": AsyncpgLink}.get(dialect.driver, PostgreSQLLink)
