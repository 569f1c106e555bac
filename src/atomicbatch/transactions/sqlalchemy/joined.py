"""One attempt at a batch: its calls, its real transactions, and what went wrong in them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect, Engine
from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from atomicbatch.errors import (
    BrokenTransactionError,
    ConflictError,
    NotBatchableError,
    TransactionError,
)
from atomicbatch.transactions.conflicts import is_conflict
from atomicbatch.transactions.sqlalchemy.connection import ProxiedConnection
from atomicbatch.transactions.sqlalchemy.engines import are_alike, is_same_database
from atomicbatch.transactions.sqlalchemy.lease import OVER, Lease
from atomicbatch.transactions.sqlalchemy.real import RealTransaction
from atomicbatch.transactions.sqlalchemy.slots import Slots
from atomicbatch.transactions.statements import Family

logger = logging.getLogger("atomicbatch")
# COMMIT and ROLLBACK of sync drivers run here, not in the threads of handlers: those may all be
# waiting for locks that this very batch holds. They are made when needed and reused.
_threads = ThreadPoolExecutor(max_workers=256, thread_name_prefix="atomicbatch")

_LEFT_BEHIND = (
    "a call has left a task behind that uses the database while the batch still runs; await it in "
    "the call, or use on_commit"
)

current_call: ContextVar[Call | None] = ContextVar("atomicbatch_sqlalchemy_call", default=None)


@dataclass(slots=True)
class Options:
    """What the user has said, and what is shared by all batches."""

    engines: tuple[Engine, ...] = ()
    """The engines that batches work on; empty: all."""
    outside: tuple[Engine, ...] = ()
    """Engines that batches leave alone: what is done with them is not part of the batch."""
    isolation_level: str | None = None
    allow_sync_engine_on_loop: bool = False
    max_batches: int | None = None
    slots: WeakKeyDictionary[Pool, Slots] = field(default_factory=WeakKeyDictionary)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Joined:
    """
    Everything that one attempt at a batch does in databases.

    Attributes:
        active: It has not ended.
        undone: It has been rolled back.
        error: Why it cannot be committed, or None.
        has_escaped: Something of it may be stored, although it cannot be committed.
        fairies: The connections of its real transactions.
    """

    def __init__(self, options: Options, deadline: float) -> None:
        self.options = options
        self.deadline = deadline
        self.active = True
        self.undone = False
        self.error: TransactionError | None = None
        self.has_escaped = False
        self.fairies: list[PoolProxiedConnection] = []
        # By dialect: sub-engines share their engine's, and it stays when the pool is replaced.
        self._reals: dict[Dialect, RealTransaction] = {}
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()

    # For diagnosis -----------------------------------------------------------------------------

    @property
    def reals(self) -> tuple[RealTransaction, ...]:
        """One for each engine that joined: its ``url``, whether it ``wrote``."""
        return tuple(dict.fromkeys(self._reals.values()))

    def shut(self) -> None:
        """After ROLLBACK: what calls have left running gets no connection at all any more."""
        self.active = True
        self.doom(NotBatchableError("what a call has left running still uses the database"))

    # During the batch --------------------------------------------------------------------------

    def call(self) -> Call:
        """What to run one call inside of; its end is the end of all sessions that it opened."""
        return Call(self)

    def connection(self, engine: Engine, call: Call) -> PoolProxiedConnection:
        """Give a session its connection."""
        self.check()
        if call.ended:
            self.refuse(_LEFT_BEHIND)
        real = self._reals.get(engine.dialect)
        if real is None:
            real = self._join(engine)
        if not real.dialect.is_async and not self.options.allow_sync_engine_on_loop:
            self._check_thread()
        lease = real.lease()
        call.leases.append(lease)
        if call.ended:
            # While we waited for the connection; the end of the call may not have seen it.
            lease.closed = True
            self.refuse(_LEFT_BEHIND)
        proxied = ProxiedConnection(lease, real.fairy)
        if real.checkout:
            real.check_out(proxied)
        return proxied

    def is_outside(self, dialect: Dialect) -> bool:
        """Tell whether an engine is none of the batch's business, by the user's decision."""
        outside = self.options.outside
        return bool(outside) and any(dialect is one.dialect for one in outside)

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
        token = current_call.set(None)
        try:
            act()
        finally:
            current_call.reset(token)

    def _join(self, engine: Engine) -> RealTransaction:
        engines = self.options.engines
        if engines and not any(engine.dialect is named.dialect for named in engines):
            self.refuse(
                "a handler uses an engine that SQLAlchemyTransaction was not given; name it there, "
                "or as outside=... if its work need not be part of the batch"
            )
        with self._lock:
            if not self.active:
                raise TransactionError(OVER)
            real = self._reals.get(engine.dialect)
            if real is None:
                for other in self.reals:
                    if are_alike(engine, other.engine):
                        # An engine for reading and one for writing, say.
                        self._reals[engine.dialect] = other
                        return other
                    if is_same_database(engine.url, other.engine.url):
                        self.refuse(
                            "handlers use two engines of one database, which cannot see each "
                            "other's work before COMMIT; use one engine, or give both the same "
                            "URL, options and connection hooks"
                        )
                try:
                    real = RealTransaction(self, engine)
                except NotBatchableError as error:
                    self.doom(error)
                    raise
                self._reals[engine.dialect] = real
        return real

    def _check_thread(self) -> None:
        # get_running_loop() would raise in nearly all cases, which takes longer than all the rest.
        if asyncio._get_running_loop() is None:
            return
        self.refuse(
            "an 'async def' handler uses a sync engine, which blocks the event loop: as soon as "
            "another request waits for a row that the batch holds, neither can go on; use 'def', "
            "or an async engine (for tests: allow_sync_engine_on_loop=True)"
        )

    def check_loop(self) -> None:
        """Refuse another event loop than the app's: its end would be the connection's."""
        if asyncio._get_running_loop() is not self._loop:
            self.refuse(
                "a handler uses an async engine in an event loop of its own (asyncio.run); use a "
                "sync engine there, or await it in the app's loop"
            )

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

    def check(self) -> None:
        """Refuse to go on after an error."""
        if self.error is not None:
            raise self.error

    def doom(self, error: TransactionError) -> None:
        """Take note that the batch cannot be committed; the first reason counts."""
        if self.error is None and self.active:
            self.error = error

    def escaped(self, what: str) -> BrokenTransactionError:
        """Take note that something may be stored already, which counts more than any reason."""
        error = BrokenTransactionError(what)
        self.error, self.has_escaped = error, True
        return error

    def refuse(self, what: str) -> NoReturn:
        error = NotBatchableError(what)
        self.doom(error)
        raise error

    # Its end -----------------------------------------------------------------------------------

    async def commit(self) -> None:
        """
        COMMIT everything; roll back instead where something went wrong.

        Raises:
            TransactionError: As transactions/base.py says.
        """
        self._check_writers()
        if self.error is not None:
            await self.rollback()
            raise self.error
        with self._lock:
            self.active = False
        # Those that only read first: if one fails, nothing is stored yet.
        reals = sorted(self.reals, key=lambda real: real.wrote)
        for index, real in enumerate(reals):
            try:
                if real.is_open:
                    await self._in_its_place(real, real.commit)
            except BaseException:
                self.undone = True
                for other in reals[index + 1 :]:
                    await self._in_its_place(other, other.rollback)
                raise

    def _check_writers(self) -> None:
        if sum(real.wrote for real in self.reals) > 1:
            self.doom(
                NotBatchableError(
                    "the batch has changed two databases, which cannot be committed as one; "
                    "keep a batch to one of them, or give the other as outside=..."
                )
            )

    async def rollback(self) -> None:
        """Roll everything back; ``error`` then tells whether something may have escaped."""
        with self._lock:
            self.active, self.undone = False, True
        for real in self.reals:
            await self._in_its_place(real, real.rollback)

    async def end_call(self, leases: list[Lease]) -> None:
        """What nobody has committed is rolled back; whoever still holds a lease cannot use it."""
        for lease in reversed(leases):
            real = lease.real
            lease.closed = True
            # If somebody is in a statement, a thread left behind, wait until it is through it.
            if lease.needs_closing or real.has_called or not real.gate.enter_now():
                await self._in_its_place(real, lease.close)
            else:
                real.gate.leave()

    async def _in_its_place(self, real: RealTransaction, act: Callable[[], None]) -> None:
        if real.dialect.is_async:
            await greenlet_spawn(act)
        elif self.options.allow_sync_engine_on_loop:
            act()
        else:
            await self._loop.run_in_executor(_threads, act)


class Call:
    """One call of the batch; an async context manager around it."""

    __slots__ = ("_joined", "_token", "ended", "leases")

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._token: Token[Call | None]
        self.ended = False
        self.leases: list[Lease] = []

    @property
    def joined(self) -> Joined:
        return self._joined

    async def __aenter__(self) -> Call:
        self._token = current_call.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        current_call.reset(self._token)
        self.ended = True
        joined = self._joined
        if error is not None and not isinstance(error, Exception):
            return  # cancelled: everything is rolled back at once
        if error is not None and is_conflict(error):
            # Met by a driver's connection that we do not see.
            joined.doom(ConflictError("another transaction was in the way"))
        if joined.error is None and self.leases:
            try:
                await joined.end_call(self.leases)
            except TransactionError as problem:
                joined.doom(problem)
        if joined.error is not None:
            raise joined.error from error


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
