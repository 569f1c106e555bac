"""The attempt at a batch, as its real transactions know it; ``attempt.py`` has the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL
from sqlalchemy.pool import Pool, PoolProxiedConnection

from atomicbatch.errors import TransactionError
from atomicbatch.join.attempt import Attempt
from atomicbatch.sql.kinds import Family
from atomicbatch.transactions.slots import Slots
from atomicbatch.transactions.sqlalchemy.options import Options


class Host(Attempt[Any], ABC):
    """What a transaction asks of its attempt."""

    options: Options
    deadline: float
    fairies: list[PoolProxiedConnection]
    thread: int

    @property
    @abstractmethod
    def is_sync(self) -> bool:
        """The batch runs in a thread without an event loop."""

    @abstractmethod
    def slots(self, pool: Pool, family: Family) -> Slots | None:
        """How many batches may use a pool at a time."""

    @abstractmethod
    def open(self, act: Callable[[], None]) -> None:
        """Do something on connections of the pool, which is not the batch's own."""

    @abstractmethod
    def check_loop(self) -> None:
        """Refuse another event loop than the app's."""

    @abstractmethod
    def give_way(self, error: TransactionError, url: URL | None) -> bool:
        """Undo the batch from another thread, so that others can go on; tell whether it is."""
