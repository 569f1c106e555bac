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

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

from tests.databases import WITH_MYSQLCLIENT

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
SERVERS = ("postgresql", "mariadb")


_WRITTEN_IN_C = ("sqlite3", "psycopg2", "mysqlclient")


def early_of(driver: str) -> str:
    """What a library is refused with that keeps a connection from before the doors."""
    return "opened before" if driver in _WRITTEN_IN_C else ""


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

    @property
    def package(self) -> str:
        """Without the way in which it is opened: ``peewee`` of ``peewee-pool-psycopg2``."""
        package = self.name.partition("-")[0]
        return "psycopg-async" if self.name.startswith("psycopg-async") else package


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
        if driver != "mysqlclient" or WITH_MYSQLCLIENT:
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


def on_loop(one: Handler) -> Handler:
    """Make a sync handler one of an app that runs it on its event loop."""

    async def act(world: Any) -> Any:
        return one.act(world)

    act.__name__ = one.name
    return replace(one, act=act)


def loaded_without(missing: str, name: str) -> ModuleType:
    """
    Load a library's module once more, under another name, as if a driver were not installed.

    Args:
        missing: The driver's package.
        name: The module that takes another driver then.
    """
    found = find_spec(name)
    assert found is not None
    assert found.origin is not None
    own = f"{name}_without_{missing}"
    spec = spec_from_file_location(own, found.origin)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[own] = module_from_spec(spec)
    hidden = {one: sys.modules.pop(one) for one in [*sys.modules] if one.split(".")[0] == missing}
    sys.modules[missing] = None  # type: ignore[assignment]
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[missing]
        sys.modules.update(hidden)
    return module
