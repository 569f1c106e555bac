"""Kinds that say of drivers what doors say, without a door: tests tell uses what to do."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pymysql

from atomicbatch import drivers
from atomicbatch.drivers import asyncpg as of_asyncpg
from atomicbatch.drivers import psycopg as of_psycopg
from atomicbatch.drivers import pymysql as of_pymysql
from atomicbatch.drivers.driver import State
from atomicbatch.guard.places import Place, of_server, of_url
from atomicbatch.guard.watch import Driver
from atomicbatch.sql.kinds import Family

assert drivers


class Psycopg:
    """psycopg's sync connections."""

    named = Driver("psycopg", Family.POSTGRESQL, lambda one: of_url(f"postgresql://{_dsn(one)}"))
    driver = of_psycopg
    is_async = False

    def state(self, connection: Any) -> State:
        return of_psycopg.state(connection)

    def is_auto(self, connection: Any) -> bool:
        return bool(connection.autocommit)

    def level(self, connection: Any) -> str:
        level = connection.isolation_level
        return "" if level is None else level.name.replace("_", " ")

    def is_read_only(self, connection: Any) -> bool:
        return bool(connection.read_only)

    def ask(self, connection: Any, text: str) -> Any:
        return of_psycopg.ask(connection, text)

    def open(self, connection: Any) -> Any:
        return psycopg.connect(connection.info.dsn, autocommit=True)

    def adopt(self, wire: Any) -> None:
        wire.autocommit = True

    def close(self, wire: Any) -> None:
        wire.close()


def _dsn(connection: Any) -> str:
    info = connection.info
    return f"{info.host or 'localhost'}:{info.port}/{info.dbname}"


class Asyncpg:
    """asyncpg's."""

    named = Driver(
        "asyncpg",
        Family.POSTGRESQL,
        lambda one: of_server("postgresql", one._addr[0], one._addr[1], one._params.database),
    )
    driver = of_asyncpg
    is_async = True

    def __init__(self, url: str) -> None:
        self._url = url

    def state(self, connection: Any) -> State:
        return of_asyncpg.state(connection)

    def is_auto(self, _: Any) -> bool:
        return True

    def level(self, _: Any) -> str:
        return ""

    def is_read_only(self, _: Any) -> bool:
        return False

    async def ask(self, connection: Any, text: str) -> Any:
        return await of_asyncpg.ask(connection, text)

    async def open(self, _: Any) -> Any:
        return await asyncpg.connect(self._url)

    async def adopt(self, _: Any) -> None:
        """Nothing is to be done."""

    async def close(self, wire: Any) -> None:
        wire.terminate()


def _place(connection: Any) -> Place:
    return of_server("mysql", connection.host, connection.port, connection.db)


class PyMySQL:
    """PyMySQL's."""

    named = Driver("pymysql", Family.MYSQL, _place)
    driver = of_pymysql
    is_async = False

    def state(self, connection: Any) -> State:
        return of_pymysql.state(connection)

    def is_auto(self, connection: Any) -> bool:
        return bool(connection.get_autocommit())

    def level(self, _: Any) -> str:
        return ""

    def is_read_only(self, _: Any) -> bool:
        return False

    def ask(self, connection: Any, text: str) -> Any:
        return of_pymysql.ask(connection, text)

    def open(self, connection: Any) -> Any:
        return pymysql.connect(
            host=connection.host,
            port=connection.port,
            user=connection.user.decode(),
            password=connection.password.decode(),
            database=connection.db.decode(),
            autocommit=True,
        )

    def adopt(self, wire: Any) -> None:
        wire.autocommit(True)

    def close(self, wire: Any) -> None:
        wire.close()


def connect_pymysql(url: str) -> Any:
    """Connect by PyMySQL, each statement for itself."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "",
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.path.lstrip("/"),
        autocommit=True,
    )
