"""
Transaction: what the calls of a batch work in.

As a rule that is the drivers' doors. In a ``TestCase`` the test's connections are in a transaction
when the batch begins. A connection of the batch's own would not see the test's rows, would wait for
its locks, and would not be rolled back with it. There a batch is one more ``atomic()`` inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    nullcontext,
)
from contextvars import ContextVar
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections, transaction

from atomicbatch.advice import Advice
from atomicbatch.django.advice import SETTINGS
from atomicbatch.errors import BrokenTransactionError, NotBatchableError
from atomicbatch.guard.watch import watching
from atomicbatch.model import Batch
from atomicbatch.transactions.around import around
from atomicbatch.transactions.drivers import DriverTransaction, Outside

_ASKED_BY_DOORS = ("use_of", "server_use_of", "has_written", "refuse")
_adopted: ContextVar[tuple[Any, ...]] = ContextVar("atomicbatch_adopted", default=())


def in_test_transactions() -> AbstractContextManager[None]:
    """
    Note which connections of this thread are in a transaction already, for the block's length.

    It looks when it is called, in the thread of Django's sync code.
    """
    opened = connections.all(initialized_only=True)
    return _noted(tuple(one for one in opened if one.in_atomic_block))


@contextmanager
def _noted(adopted: tuple[Any, ...]) -> Iterator[None]:
    token = _adopted.set(adopted)
    try:
        yield
    finally:
        _adopted.reset(token)


class DjangoTransaction:
    """
    Makes the handlers of a Django project work in one transaction, unmodified.

    Args:
        outside: What batches leave alone, as ``DriverTransaction`` takes it.
    """

    def __init__(self, *, outside: Iterable[Outside] = ()) -> None:
        self._drivers = DriverTransaction(outside=outside, advice=SETTINGS)

    def begin(self, batch: Batch, *, deadline: float) -> Any:
        """
        Begin one attempt; what it returns is entered by ``with`` or by ``async with``.

        Raises:
            NotBatchableError: A connection is in a transaction that is no test's.
        """
        adopted = _adopted.get()
        for connection in adopted:
            # A test's own block, whatever blocks are inside of it.
            if not connection.atomic_blocks[0]._from_testcase:
                raise NotBatchableError(
                    f"the database {connection.alias!r} is in a transaction already, which a "
                    f"middleware in front of BatchMiddleware has begun: it would be committed, or "
                    f"not, after the batch has been answered; put BatchMiddleware first"
                )
        if adopted:
            return _Adopting(adopted, around.layer())
        return self._drivers.begin(batch, deadline=deadline)

    def wants_alone(self) -> bool:
        """See ``transactions/contract.py``."""
        return self._drivers.wants_alone()

    @property
    def advice(self) -> Advice:
        """What to do instead of what is refused."""
        return self._drivers.advice

    @property
    def outside(self) -> tuple[Outside, ...]:
        """What batches leave alone."""
        return self._drivers.outside


class _Adopting(AbstractContextManager["_Adopting"], AbstractAsyncContextManager["_Adopting"]):
    """
    The block of one attempt inside of a test's own transactions.

    Args:
        connections: Django's, each in a transaction.
        layer: What the pytest plugin rolls back, to which that transaction belongs; or None.
    """

    def __init__(self, connections: tuple[Any, ...], layer: Any) -> None:
        self._connections = connections
        self._layer = layer
        if layer is not None:
            # The doors of drivers go on asking it what stands for the connections.
            for name in _ASKED_BY_DOORS:
                setattr(self, name, getattr(layer, name))
        self._blocks: list[tuple[Any, Any]] = []

    def __enter__(self) -> _Adopting:
        with self._as_the_test():
            try:
                for connection in self._connections:
                    self._begin(connection)
            except BaseException:
                self._end(undone=True)
                raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        broken = [one.alias for one in self._connections if one.needs_rollback]
        with self._as_the_test():
            self._end(undone=error is not None or bool(broken))
        if broken and error is None:
            raise BrokenTransactionError(
                f"a handler has broken the transaction of {broken[0]!r} and gone on; the batch is "
                f"rolled back, the test's transaction stands",
                may_be_stored=False,
            )

    @contextmanager
    def _as_the_test(self) -> Iterator[None]:
        """The block's own statements go where the test's go."""
        if self._layer is None:
            yield
            return
        token = watching.set(self._layer.watch)
        try:
            yield
        finally:
            watching.reset(token)

    def _begin(self, connection: Any) -> None:
        block = transaction.atomic(using=connection.alias)
        # So that durable=True is let pass by, as in the test itself.
        block._from_testcase = True
        block.__enter__()
        self._blocks.append((connection, block))
        # The end of each call would take the open transaction for one that was left behind.
        connection.close_if_unusable_or_obsolete = _do_nothing

    def _end(self, *, undone: bool) -> None:
        for connection, block in reversed(self._blocks):
            del connection.close_if_unusable_or_obsolete
            if undone:
                connection.needs_rollback = True
            block.__exit__(None, None, None)

    async def __aenter__(self) -> _Adopting:
        return await sync_to_async(self.__enter__)()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await sync_to_async(self.__exit__)(kind, error, traceback)

    def call(self) -> Any:
        """Make what one call runs inside of."""
        return nullcontext()

    def takes_part(self, connection: Any) -> bool:
        """Tell whether a driver's connection is one of the test's."""
        return any(one.connection is connection for one in self._connections)


def _do_nothing() -> None:
    pass
