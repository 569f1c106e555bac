"""What a handler gets instead of an async driver's own connection."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy.util import await_only, greenlet_spawn

from atomicbatch.transactions.sqlalchemy.attributes import CHANGING, OF_ASYNC_DRIVERS
from atomicbatch.transactions.sqlalchemy.checkout import SessionCheckout

# asyncpg's methods that run one statement, and those whose statement we do not see.
_QUERIES = frozenset({"execute", "executemany", "fetch", "fetchrow", "fetchval"})
_COPIES = frozenset(
    {"copy_from_query", "copy_from_table", "copy_records_to_table", "copy_to_table"}
)


class OwnConnection:
    """
    An async driver's connection, of which only that can be used which stays in the transaction.

    asyncpg's statements are part of the session's transaction where one is open; else each commits
    by itself, as it would on the driver's connection.
    """

    __slots__ = ("_checkout",)

    def __init__(self, checkout: SessionCheckout) -> None:
        self._checkout = checkout

    def __getattr__(self, name: str) -> Any:
        real = self._checkout.real
        if name in OF_ASYNC_DRIVERS:
            return getattr(real.fairy.driver_connection, name)
        if name in CHANGING:
            self._checkout.refuse_change(name)
        if real.dialect.driver == "asyncpg" and name in _QUERIES | _COPIES:
            return partial(self._run, name)
        raise self._checkout.refusal(
            f"a handler uses {name} of the driver's own connection, which may leave the batch's "
            f"transaction; use SQLAlchemy's"
        )

    async def _run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        method = getattr(self._checkout.real.fairy.driver_connection, name)
        query = "COPY"
        if name in _QUERIES:
            # Its name differs: query, or command (executemany).
            found = args[:1] or [kwargs[key] for key in ("query", "command") if key in kwargs]
            if not found:
                return await method(*args, **kwargs)  # which says what is missing
            query = found[0]

        def run(_: Any) -> Any:
            return await_only(method(*args, **kwargs))

        return await greenlet_spawn(
            partial(self._checkout.perform, run, query, (), {}, by_driver=True)
        )
