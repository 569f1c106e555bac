"""A connection of an engine's pool, as the link on which the join's steps are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.pool import PoolProxiedConnection

from atomicbatch.drivers import pep249
from atomicbatch.drivers.driver import State
from atomicbatch.transactions.sqlalchemy.links import Sender, driver_of


class PooledLink:
    """
    The link of one connection; used in threads, or in SQLAlchemy's greenlets.

    Args:
        dialect: It knows what each driver says when its connection is gone.
        fairy: The connection.
        send: How SQL without rows is sent fastest, as links.sender_of() tells.
        interrupt: Stops the statement that is running; never blocks.
    """

    __slots__ = ("_dialect", "_driver", "_fairy", "interrupt", "send")

    def __init__(
        self,
        dialect: Dialect,
        fairy: PoolProxiedConnection,
        send: Sender,
        interrupt: Callable[[], None],
    ) -> None:
        self._dialect = dialect
        self._fairy = fairy
        self._driver: Any = fairy.driver_connection
        self.send: Callable[[Sequence[str]], None] = send
        self.interrupt = interrupt

    def ask(self, text: str) -> Any:
        return pep249.ask(self._fairy, text)

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
