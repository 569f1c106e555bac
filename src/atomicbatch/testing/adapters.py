"""
Adapters: checks a transaction adapter against the contract, on a real database.

The checks judge by what ``count`` sees through a connection of its own. The contract is in
``atomicbatch.transactions.contract``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from atomicbatch.engine import AsyncTransaction, Rollback, Transaction
from atomicbatch.errors import BrokenTransactionError, TransactionError, UnknownOutcomeError
from atomicbatch.model import Batch, Call

C = TypeVar("C")
_BATCH = Batch((Call("POST", b"/", b"", (), b""),))


def check_transaction(
    transaction: Transaction[C],
    *,
    write: Callable[[C], None],
    count: Callable[[], int],
    refuse: Callable[[C], None] | None = None,
    escape: Callable[[C], None] | None = None,
    lose: Callable[[C], None] | None = None,
    stall: Callable[[C], None] | None = None,
) -> None:
    """
    Check a sync adapter; the async twin is :func:`check_async_transaction`.

    Args:
        transaction: The adapter.
        write: Stores one row, by what the transaction's block gives.
        count: Counts the stored rows through an independent connection. It must not wait for locks.
        refuse: Makes COMMIT fail, and nothing before it: by breaking a deferred constraint, say.
        escape: Ends the transaction behind the adapter's back, for instance by a ROLLBACK.
        lose: Makes the next COMMIT succeed in the database, and loses the connection before its
            answer arrives: by a proxy between the two, say.
        stall: Makes the next COMMIT succeed in the database, and holds its answer back for ever.
            The adapter needs a time limit, which the check waits for.

    Raises:
        AssertionError: The adapter breaks the contract; the message says how.
    """

    async def write_async(connection: C) -> None:
        write(connection)

    async def count_async() -> int:
        return count()

    def as_async(act: Callable[[C], None] | None) -> Callable[[C], Awaitable[None]] | None:
        if act is None:
            return None

        async def acted(connection: C) -> None:
            act(connection)

        return acted

    # It all stays in this thread, so that the adapter sees no difference.
    asyncio.run(
        check_async_transaction(
            _Async(transaction),
            write=write_async,
            count=count_async,
            refuse=as_async(refuse),
            escape=as_async(escape),
            lose=as_async(lose),
            stall=as_async(stall),
        )
    )


async def check_async_transaction(
    transaction: AsyncTransaction[C],
    *,
    write: Callable[[C], Awaitable[None]],
    count: Callable[[], Awaitable[int]],
    refuse: Callable[[C], Awaitable[None]] | None = None,
    escape: Callable[[C], Awaitable[None]] | None = None,
    lose: Callable[[C], Awaitable[None]] | None = None,
    stall: Callable[[C], Awaitable[None]] | None = None,
) -> None:
    """Check an async adapter; the arguments are those of :func:`check_transaction`, but async."""
    check = _Check(transaction, write, count)
    await check.commits()
    for error in (Rollback(), RuntimeError(), asyncio.CancelledError(), KeyboardInterrupt()):
        await check.rolls_back(error)
    if refuse is not None:
        await check.reports("a COMMIT that fails", refuse, TransactionError)
    if escape is not None:
        await check.reports("a transaction that ended early", escape, BrokenTransactionError)
    if lose is not None:
        await check.does_not_know("a COMMIT whose connection is lost", lose)
    if stall is not None:
        await check.does_not_know("a COMMIT that is not answered in time", stall)
    # None of this may have spoilt the connection.
    await check.commits()


class _Check(Generic[C]):
    def __init__(
        self,
        transaction: AsyncTransaction[C],
        write: Callable[[C], Awaitable[None]],
        count: Callable[[], Awaitable[int]],
    ) -> None:
        self._transaction = transaction
        self._write = write
        self._count = count

    async def commits(self) -> None:
        before = await self._count()
        async with self._transaction.begin(_BATCH, deadline=time.monotonic() + 30) as connection:
            await self._write(connection)
            await self._write(connection)
            _demand(await self._count() == before, "rows show before COMMIT")
        _demand(await self._count() == before + 2, "rows are missing after COMMIT")

    async def rolls_back(self, error: BaseException) -> None:
        before, kind = await self._count(), type(error).__name__
        passed: BaseException | None = None
        try:
            async with self._transaction.begin(
                _BATCH, deadline=time.monotonic() + 30
            ) as connection:
                await self._write(connection)
                raise error
        except BaseException as raised:
            passed = raised
        _demand(passed is error, f"{kind} left the block, but {passed!r} came out of it")
        _demand(await self._count() == before, f"rows are stored although {kind} left the block")

    async def reports(
        self,
        what: str,
        act: Callable[[C], Awaitable[None]],
        expected: type[TransactionError],
    ) -> None:
        before = await self._count()
        reported = await self._left_cleanly(act)
        _demand(isinstance(reported, expected), f"{what} is reported as {reported!r}")
        _demand(
            not isinstance(reported, UnknownOutcomeError),
            f"{what} is reported as unknown, although the database has said what became of it",
        )
        _demand(await self._count() == before, f"rows are stored after {what}")

    async def does_not_know(self, what: str, act: Callable[[C], Awaitable[None]]) -> None:
        before = await self._count()
        reported = await self._left_cleanly(act)
        stored = await self._count() != before
        _demand(
            isinstance(reported, UnknownOutcomeError),
            f"{what} is reported as {reported!r}, and the rows are "
            f"{'stored' if stored else 'not stored'}; it must be an UnknownOutcomeError",
        )

    async def _left_cleanly(self, act: Callable[[C], Awaitable[None]]) -> Exception | None:
        """Write a row, act, and leave the block cleanly; return what comes out of that."""
        try:
            async with self._transaction.begin(
                _BATCH, deadline=time.monotonic() + 30
            ) as connection:
                await self._write(connection)
                await act(connection)
        except Exception as raised:
            return raised
        return None


class _Async(Generic[C]):
    """A sync transaction, wrapped as an async one."""

    def __init__(self, transaction: Transaction[C]) -> None:
        self._transaction = transaction

    @asynccontextmanager
    async def begin(self, batch: Batch, *, deadline: float) -> AsyncIterator[C]:
        with self._transaction.begin(batch, deadline=deadline) as connection:
            yield connection


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
