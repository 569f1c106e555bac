"""The door of mysqlclient, which sends every statement by ``Connection.query``."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.guard.places import Place, of_server
from atomicbatch.guard.watch import Driver, watching
from atomicbatch.sql.kinds import Family

WHY = "what takes no part in a batch is refused"


def _mysqlclient_place(connection: Any) -> Place | None:
    place: Place | None = vars(connection).get("_atomicbatch_place")
    return place


MYSQLCLIENT = Driver("MySQLdb", Family.MYSQL, _mysqlclient_place)


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
