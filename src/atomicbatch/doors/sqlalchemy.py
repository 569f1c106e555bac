"""
The doors of SQLAlchemy: what its pools do as they open a connection, and drivers without a door.

An app's listeners for ``connect`` set up connections (``SET search_path``), and the dialect asks
the server for its version. That holds for as long as the pool has the connection, so it is no part
of a batch, and must not go to the batch's own.

An engine on a driver that has no door of its own (pg8000, oracledb, pyodbc) asks the guard here,
before it sends a statement.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from atomicbatch import patches
from atomicbatch.guard.places import Place, of_file, of_server
from atomicbatch.guard.watch import Driver, Watch, aside, watching
from atomicbatch.sql.kinds import Family
from atomicbatch.sql.unknown import verb_of

WHY = "what takes no part in a batch is refused"
WITH_DOORS: Final = frozenset(
    (
        *("pysqlite", "aiosqlite", "psycopg", "psycopg_async", "psycopg2", "asyncpg"),
        *("pymysql", "mysqldb", "aiomysql", "asyncmy"),
    )
)
"""What SQLAlchemy calls the drivers that have doors."""
_CONNECT = "_ConnectionRecord__connect"
# As a dialect of somebody's own may name them otherwise.
_PACKAGES = frozenset(
    (
        *("sqlite3", "aiosqlite", "psycopg", "psycopg2", "asyncpg"),
        *("pymysql", "MySQLdb", "aiomysql", "asyncmy", "atomicbatch"),
    )
)
_JOINS_IF = (
    "give transaction=[SQLAlchemyTransaction(), DriverTransaction()], with which its engine "
    "takes part"
)
_FAMILIES = {"postgresql": Family.POSTGRESQL, "mysql": Family.MYSQL, "mariadb": Family.MYSQL}


def change_sqlalchemy_pool(module: ModuleType) -> None:
    """Let pools open their connections outside of batches."""
    if hasattr(module._ConnectionRecord, _CONNECT):
        patches.change(module._ConnectionRecord, _CONNECT, _connecting, why=WHY)


def _connecting(found: Callable[..., None]) -> Callable[..., None]:
    def connect(self: Any) -> None:
        if watching.get() is None:
            found(self)
            return
        with aside():
            found(self)

    return connect


# Drivers without a door --------------------------------------------------------------------------


def change_sqlalchemy_dialects(module: ModuleType) -> None:
    """Let engines on drivers without a door ask before they send."""
    for name in ("do_execute", "do_executemany", "do_execute_no_params"):
        patches.change(module.DefaultDialect, name, _executing, why=WHY)


def _executing(found: Callable[..., None]) -> Callable[..., None]:
    def execute(self: Any, cursor: Any, statement: Any, *others: Any, **options: Any) -> None:
        watch = watching.get()
        if watch is not None and self.driver not in WITH_DOORS:
            context = options.get("context", others[-1] if others else None)
            _ask(watch, self, cursor, statement, getattr(context, "root_connection", None))
        return found(self, cursor, statement, *others, **options)

    return execute


def _ask(watch: Watch, dialect: Any, cursor: Any, statement: Any, sender: Any) -> None:
    # The dialect itself, which sets up a connection; or a cursor of the batch's.
    if sender is None or getattr(type(cursor), "is_of_batch", False):
        return
    connection = sender.connection.driver_connection
    if any(kind.__module__.partition(".")[0] in _PACKAGES for kind in type(connection).__mro__):
        return
    family = _FAMILIES.get(dialect.name)
    place = _place_of(dialect.name, sender.engine.url)
    driver = Driver(
        *(dialect.driver, family or Family.SQLITE, lambda _: place),
        allowed_as=dialect.driver,
        joins_if=_JOINS_IF,
    )
    if family is not None or dialect.name == "sqlite":
        watch.sends(connection, driver, statement)
    elif verb := verb_of(statement):
        watch.writes(connection, driver, verb)


def _place_of(name: str, url: Any) -> Place:
    if name == "sqlite":
        return of_file(url.database)
    if (family := _FAMILIES.get(name)) is not None:
        return of_server(family.value, url.host, url.port, url.database)
    return Place(name, str(url.host or "").lower(), url.port or 0, str(url.database or ""))
