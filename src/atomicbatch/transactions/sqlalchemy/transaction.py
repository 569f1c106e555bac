"""SQLAlchemyTransaction: one batch's transaction, begun and left."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from atomicbatch import doors, greenlets, guard
from atomicbatch.model import Batch
from atomicbatch.transactions.around import around
from atomicbatch.transactions.drivers import DriverTransaction
from atomicbatch.transactions.sqlalchemy.attempt import SQLAlchemyAttempt
from atomicbatch.transactions.sqlalchemy.hook import install
from atomicbatch.transactions.sqlalchemy.joining import Joining
from atomicbatch.transactions.sqlalchemy.options import Options
from atomicbatch.transactions.sqlalchemy.together import Together

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


_NAMES = (str, os.PathLike)


class SQLAlchemyTransaction:
    """
    Makes handlers that use SQLAlchemy work in one transaction, unmodified.

    Whatever gets its connection from an engine is part of the batch: sessions, Core, SQLModel and
    ``raw_connection()``, sync and async. A handler's commit is kept when the batch commits; its
    rollback undoes its own work only. What cannot be expressed that way fails the batch with a
    NotBatchableError that says what to do instead.

    Args:
        engines: The engines that batches work on; a batch that uses another fails. None: all.
        outside: What batches leave alone: what is done with it happens at once, and is not undone
            by a rollback. Engines; paths of SQLite files; URLs of databases, of which host, port
            and name count; names of libraries or drivers, as ``"peewee"``.
        isolation_level: Of the batch's transaction; None: the engine's own.
        allow_sync_engine_on_loop: Has no effect any more: ``async def`` handlers may use sync
            engines.
        max_batches: How many batches may use one engine at a time; the others wait. None: one
            less than the pool has connections, and one on SQLite.

    Raises:
        RuntimeError: The start-up check has failed: with this version of SQLAlchemy, a rollback
            of the batch would not undo what a handler has committed.
    """

    def __init__(
        self,
        *engines: sa.Engine | AsyncEngine,
        outside: Iterable[sa.Engine | AsyncEngine | str | os.PathLike[str]] = (),
        isolation_level: str | None = None,
        allow_sync_engine_on_loop: bool | None = None,
        max_batches: int | None = None,
    ) -> None:
        if max_batches is not None and max_batches < 1:
            raise ValueError(f"max_batches must be at least 1, not {max_batches!r}")
        if allow_sync_engine_on_loop is not None:
            warnings.warn(
                "allow_sync_engine_on_loop has no effect any more: 'async def' handlers may use "
                "sync engines",
                DeprecationWarning,
                stacklevel=2,
            )
        if not isinstance(outside, _NAMES):
            outside = tuple(outside)
        guard.Allowed(outside)  # says what is wrong with it
        self._options = Options(
            engines=tuple(_sync(engine) for engine in engines),
            outside=tuple(_sync(one) for one in outside if not isinstance(one, _NAMES)),
            names=tuple(one for one in outside if isinstance(one, _NAMES)),
            isolation_level=isolation_level,
            max_batches=max_batches,
        )
        install()
        doors.install()
        _check_once()

    def begin(
        self,
        batch: Batch,
        *,
        deadline: float,
    ) -> Joining:
        """
        Join whatever is done inside the block, and commit it on leaving.

        The databases' transactions are begun when they are first used. ``async with`` is for apps
        on an event loop; ``with`` is for those in threads, whose handlers use sync engines.
        """
        if (nested := around.nest(batch, deadline)) is not None:
            joining: Joining = nested
            return joining
        greenlets.check()
        return Joining(SQLAlchemyAttempt(self._options, deadline))

    def wants_alone(self) -> bool:
        """Tell whether batches of this event loop are to run while nothing else runs, for now."""
        if asyncio._get_running_loop() is None:
            return False
        return self._options.memory().has_conflicts()

    @property
    def outside(self) -> tuple[sa.Engine | str | os.PathLike[str], ...]:
        """What batches leave alone."""
        return self._options.outside + self._options.names

    def together_with(self, other: object) -> Together | None:
        """Make one adapter of this one and a DriverTransaction; None: it is none."""
        return Together(self._options, other) if isinstance(other, DriverTransaction) else None

    def rehearsal(self) -> SQLAlchemyTransaction:
        """Make one that leaves no engine alone, for batches of which nothing may be stored."""
        twin, options = copy(self), self._options
        engines = (*options.engines, *options.outside) if options.engines else ()
        twin._options = replace(options, engines=engines, outside=())
        return twin


def _sync(engine: Any) -> sa.Engine:
    sync: sa.Engine = getattr(engine, "sync_engine", engine)
    if not isinstance(sync, sa.Engine):
        raise TypeError(f"an engine is needed, not {type(engine).__name__}")
    return sync


_checked = threading.Event()


def _check_once() -> None:
    """Prove on a scratch database that a handler's commit is undone when the batch fails."""
    if _checked.is_set():
        return
    failed: list[BaseException] = []

    def check() -> None:
        try:
            with guard.aside():
                _check()
        except BaseException as error:
            failed.append(error)

    # In a thread of its own: we may have been called in one with an event loop.
    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
    if failed:
        raise RuntimeError(
            f"with SQLAlchemy {sa.__version__} a batch's rollback does not undo what handlers "
            f"have committed; atomicbatch refuses to start"
        ) from failed[0]
    _checked.set()


def _check() -> None:
    engine = sa.create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE scratch (n INTEGER)"))

        def count() -> int:
            with engine.connect() as connection:
                return int(connection.execute(sa.text("SELECT count(*) FROM scratch")).scalar_one())

        options = Options()
        for error, expected in ((_Fails(), 0), (None, 1)):
            with suppress(_Fails), Joining(SQLAlchemyAttempt(options, time.monotonic() + 60)):
                with engine.begin() as connection:
                    connection.execute(sa.text("INSERT INTO scratch VALUES (1)"))
                if error is not None:
                    raise error
            if (found := count()) != expected:
                raise AssertionError(f"{found} rows where there should be {expected}")
    finally:
        engine.dispose()


class _Fails(Exception):
    pass
