"""Trying: one call as a batch of its own, in a transaction that is always rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from atomicbatch.asgi.dispatch import Dispatcher
from atomicbatch.asgi.scope import Target
from atomicbatch.asgi.types import App, Receive, Scope, Send
from atomicbatch.doctor.watching import Watch
from atomicbatch.engine import AsyncTransaction, Replay, execute_async
from atomicbatch.engine.after_commit import Act
from atomicbatch.engine.current import RunningBatch, running_batch
from atomicbatch.errors import AtomicBatchError, TransactionError
from atomicbatch.join.diagnosis import Diagnosis
from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Call, Reply
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

_SESSIONS = ("Session", "AsyncSession", "Connection", "AsyncConnection")


class Tried(NamedTuple):
    """What was seen of one call."""

    call: Call
    reply: Reply | None
    error: AtomicBatchError | None
    """Why there is no reply, or why the batch could not have been committed."""
    raised: BaseException | None
    """The exception that the app raised."""
    engines: tuple[Engine, ...] | None
    """The engines that took part; None if the transaction does not tell."""
    watch: Watch
    outlived: tuple[str, ...] = ()
    """The kinds of sessions, connections and expired objects that would be used after COMMIT."""


class Engine(NamedTuple):
    """What a call has done with one engine."""

    url: str
    """Without the password."""
    wrote: bool
    outside: bool
    """The user has left it out of batches. Here it took part, so that it is rolled back."""


async def try_call(
    app: App,
    call: Call,
    transaction: AsyncTransaction[Any],
    *,
    scope: Scope,
    limits: Limits,
    watch: Watch,
) -> Tried:
    """
    Perform a call, and undo it.

    Args:
        app: What the calls of a batch go to.
        call: Complete, as a batch would hand it over.
        transaction: It is begun, and never committed.
        scope: The ASGI scope of the batch request.
        limits: Bounds on the batch.
        watch: Notes what the call does outside of the transaction.
    """
    outside: set[object] = set()
    if isinstance(transaction, SQLAlchemyTransaction):
        outside = {one.url for one in transaction.outside if hasattr(one, "url")}
        transaction = transaction.rehearsal()
    batch, undone = Batch((call,)), _Undone(app, transaction, scope, limits, watch)
    reply: Reply | None = None
    error: AtomicBatchError | None = None
    try:
        # There is no COMMIT, so background tasks and on_commit never run.
        with running_batch(undone.running):
            outcome = await execute_async(
                batch,
                undone,
                _perform,
                timeout_seconds=limits.timeout_seconds,
                replay=Replay(max_attempts=1),
            )
        reply, error = (outcome.replies or (None,))[0], outcome.error
        if isinstance(error, _Rehearsed):
            error = None
    except AtomicBatchError as problem:
        error = problem
    joined = watch.joined
    return Tried(
        call,
        reply,
        error,
        undone.raised,
        _engines(joined, outside) if isinstance(joined, Diagnosis) else None,
        watch,
        undone.running.outlived,
    )


def _engines(joined: Diagnosis, outside: Collection[object]) -> tuple[Engine, ...]:
    return tuple(
        Engine(used.name, used.wrote, used.place in outside) for used in joined.databases()
    )


async def _perform(call: Call, dispatcher: Dispatcher) -> Reply:
    return await dispatcher.perform(call)


class _Rehearsed(TransactionError):
    """The transaction refuses to commit; nothing else was wrong."""


class _Running(RunningBatch):
    """Looks at what is put off until after COMMIT, which never comes here."""

    outlived: tuple[str, ...] = ()

    def defer(self, attempt: int, act: Act, *, while_active: bool = False) -> bool:
        self.outlived += tuple(type(one).__name__ for one in _given(act) if _ends_early(one))
        return super().defer(attempt, act, while_active=while_active)


def _given(act: Any) -> Iterator[object]:
    """The arguments of what is put off: of on_commit, Starlette's and Litestar's tasks."""
    for task in (act, *getattr(act, "tasks", ())):
        yield from getattr(task, "args", ())
        yield from (getattr(task, "kwargs", None) or getattr(task, "keywords", None) or {}).values()


def _ends_early(one: object) -> bool:
    """
    Whether something is useless once its call has ended: closed, or without its session.

    An object of the ORM whose attributes have been loaded is not.
    """
    # By name, because only adapters import SQLAlchemy.
    for base in type(one).__mro__:
        if base.__module__.startswith("sqlalchemy.") and base.__name__ in _SESSIONS:
            return True
    return bool(getattr(getattr(one, "_sa_instance_state", None), "expired", False))


class _Undone:
    """Wraps a transaction, so that it is never committed; for one attempt, as AtomicBatch does."""

    def __init__(
        self,
        app: App,
        transaction: AsyncTransaction[Any],
        scope: Scope,
        limits: Limits,
        watch: Watch,
    ) -> None:
        self.running = _Running()
        self.raised: BaseException | None = None
        self._app = app
        self._transaction = transaction
        self._scope = scope
        self._limits = limits
        self._watch = watch

    @asynccontextmanager
    async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[Dispatcher]:
        try:
            async with self._transaction.begin(batch, deadline=deadline) as joined:
                self._watch.joined = joined
                around = joined if hasattr(joined, "call") else None
                yield Dispatcher(Target(self._run, "", False), self._scope, self._limits, around)
                # Inside the block, since leaving it by this error undoes the work.
                raise _Rehearsed("only tried")
        finally:
            if isinstance(self._watch.joined, Diagnosis):
                self._watch.joined.reopen_to_refuse()
            await self._watch.end()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app, watched, in the call's own task and context."""
        with self._watch.watching():
            try:
                await self._app(scope, receive, send)
            except Exception as error:
                self.raised = error
                raise
