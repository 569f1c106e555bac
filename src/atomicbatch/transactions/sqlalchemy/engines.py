"""Whether two engines use one database, and whether they open interchangeable connections."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from sqlalchemy import URL, Engine
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import SingletonThreadPool, StaticPool

_FAMILIES = {"mariadb": "mysql", "cockroachdb": "postgresql"}
_PORTS = {"mysql": 3306, "postgresql": 5432}
_LOOPBACK = frozenset({"", "127.0.0.1", "::1"})
# A hook of one of these may make a connection what another engine's is not.
_HOOKS = ("connect", "first_connect", "checkout", "checkin", "reset", "close")


def is_same_database(one: URL, other: URL) -> bool:
    """Tell whether two URLs, different though they may be, lead to the same database."""
    place = _place(one)
    return place is not None and place == _place(other)


def _place(url: URL) -> tuple[object, ...] | None:
    backend = url.get_backend_name()
    family = _FAMILIES.get(backend, backend)
    if family == "sqlite":
        name = (url.database or "").removeprefix("file:").partition("?")[0]
        if name in ("", ":memory:") or "mode=memory" in str(url):
            return None  # each engine's own
        return family, Path(name).resolve()
    host = url.host or ""
    host = "localhost" if host in _LOOPBACK else host.lower()
    return family, host, url.port or _PORTS.get(family), url.database or url.username


def is_in_memory(engine: Engine) -> bool:
    """Tell whether an engine is of an SQLite database whose connections may be a thread's own."""
    return engine.dialect.name == "sqlite" and isinstance(
        engine.pool, SingletonThreadPool | StaticPool
    )


def are_alike(one: Engine, other: Engine) -> bool:
    """
    Tell whether a connection of one engine can stand for one of the other.

    What cannot be told apart for sure counts as different.
    """
    mine, its = one.dialect, other.dialect
    return (
        one.url == other.url
        and type(mine) is type(its)
        and _options(mine) == _options(its)
        and one.pool._reset_on_return == other.pool._reset_on_return
        and _arguments(one) == _arguments(other) is not None
        and _hooks(mine.dispatch, ("do_connect",)) == _hooks(its.dispatch, ("do_connect",))
        and _hooks(one.pool.dispatch, _HOOKS) == _hooks(other.pool.dispatch, _HOOKS)
    )


def _options(dialect: Dialect) -> dict[str, Any]:
    """What create_engine() has told the dialect: serializers, isolation level and so on."""
    names = {
        name
        for known in type(dialect).__mro__
        if "__init__" in vars(known)
        for name in inspect.signature(vars(known)["__init__"]).parameters
    }
    names |= {f"_{name}" for name in names} | {"_on_connect_isolation_level"}
    # SQLAlchemy wraps an async driver's module anew for each engine. Whether a MySQL dialect
    # talks to MariaDB it learns on its first connection, whatever create_engine() was told.
    names -= {"dbapi", "_dbapi", "is_mariadb", "_is_mariadb"}
    return {name: value for name in names if (value := vars(dialect).get(name)) is not None}


def _arguments(engine: Engine) -> tuple[Any, Any] | None:
    """What the driver's connect() is called with; None where connections are made otherwise."""
    creator = engine.pool._creator
    if getattr(creator, "__module__", "") != "sqlalchemy.engine.create":
        return None
    made_of = inspect.getclosurevars(creator).nonlocals
    if not {"cargs_tup", "cparams"} <= made_of.keys():
        return None
    # psycopg's adapters, which SQLAlchemy makes anew for each engine.
    own = getattr(engine.dialect, "_psycopg_adapters_map", None)
    named = {
        name: value for name, value in made_of["cparams"].items() if own is None or value is not own
    }
    return tuple(made_of["cargs_tup"]), named


def _hooks(dispatch: Any, names: Iterable[str]) -> list[list[object]]:
    """Who listens; SQLAlchemy's own functions are made anew for each engine, so they count only."""
    return [
        [
            None if str(getattr(hook, "__module__", "")).startswith("sqlalchemy.") else hook
            for hook in getattr(dispatch, name)
        ]
        for name in names
    ]


def name_of(engine: Engine) -> str:
    """Name an engine in a message to clients: its driver and database, not where that is."""
    database = PurePath(engine.url.database or "").name
    return f"{engine.url.drivername} ({database})" if database else engine.url.drivername
