"""
The doors of PyMySQL, aiomysql, asyncmy and mysqlclient.

The first three are related. They send every command, also SAVEPOINT and its kin, by
``_execute_command``. mysqlclient sends every statement by ``Connection.query``.
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
# The protocol's number of it.
_COM_QUERY = 3


def _pymysql_place(connection: Any) -> Place | None:
    host = connection.unix_socket or connection.host
    return of_server("mysql", host, connection.port, connection.db)


def _async_place(connection: Any) -> Place | None:
    host = connection._unix_socket or connection._host
    return of_server("mysql", host, connection._port, connection._db)


def _mysqlclient_place(connection: Any) -> Place | None:
    place: Place | None = vars(connection).get("_atomicbatch_place")
    return place


PYMYSQL = Driver("pymysql", Family.MYSQL, _pymysql_place)
AIOMYSQL = Driver("aiomysql", Family.MYSQL, _async_place)
ASYNCMY = Driver("asyncmy", Family.MYSQL, _async_place)
MYSQLCLIENT = Driver("MySQLdb", Family.MYSQL, _mysqlclient_place)


def change_pymysql(module: ModuleType) -> None:
    """Let PyMySQL's connections ask."""
    patches.change(module.Connection, "_execute_command", _commanding(PYMYSQL), why=WHY)


def change_aiomysql(module: ModuleType) -> None:
    """Let aiomysql's connections ask."""
    patches.change(module.Connection, "_execute_command", _commanding(AIOMYSQL), why=WHY)


def change_asyncmy(module: ModuleType) -> None:
    """Let asyncmy's connections ask."""
    patches.change(module.Connection, "_execute_command", _commanding(ASYNCMY), why=WHY)


def _commanding(driver: Driver) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(found: Callable[..., Any]) -> Callable[..., Any]:
        def execute_command(self: Any, command: int, sql: Any) -> Any:
            watch = watching.get()
            if watch is not None and command == _COM_QUERY:
                watch.sends(self, driver, sql)
            return found(self, command, sql)

        return execute_command

    return make


def change_mysqlclient(module: ModuleType) -> None:
    """Let mysqlclient's connections ask, and remember where they lead, which they do not tell."""
    patches.change(module.Connection, "query", _querying, why=WHY)
    patches.change(module.Connection, "__init__", _remembering, why=WHY)


def _querying(found: Callable[..., Any]) -> Callable[..., Any]:
    def query(self: Any, query: Any) -> Any:
        watch = watching.get()
        if watch is not None:
            watch.sends(self, MYSQLCLIENT, query)
        return found(self, query)

    return query


def _remembering(found: Callable[..., Any]) -> Callable[..., Any]:
    def init(self: Any, *args: Any, **options: Any) -> None:
        names = ("host", "user", "password", "database", "port", "unix_socket")
        given = {**dict(zip(names, args, strict=False)), **options}
        if "read_default_file" not in given:
            host = given.get("unix_socket") or given.get("host")
            database = given.get("database") or given.get("db")
            self._atomicbatch_place = of_server("mysql", host, given.get("port"), database)
        found(self, *args, **options)

    return init
