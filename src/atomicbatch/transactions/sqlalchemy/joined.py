"""One attempt at a batch: its calls, its real transactions, and what went wrong in them."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Dialect, Engine
from sqlalchemy.pool import Pool, PoolProxiedConnection

from atomicbatch.drivers.conflicts import conflict_behind
from atomicbatch.errors import (
    ConflictError,
    NotBatchableError,
    TimeoutExceededError,
    TransactionError,
    kind_of,
)
from atomicbatch.guard import aside, reaches
from atomicbatch.guard.callers import caller
from atomicbatch.join.checkout import OVER
from atomicbatch.join.status import Status
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.sqlalchemy.checkout import SessionCheckout
from atomicbatch.transactions.sqlalchemy.connection import ProxiedConnection
from atomicbatch.transactions.sqlalchemy.engines import (
    are_alike,
    is_in_memory,
    is_same_database,
)
from atomicbatch.transactions.sqlalchemy.loops import LoopMemory
from atomicbatch.transactions.sqlalchemy.places import Act, Acts, Place, do, do_async, threads
from atomicbatch.transactions.sqlalchemy.real import RealTransaction
from atomicbatch.transactions.sqlalchemy.slots import Slots
from atomicbatch.transactions.sqlalchemy.waiting import function_of
from atomicbatch.transactions.sqlalchemy.watchdog import watchdog

logger = logging.getLogger("atomicbatch")


_LEFT_BEHIND = (
    "a call has left a task behind that uses the database while the batch still runs; await it in "
    "the call, or use on_commit"
)

# Of batches that were given up; asyncio keeps tasks by weak references only.
_rolling_back: set[asyncio.Task[None]] = set()

current_call: ContextVar[Call | None] = ContextVar("atomicbatch_sqlalchemy_call", default=None)


@dataclass(slots=True)
class Options:
    """What the user has said, and what is shared by all batches."""

    engines: tuple[Engine, ...] = ()
    """The engines that batches work on; empty: all."""
    names: tuple[str | os.PathLike[str], ...] = ()
    """What else batches leave alone: paths, URLs, libraries."""
    outside: tuple[Engine, ...] = ()
    """Engines that batches leave alone: what is done with them is not part of the batch."""
    isolation_level: str | None = None
    max_batches: int | None = None
    slots: WeakKeyDictionary[Pool, Slots] = field(default_factory=WeakKeyDictionary)
    loops: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopMemory] = field(
        default_factory=WeakKeyDictionary
    )
    lock: threading.Lock = field(default_factory=threading.Lock)

    def memory(self) -> LoopMemory:
        """What is known of the event loop that runs now."""
        loop = asyncio.get_running_loop()
        memory = self.loops.get(loop)
        if memory is None:
            memory = self.loops[loop] = LoopMemory()
        return memory


class Joined(Status):
    """
    Everything that one attempt at a batch does in databases.

    Attributes:
        fairies: The connections of its real transactions.
        thread: The event loop's, as threading.get_ident() tells; 0 in a sync batch.
        is_alone: Tells, in any thread, whether nothing else runs that it could wait for. Who
            performs the batch knows.
        number: Which attempt it is at the batch, 1 for the first.
    """

    def __init__(self, options: Options, deadline: float) -> None:
        super().__init__(lambda: caller().place)
        self.options = options
        self.deadline = deadline
        self._is_stopped = False
        # It has run anything since the limit; None: it was not asked.
        self._loop_lives: bool | None = None
        self.fairies: list[PoolProxiedConnection] = []
        # By dialect: sub-engines share their engine's, and it stays when the pool is replaced.
        self._reals: dict[Dialect, RealTransaction] = {}
        self._lock = threading.Lock()
        # Of an async batch.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._memory: LoopMemory | None = None
        self.thread = 0
        self.is_alone: Callable[[], bool] = _is_not_alone
        self.number = 1
        self._last_call: Call | None = None

    def enter_loop(self) -> None:
        """The batch's calls run on this thread's event loop; else in a thread that has none."""
        self._loop = asyncio.get_running_loop()
        self._memory = self.options.memory()
        self.thread = threading.get_ident()

    @property
    def is_sync(self) -> bool:
        """The batch runs in a thread without an event loop, for a WSGI app say."""
        return self._loop is None

    # For diagnosis -----------------------------------------------------------------------------

    @property
    def reals(self) -> tuple[RealTransaction, ...]:
        """One for each engine that joined: its ``url``, whether it ``wrote``."""
        return tuple(real for real in self.begun if real.is_used)

    @property
    def begun(self) -> tuple[RealTransaction, ...]:
        """All, also those that no call has used yet."""
        return tuple(dict.fromkeys(self._reals.values()))

    def shut(self) -> None:
        """After ROLLBACK: what calls have left running gets no connection at all any more."""
        self.active = True
        self.doom(NotBatchableError("what a call has left running still uses the database"))

    # During the batch --------------------------------------------------------------------------

    def call(self) -> Call:
        """What to run one call inside of; its end is the end of all sessions that it opened."""
        self._last_call = Call(self)
        return self._last_call

    def took_part(self) -> bool:
        """Tell whether the call that ran last has used a session of the batch's."""
        return self._last_call is not None and bool(self._last_call.checkouts)

    def takes_part(self, connection: Any) -> bool:
        """Tell whether a driver's connection is the one of a real transaction."""
        # By way of proxies, where somebody has wrapped the driver's (OpenTelemetry, ddtrace).
        return any(reaches(real.driver, connection) for real in self.reals)

    def connection(self, engine: Engine, call: Call) -> PoolProxiedConnection:
        """Give a session its connection."""
        self.check()
        if call.ended:
            self.refuse(_LEFT_BEHIND)
        real = self._reals.get(engine.dialect)
        if real is None:
            real = self._join(engine)
        on_loop = (
            not real.dialect.is_async
            and self._memory is not None
            # get_running_loop() would raise in nearly all cases, which takes longer than the rest.
            and asyncio._get_running_loop() is self._loop
        )
        if on_loop and not real.is_open and self._memory is not None:
            self._memory.note_engine(engine)
        real.is_used = True
        checkout = real.check_out(at_once=on_loop)
        call.checkouts.append(checkout)
        if call.ended:
            # While we waited for the connection; the end of the call may not have seen it.
            checkout.checkout.closed = True
            self.refuse(_LEFT_BEHIND)
        proxied = ProxiedConnection(checkout, real.fairy)
        if real.is_prepared_by_app:
            real.prepare_by_app(proxied)
        return proxied

    def is_outside(self, dialect: Dialect) -> bool:
        """Tell whether an engine is none of the batch's business, by the user's decision."""
        outside = self.options.outside
        return bool(outside) and any(dialect is one.dialect for one in outside)

    def _is_named(self, engine: Engine) -> bool:
        engines = self.options.engines
        return not engines or any(engine.dialect is named.dialect for named in engines)

    def refuse_left_behind(self) -> NoReturn:
        """Whatever a call has left running must store nothing that the batch has undone."""
        logger.warning(
            "a thread or a task that outlives a batch which was rolled back is refused the database"
        )
        raise TransactionError(
            "the batch of this call was rolled back, and what it has left running may store "
            "nothing; start workers when the app starts, not in a call"
        )

    def open(self, act: Callable[[], None]) -> None:
        """Do something on connections of the pool, which is not the batch's own."""
        if not self.is_sync:
            watchdog.watch(self)
        token = current_call.set(None)
        try:
            with aside():
                act()
        finally:
            current_call.reset(token)

    def _join(self, engine: Engine) -> RealTransaction:
        if not self._is_named(engine):
            self.refuse(
                "a handler uses an engine that SQLAlchemyTransaction was not given; name it there, "
                "or as outside=... if its work need not be part of the batch"
            )
        if self.is_sync and engine.dialect.is_async:
            self.refuse(
                "a handler uses an async engine in a batch of a WSGI app, which runs in a thread "
                "without an event loop; use a sync engine there, or serve the app by ASGI"
            )
        with self._lock:
            if not self.active:
                raise TransactionError(OVER)
            real = self._reals.get(engine.dialect)
            if real is None:
                for other in self.begun:
                    if are_alike(engine, other.engine):
                        # An engine for reading and one for writing, say.
                        self._reals[engine.dialect] = other
                        return other
                    if is_same_database(engine.url, other.engine.url):
                        if not other.is_used:
                            self._take_back(other)
                            continue
                        self.refuse(
                            f"handlers use two engines of one database, {_name(other.engine)} and "
                            f"{_name(engine)}, which cannot see each other's work before COMMIT; "
                            f"use one engine, or give both the same URL, options and connection "
                            f"hooks"
                        )
                try:
                    real = RealTransaction(self, engine)
                except NotBatchableError as error:
                    self.doom(error)
                    raise
                self._reals[engine.dialect] = real
        return real

    def check_loop(self) -> None:
        """Refuse another event loop than the app's: its end would be the connection's."""
        if asyncio._get_running_loop() is not self._loop:
            self.refuse(
                "a handler uses an async engine in an event loop of its own (asyncio.run); use a "
                "sync engine there, or await it in the app's loop"
            )

    def prepare(self) -> Acts:
        """
        Begin, in threads, on the sync engines that batches are known to use on the event loop.

        There they could begin only what needs no waiting.

        Raises:
            TransactionError: One could not be begun.
        """
        if self._memory is None:
            return
        for engine in self._memory.engines():
            if self.is_outside(engine.dialect) or not self._is_named(engine):
                continue
            if not is_in_memory(engine):
                yield Act(Place.BEGINNING, partial(self._begin, engine))

    def _begin(self, engine: Engine) -> None:
        for other in self.begun:
            if is_same_database(engine.url, other.engine.url):
                return  # which of them this batch will use is not known yet
        self._join(engine).check_out().checkout.closed = True

    def _take_back(self, real: RealTransaction) -> None:
        """Calls use another engine of that database than has been prepared."""
        if self._memory is not None:
            self._memory.forget_engine(real.engine)
        real.rollback()
        self._reals = {
            dialect: other for dialect, other in self._reals.items() if other is not real
        }

    # Giving way --------------------------------------------------------------------------------

    def give_way(self, error: TransactionError, url: URL | None) -> bool:
        """
        Undo the batch from another thread, without its event loop, so that others can go on.

        Args:
            error: Why. The first reason counts.
            url: Which database others wait for; None: it is not known. An async engine's
                transactions in another database hold nobody up.

        Returns:
            False: there is nothing to undo, or COMMIT has begun, which needs no event loop.
        """
        undone = []
        with self._lock:
            for real in self.begun:
                holds_up = not real.dialect.is_async or url is None
                if (holds_up or is_same_database(url, real.url)) and real.give_way(error):  # type: ignore[arg-type]
                    undone.append(real)
            if undone and self.active:
                if self.error is None:
                    self.error = error
                elif isinstance(self.error, ConflictError) and isinstance(error, ConflictError):
                    self.error.alone |= error.alone
        if undone and isinstance(error, ConflictError) and self._memory is not None:
            self._memory.note_conflict()
        for real in undone:
            threads.ending.submit(real.undo)
        return bool(undone)

    def may_not_commit(self, real: RealTransaction) -> TransactionError | None:
        """Tell why a transaction was undone meanwhile. If it was not, it never is from now on."""
        with self._lock:
            return real.seal()

    def slots(self, pool: Pool, family: Family) -> Slots | None:
        """How many batches may use a pool at a time."""
        with self.options.lock:
            slots = self.options.slots.get(pool)
            if slots is None:
                count = self.options.max_batches or _capacity(pool, family)
                if count is None:
                    return None
                slots = self.options.slots[pool] = Slots(count)
            return slots

    # When time is up ---------------------------------------------------------------------------

    # engine/deadline.py calls these three, the first two in a thread of its own.

    def interrupt(self) -> None:
        """Stop the statement that is running, and let none begin any more; never blocks."""
        if self._loop is not None and self._loop_lives is None:
            with suppress(RuntimeError):  # the loop has been closed
                self._loop_lives = False
                self._loop.call_soon_threadsafe(self._take_sign_of_life)
        with self._lock:
            self._is_stopped = True
            self.doom(TimeoutExceededError("the time limit of the batch passed"))
        for real in self.begun:
            real.stop()

    def sever(self) -> None:
        """Let go of the databases' locks: whoever waits for one goes on, with an error."""
        if self._loop_lives is False:
            self._blame_loop()
        for real in self.begun:
            real.cut_off()
            if not real.commit_sent and real.may_be_undone_anywhere:
                # Whoever has the connection may be busy with something else altogether.
                threads.ending.submit(real.undo)

    def _take_sign_of_life(self) -> None:
        self._loop_lives = True

    def _blame_loop(self) -> None:
        """Tell what the event loop has been doing since the limit."""
        function = function_of(sys._current_frames().get(self.thread)) or "a library"
        what = f"the time limit passed while the event loop stood still, in {function}"
        logger.warning("a batch is rolled back: %s", what)
        if isinstance(self.error, TimeoutExceededError):
            self.error.message = what

    def give_up(self) -> bool:
        """Send no COMMIT any more; tell whether one has been sent; in the batch's own thread."""
        with self._lock:
            self._is_stopped = True
            sent = any(real.commit_sent for real in self.begun)
        if not sent and self._loop is not None:
            task = self._loop.create_task(do_async(self.rollback()))
            _rolling_back.add(task)
            task.add_done_callback(_rolled_back)
        return sent

    def is_stopped(self) -> bool:
        """Time is up, or nobody waits for the batch any more."""
        return self._is_stopped

    def time_is_up(self) -> TransactionError | None:
        """The error that says so, or None."""
        if not self._is_stopped:
            return None
        return TimeoutExceededError("the time limit of the batch passed before COMMIT")

    def may_not_send_commit(self, real: RealTransaction) -> TransactionError | None:
        """Tell why COMMIT may not be sent any more; else take note that it is."""
        with self._lock:
            if (error := self.time_is_up()) is None:
                real.commit_sent = True
            return error

    # Its end -----------------------------------------------------------------------------------

    def commit(self) -> Acts:
        """
        COMMIT everything; roll back instead where something went wrong.

        Raises:
            TransactionError: As transactions/base.py says.
        """
        self._check_writers()
        with self._lock:
            self.active = self.error is not None
        if self.error is not None:
            yield from self.rollback()
            raise self.error
        # Those that only read first: if one fails, nothing is stored yet.
        reals = sorted(self.begun, key=lambda real: real.wrote)
        for index, real in enumerate(reals):
            try:
                if real.is_open or real.gave_way:
                    yield Act(real.place, real.commit)
            except BaseException:
                self.undone = True
                for other in reals[index + 1 :]:
                    yield Act(other.place, other.rollback)
                watchdog.forget(self)
                raise
        watchdog.forget(self)

    def _check_writers(self) -> None:
        if sum(real.wrote for real in self.begun) > 1:
            self.doom(
                NotBatchableError(
                    "the batch has changed two databases, which cannot be committed as one; "
                    "keep a batch to one of them, or give the other as outside=..."
                )
            )

    def rollback(self) -> Acts:
        """Roll everything back; ``error`` then tells whether something may have escaped."""
        with self._lock:
            self.active, self.undone = False, True
        for real in self.begun:
            yield Act(real.place, real.rollback)
        watchdog.forget(self)

    def is_own_conflict(self, error: BaseException) -> bool:
        """Tell whether a handler's exception is a conflict of a database that has taken part."""
        answer = conflict_behind(error)
        return answer is not None and any(real.family is answer.family for real in self.begun)

    def end_call(self, checkouts: list[SessionCheckout]) -> Acts:
        """Roll back what nobody has committed; what is checked out is of no use any more."""
        for checkout in reversed(checkouts):
            real = checkout.real
            checkout.checkout.closed = True
            # If somebody is in a statement, a thread left behind, wait until it is through it.
            if checkout.needs_closing or real.transaction.has_called or not real.gate.enter_now():
                yield Act(real.place, checkout.close)
            else:
                real.gate.leave()


