"""
The door of asyncpg.

Every statement with parameters is prepared first (``_get_statement``); those without go through
``execute``; copies and statements that were prepared earlier have ways of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver, watching
from atomicbatch.sql.kinds import Family

WHY = "what takes no part in a batch is refused"


# asyncpg -----------------------------------------------------------------------------------------


def _asyncpg_place(connection: Any) -> Place | None:
    address = connection._addr
    host, port = address if isinstance(address, tuple) else (address, None)
    if port is None:
        # The path of a socket, whose name ends with the port.
        port = str(host).rpartition(".")[2]
    return of_server("postgresql", host, port, connection._params.database)


ASYNCPG = Driver("asyncpg", Family.POSTGRESQL, _asyncpg_place)


def change_asyncpg(module: ModuleType) -> None:
    """Let asyncpg's connections ask."""
    connection = module.Connection
    for name in ("_get_statement", "execute", "_copy_in", "_copy_out"):
        patches.change(connection, name, _asking_by_query, why=WHY)
    patches.change(connection, "copy_records_to_table", _asking_to_copy, why=WHY)


def change_asyncpg_statements(module: ModuleType) -> None:
    """Let statements ask that were prepared earlier, before the batch perhaps."""
    statement = module.PreparedStatement
    patches.change(statement, "_PreparedStatement__do_execute", _asking_again, why=WHY)
    patches.change(statement, "cursor", _asking_again, why=WHY)


def _asking_by_query(found: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.sends(self, ASYNCPG, query)
        return found(self, query, *args, **options)

    return ask


def _asking_to_copy(found: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.writes(self, ASYNCPG, "COPY")
        return found(self, *args, **options)

    return ask


def _asking_again(found: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.sends(self._connection, ASYNCPG, self._query)
        return found(self, *args, **options)

    return ask
