"""``sqlite3.connect``: it gives connections that have a door."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from atomicbatch import patches
from atomicbatch.doors.sqlite import Connection, below, place_of
from atomicbatch.doors.sqlite_origins import Origin
from atomicbatch.guard.watch import Watch, watching

WHY = "what takes no part in a batch is refused"
# The parameters of sqlite3.connect(), after the database.
_PARAMETERS = (
    "timeout",
    "detect_types",
    "isolation_level",
    "check_same_thread",
    "factory",
    "cached_statements",
    "uri",
)
_FACTORY = _PARAMETERS.index("factory")


@cache
def _asking(factory: type) -> Any:
    """Make our class a base of the app's class, so that what it passes on comes to us."""
    return factory if issubclass(factory, Connection) else below(factory, Connection)


def _connecting(found: Callable[..., Any]) -> Callable[..., Any]:
    def connect(database: Any, *args: Any, **options: Any) -> Any:
        if len(args) > _FACTORY:
            factory = args[_FACTORY]
        else:
            factory = options.get("factory", sqlite3.Connection)
        if isinstance(factory, type):
            if len(args) > _FACTORY:
                args = (*args[:_FACTORY], _asking(factory), *args[_FACTORY + 1 :])
            else:
                options["factory"] = _asking(factory)
        connection = found(database, *args, **options)
        if isinstance(connection, Connection):
            connection._atomicbatch = Origin(
                database,
                os.getcwd(),
                {**dict(zip(_PARAMETERS, args, strict=False)), **options},
                threading.get_ident(),
            )
            watch = watching.get()
            if watch is not None:
                watch.opens(connection)
                note_memory(connection, watch)
        return connection

    return connect


def note_memory(connection: Connection, watch: Watch) -> None:
    """Note that an attempt has opened a connection, if it leads to a database of its own."""
    place = place_of(connection)
    if place is not None and not place.database and not connection._atomicbatch.shared_memory:
        connection._atomicbatch.opened_in = watch


def change_sqlite3(module: ModuleType) -> None:
    """Let sqlite3.connect give connections of ours; also where it was imported by name."""
    # Three names of one function, unless somebody has wrapped one of them (OpenTelemetry, ddtrace).
    modules = (module, *map(import_module, ("sqlite3.dbapi2", "_sqlite3")))
    patches.change_everywhere([one.connect for one in modules], _connecting, why=WHY)