class Call:
    """One call of the batch: a context manager around it, sync and async."""

    __slots__ = ("_joined", "_token", "checkouts", "ended")

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._token: Token[Call | None]
        self.ended = False
        self.checkouts: list[SessionCheckout] = []

    @property
    def joined(self) -> Joined:
        return self._joined

    def __enter__(self) -> Call:
        self._token = current_call.set(self)
        return self

    async def __aenter__(self) -> Call:
        return self.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        do(self.leave(error))

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await do_async(self.leave(error))

    def leave(self, error: BaseException | None) -> Acts:
        """End the call, which may have raised an error."""
        current_call.reset(self._token)
        self.ended = True
        joined = self._joined
        if error is not None and not isinstance(error, Exception):
            return  # cancelled: everything is rolled back at once
        if error is not None and joined.is_own_conflict(error):
            # Met by a statement that we have not seen: COPY, say.
            joined.doom(ConflictError("another transaction was in the way"))
        if joined.error is None and self.checkouts:
            try:
                yield from joined.end_call(self.checkouts)
            except TransactionError as problem:
                joined.doom(problem)
        if joined.error is not None:
            raise joined.error from error


def _is_not_alone() -> bool:
    return False


def _rolled_back(task: asyncio.Task[None]) -> None:
    _rolling_back.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a batch that was given up could not be rolled back (%s)", kind_of(error))
        logger.debug("that was", exc_info=error)


def _capacity(pool: Pool, family: Family) -> int | None:
    if family is Family.SQLITE:
        # One writer at a time: better to stand in line than to poll for the lock.
        return 1
    size: Any = getattr(pool, "size", None)
    overflow = getattr(pool, "_max_overflow", None)
    if size is None or overflow is None or overflow < 0:
        return None
    # One connection is left to requests that are no batches.
    return max(1, int(size()) + int(overflow) - 1)


def _name(engine: Engine) -> str:
    """Name an engine in a message to clients: its driver and database, not where that is."""
    database = PurePath(engine.url.database or "").name
    return f"{engine.url.drivername} ({database})" if database else engine.url.drivername


def _in_child() -> None:
    """
    A process that a call has forked shares the connection's socket or file: it must not use it.

    There its sessions have connections of their own, on which the guard lets it read.
    """
    call = current_call.get()
    if call is not None and call.joined.active:
        call.joined.active = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
