"""Drivers: those of a project's databases that have doors, and what is done about the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atomicbatch.guard.places import Place, of_file, of_server
from atomicbatch.guard.watch import Driver, Watch, watching
from atomicbatch.sql.kinds import Family
from atomicbatch.sql.unknown import verb_of

# PyMySQL stands in for MySQLdb where a project says so.
_WITH_DOORS = frozenset({"sqlite3", "psycopg", "psycopg2", "MySQLdb", "pymysql"})
_FAMILIES = {family.value: family for family in Family}


def driver_of(database: Any) -> str:
    """
    Name the driver's package; empty where the backend does not say.

    Args:
        database: Django's ``DatabaseWrapper``.
    """
    name: str = getattr(getattr(database, "Database", None), "__name__", "")
    return name.partition(".")[0]


def has_door(database: Any) -> bool:
    """Tell whether what is done by a connection can be part of a batch."""
    return driver_of(database) in _WITH_DOORS


def place_of(database: Any) -> Place:
    """Tell which database a connection leads to, by the settings."""
    given, vendor = database.settings_dict, database.vendor
    if vendor == "sqlite":
        return of_file(given["NAME"])
    if vendor in _FAMILIES:
        return of_server(vendor, given["HOST"], given["PORT"], given["NAME"])
    return Place(vendor, str(given["HOST"]).lower(), 0, str(given["NAME"]))


def unwrapped(connection: Any) -> Any:
    """Return the driver's own object, where somebody has put a proxy around it."""
    while (inner := getattr(connection, "__wrapped__", None)) is not None:
        connection = inner
    return connection


# What Django's cursors ask before they send -------------------------------------------------------


def executing(found: Callable[..., Any]) -> Callable[..., Any]:
    """Ask before ``CursorWrapper._execute`` and ``_executemany``."""

    def execute(self: Any, sql: Any, params: Any, *others: Any) -> Any:
        watch = watching.get()
        if watch is not None and not has_door(self.db):
            _ask(watch, self.db, sql)
        return found(self, sql, params, *others)

    return execute


def calling(found: Callable[..., Any]) -> Callable[..., Any]:
    """Ask before ``CursorWrapper.callproc``."""

    def callproc(self: Any, *args: Any, **options: Any) -> Any:
        watch = watching.get()
        if watch is not None and not has_door(self.db):
            watch.writes(unwrapped(self.db.connection), _driver(self.db, Family.SQLITE), "CALL")
        return found(self, *args, **options)

    return callproc


def _ask(watch: Watch, database: Any, sql: object) -> None:
    connection = unwrapped(database.connection)
    family = _FAMILIES.get(database.vendor)
    if family is not None:
        watch.sends(connection, _driver(database, family), sql)
    elif verb := verb_of(str(sql)):
        watch.writes(connection, _driver(database, Family.SQLITE), verb)


def _driver(database: Any, family: Family) -> Driver:
    name = driver_of(database) or database.vendor
    return Driver(name, family, lambda _: place_of(database), allowed_as=database.alias)
