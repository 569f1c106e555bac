"""Trying: one call as a batch of its own, in a transaction that is always rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from contextvars import copy_context
from functools import partial
from typing import Any, NamedTuple

from atomicbatch.asgi import dispatch as asgi
from atomicbatch.asgi.scope import Target
from atomicbatch.asgi.types import Receive, Scope, Send
from atomicbatch.doctor.listening import Listening
from atomicbatch.doctor.rehearsal import Rehearsal
from atomicbatch.doctor.watching import Watch
from atomicbatch.engine import Replay, execute, execute_async
from atomicbatch.engine.after_commit import Act
from atomicbatch.engine.current import RunningBatch, running_batch
from atomicbatch.errors import AtomicBatchError, TransactionError
from atomicbatch.guard import Allowed, guarded, guarded_sync, stopped_like
from atomicbatch.guard import Watch as Guard
from atomicbatch.join.diagnosis import Used
from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Call, Reply
from atomicbatch.wsgi import dispatch as wsgi
from atomicbatch.wsgi.types import StartResponse

_SESSIONS = ("Session", "AsyncSession", "Connection", "AsyncConnection")


class Tried(NamedTuple):
    """What was seen of one call."""

    call: Call
    reply: Reply | None
    error: AtomicBatchError | None
    """Why there is no reply, or why the batch could not have been committed."""
    raised: BaseException | None
    """The exception that the app raised."""
    databases: tuple[Database, ...] | None
    """The databases that took part; None if the transaction does not tell."""
    watch: Watch
    outlived: tuple[str, ...] = ()
    """The kinds of sessions, connections and expired objects that would be used after COMMIT."""


class Database(NamedTuple):
    """What a call has done with one database."""

    name: str
    """As an URL, without the password."""
    wrote: bool
    outside: bool
    """The user has left it out of batches. Here it took part, so that it is rolled back."""


class Trial:
    """
    How the calls of one app are tried.

    Args:
        app: What the calls of a batch go to.
        outer: What a server would tell of the batch request: an ASGI scope, or an environ, or what
            makes the environs of calls.
        rehearsal: The transaction; it is begun, and never committed.
        limits: Bounds on the batch.

    Attributes:
        raised: The exception of the app's that its framework answered last with an error page.
    """

    def __init__(
        self, app: Any, outer: Any, rehearsal: Rehearsal, limits: Limits | None = None
    ) -> None:
        self.app = app
        self.outer = outer
        self.rehearsal = rehearsal
        self.limits = limits or Limits()
        self.raised: BaseException | None = None

    def note_raised(self, error: BaseException) -> None:
        """The app has raised an exception."""
        self.raised = error

    async def try_call(self, call: Call, watch: Watch) -> Tried:
        """
        Perform a call of an ASGI app, and undo it.

        Args:
            call: Complete, as a batch would hand it over.
            watch: Notes what the call does outside of the transaction.
        """
        undone = _UndoneAsync(self, watch)
        reply: Reply | None = None
        error: AtomicBatchError | None = None
        try:
            # There is no COMMIT, so background tasks and on_commit never run.
            with running_batch(undone.running):
                outcome = await execute_async(
                    Batch((call,)),
                    undone,
                    _perform,
                    timeout_seconds=self.limits.timeout_seconds,
                    replay=_ONCE,
                )
            reply, error = (outcome.replies or (None,))[0], outcome.error
        except AtomicBatchError as problem:
            error = problem
        return self._tried(call, reply, error, undone)

    def try_call_here(self, call: Call, watch: Watch) -> Tried:
        """Perform a call of a WSGI app, and undo it; the sync twin of :meth:`try_call`."""
        undone = _UndoneHere(self, watch)
        reply: Reply | None = None
        error: AtomicBatchError | None = None
        try:
            with running_batch(undone.running):
                # In a context of its own, as wsgi/app.py does it.
                outcome = copy_context().run(
                    execute,
                    Batch((call,)),
                    undone,
                    partial(_perform_here, watch),
                    timeout_seconds=self.limits.timeout_seconds,
                    replay=_ONCE,
                )
            reply, error = (outcome.replies or (None,))[0], outcome.error
        except AtomicBatchError as problem:
            error = problem
        return self._tried(call, reply, error, undone)

    def _tried(
        self, call: Call, reply: Reply | None, error: AtomicBatchError | None, undone: _Undone
    ) -> Tried:
        raised, self.raised = self.raised, None
        watch = undone.watch
        return Tried(
            call,
            reply,
            None if isinstance(error, _Rehearsed) else error,
            raised,
            self._databases(watch.databases_used()),
            watch,
            undone.running.outlived,
        )

    def _databases(self, used: tuple[Used, ...] | None) -> tuple[Database, ...] | None:
        if used is None:
            return None
        return tuple(
            Database(one.name, one.wrote, self.rehearsal.leaves_alone(one)) for one in used
        )


_ONCE = Replay(max_attempts=1)


async def _perform(call: Call, dispatcher: asgi.Dispatcher) -> Reply:
    return await dispatcher.perform(call)


def _perform_here(watch: Watch, call: Call, dispatcher: wsgi.Dispatcher) -> Reply:
    # Around all of it, since a response may be made while it is read.
    with watch.watching():
        return dispatcher.perform(call)


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
    """
    Wraps a transaction, so that it is never committed; for one attempt, as AtomicBatch does.

    Args:
        trial: Of the app.
        watch: On the call.
    """

    def __init__(self, trial: Trial, watch: Watch) -> None:
        self.running = _Running()
        self.watch = watch
        self._trial = trial

    def _manager(self, batch: Batch, deadline: float) -> Any:
        self.running.attempt()
        return self._trial.rehearsal.transaction.begin(batch, deadline=deadline)

    def _note(self, guard: Guard) -> None:
        """The transaction has been begun."""
        self.watch.joined = joined = guard.joined
        if hasattr(joined, "is_alone"):
            # Nobody else is in the app.
            joined.is_alone = _is_alone

    def _listening(self, _: Allowed) -> Listening:
        return Listening(self._trial.rehearsal.named, self.watch)


class _UndoneAsync(_Undone):
    def begin(
        self, batch: Batch, *, deadline: float
    ) -> AbstractAsyncContextManager[asgi.Dispatcher]:
        manager = self._manager(batch, deadline)
        return stopped_like(manager, self._begin(manager))

    @asynccontextmanager
    async def _begin(self, manager: Any) -> AsyncIterator[asgi.Dispatcher]:
        trial = self._trial
        try:
            async with guarded(manager, Allowed(), self._listening) as guard:
                self._note(guard)
                target = Target(self._run, "", False)
                yield asgi.Dispatcher(target, trial.outer, trial.limits, guard)
                # Inside the block, since leaving it by this error undoes the work.
                raise _Rehearsed("only tried")
        finally:
            self.watch.reopen_to_refuse()
            await self.watch.end()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app, watched, in the call's own task and context."""
        with self.watch.watching():
            try:
                await self._trial.app(scope, receive, send)
            except Exception as error:
                self._trial.note_raised(error)
                raise


class _UndoneHere(_Undone):
    def begin(self, batch: Batch, *, deadline: float) -> AbstractContextManager[wsgi.Dispatcher]:
        manager = self._manager(batch, deadline)
        return stopped_like(manager, self._begin(manager))

    @contextmanager
    def _begin(self, manager: Any) -> Iterator[wsgi.Dispatcher]:
        trial = self._trial
        try:
            with guarded_sync(manager, Allowed(), self._listening) as guard:
                self._note(guard)
                yield wsgi.Dispatcher(self._run, trial.outer, trial.limits, guard)
                raise _Rehearsed("only tried")
        finally:
            self.watch.reopen_to_refuse()

    def _run(self, environ: Any, start_response: StartResponse) -> Iterable[bytes]:
        try:
            response: Iterable[bytes] = self._trial.app(environ, start_response)
            return response
        except Exception as error:
            self._trial.note_raised(error)
            raise


def _is_alone() -> bool:
    return True
