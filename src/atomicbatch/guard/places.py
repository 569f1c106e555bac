"""Which database a connection leads to, and what an app's operator has allowed by name."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from atomicbatch.advice import ARGUMENTS, Advice

_FAMILIES = {
    "postgres": "postgresql",
    "cockroachdb": "postgresql",
    "mariadb": "mysql",
    "asyncpg": "postgresql",
}
_PORTS = {"mysql": 3306, "postgresql": 5432}
_LOOPBACK = frozenset({"", "localhost", "127.0.0.1", "::1"})
_NAME = re.compile(r"[A-Za-z_]\w*\Z")
_PAIR = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S*)")


class Place(NamedTuple):
    """A database: of a server, or a file."""

    family: str
    host: str
    port: int
    database: str

    def __str__(self) -> str:
        # No paths and no hosts, since it goes to clients.
        return Path(self.database).name or "a database in memory"


def of_server(family: str, host: object, port: object, database: object) -> Place:
    """
    Name a server's database; however it is reached, this machine is ``localhost``.

    Args:
        family: ``postgresql`` or ``mysql``.
        host: A name, an address, or the path of a socket.
        port: None or 0: the family's own.
        database: Its name.
    """
    name = _text(host).lower()
    if name in _LOOPBACK or name.startswith(("/", "@")):
        name = "localhost"
    number = int(str(port)) if str(port or "").isdigit() else 0
    return Place(family, name, number or _PORTS[family], _text(database))


def of_file(database: object, folder: str = "") -> Place:
    """
    Name an SQLite file; a database in memory has an empty name.

    Args:
        database: As it is opened: a path, or a ``file:`` URI.
        folder: Where a path begins that is not whole; empty: here.
    """
    name = os.fsdecode(database) if isinstance(database, str | bytes | os.PathLike) else ""
    if name.startswith("file:"):
        name, _, options = name.removeprefix("file:").partition("?")
        if "memory" in parse_qs(options).get("mode", ()):
            name = ""
        name = unquote(re.sub(r"\A//(?:localhost)?(?=/)", "", name))
    if name in ("", ":memory:"):
        return Place("sqlite", "", 0, "")
    return Place("sqlite", "", 0, str(Path(folder, name).resolve()))


def of_url(url: str) -> Place:
    """Name the database that an URL leads to, as SQLAlchemy or a driver writes it."""
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0].lower()
    family = _FAMILIES.get(scheme, scheme)
    if family == "sqlite":
        return of_file(unquote(url.partition("://")[2].partition("?")[0].removeprefix("/")))
    if family not in _PORTS:
        raise ValueError(f"outside= knows no database by an URL that starts with {scheme}://")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = parts.hostname or options.get("host") or options.get("unix_socket")
    database = unquote(parts.path.strip("/")) or options.get("dbname") or parts.username
    return of_server(family, host, parts.port or options.get("port"), database)


def _of_pairs(text: str) -> Place:
    """libpq's own form: ``host=... dbname=...``."""
    pairs = {name: value.strip("'") for name, value in _PAIR.findall(text)}
    database = pairs.get("dbname") or pairs.get("user")
    return of_server("postgresql", pairs.get("host"), pairs.get("port"), database)


class Allowed:
    """
    What batches leave alone, by name.

    Args:
        names: Paths of SQLite files, URLs of databases (host, port and database count), names of
            libraries or drivers, and places. Whatever else is among them (engines, say) is skipped.
        advice: What to do instead of what is refused.

    Raises:
        TypeError: One name instead of several.
        ValueError: An URL that no database is known by.
    """

    @classmethod
    def of(cls, transaction: object) -> Allowed:
        """Read the attributes ``outside`` and ``advice`` of an adapter, where it has them."""
        return cls(getattr(transaction, "outside", ()), getattr(transaction, "advice", ARGUMENTS))

    def __init__(self, names: Iterable[object] = (), advice: Advice = ARGUMENTS) -> None:
        if isinstance(names, str | bytes | os.PathLike):
            raise TypeError(f"outside= takes a tuple of names: ({os.fspath(names)!r},)")
        libraries: set[str] = set()
        places: set[Place] = set()
        for name in names:
            if isinstance(name, os.PathLike):
                places.add(of_file(name))
            elif isinstance(name, Place):
                places.add(name)
            elif not isinstance(name, str):
                continue
            elif "://" in name:
                places.add(of_url(name))
            elif "dbname=" in name:
                places.add(_of_pairs(name))
            elif _NAME.match(name):
                libraries.add(name.lower())
            else:
                places.add(of_file(name))
        self.advice = advice
        self.libraries = frozenset(libraries)
        self.places = frozenset(places)

    def __bool__(self) -> bool:
        """Anything is allowed."""
        return bool(self.libraries or self.places)

    def allows(self, libraries: Collection[str], place: Place | None) -> bool:
        """Tell whether one of these libraries, or this database, is allowed."""
        return place in self.places or any(name.lower() in self.libraries for name in libraries)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
