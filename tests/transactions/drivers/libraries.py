"""
Libraries, each used as its own docs say, and the handlers that tests run by them.

A library stands here once for each driver that it is tried on. A handler knows nothing of batches.
What it returns becomes the response's JSON. One that is refused in a batch says so in its
decorator::

    HANDLERS: list[Handler] = []

    @handler(HANDLERS)
    def insert(pool): ...

    @handler(HANDLERS, because="LISTEN")
    def listens(pool): ...

    @library("psycopg-pool", driver="psycopg", is_async=False, handlers=HANDLERS, add=add)
    async def pool(store: PostgreSQL) -> AsyncIterator[ConnectionPool]:
        with ConnectionPool(store.url) as pool:
            yield pool
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

DATABASES = {
    "sqlite3": "sqlite",
    "aiosqlite": "sqlite",
    "psycopg": "postgresql",
    "psycopg-async": "postgresql",
    "psycopg2": "postgresql",
    "asyncpg": "postgresql",
    "pymysql": "mariadb",
    "mysqlclient": "mariadb",
    "aiomysql": "mariadb",
    "asyncmy": "mariadb",
}
"""The database that each driver is tried on."""


class UndoError(Exception):
    """Raised by handlers that want a transaction undone."""


@dataclass
class Handler:
    """
    One way to use a library.

    Attributes:
        act: Called with what the library was opened as.
        because: In a batch it is refused, with a message that holds this.
        on: The databases that it can be run on; empty: all.
    """

    act: Callable[[Any], Any]
    because: str = ""
    on: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.act.__name__


@dataclass
class Library:
    """
    One library on one driver, opened in one way.

    Attributes:
        name: Of all three.
        driver: A key of ``DATABASES``.
        is_async: Its handlers are ``async def``.
        open: Given a database, gives what handlers are called with.
        add: A handler that also takes a name, and adds an item.
        handlers: What is run.
        early: In a batch, what a connection from before the doors is refused with; empty: it
            works all the same.
    """

    name: str
    driver: str
    is_async: bool
    open: Callable[[Any], AbstractAsyncContextManager[Any]]
    add: Callable[[Any, str], Any]
    handlers: list[Handler] = field(default_factory=list)
    early: str = ""

    @property
    def on(self) -> str:
        """Its database."""
        return DATABASES[self.driver]


LIBRARIES: list[Library] = []


def library(
    name: str,
    *,
    driver: str,
    is_async: bool,
    handlers: list[Handler],
    add: Callable[[Any, str], Any],
    early: str = "",
) -> Callable[[Callable[[Any], AsyncIterator[Any]]], Any]:
    """Register a library by the function that opens it on a ``Store``."""
    on = DATABASES[driver]
    run = [one for one in handlers if not one.on or on in one.on]

    def register(make: Callable[[Any], AsyncIterator[Any]]) -> Any:
        opened = asynccontextmanager(make)
        LIBRARIES.append(Library(name, driver, is_async, opened, add, run, early))
        return make

    return register


def handler(
    handlers: list[Handler], because: str = "", on: tuple[str, ...] = ()
) -> Callable[[Any], Any]:
    """Register a handler of a library."""

    def register(act: Any) -> Any:
        handlers.append(Handler(act, because, on))
        return act

    return register
