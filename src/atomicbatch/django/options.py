"""
Options: the setting ``ATOMICBATCH``, checked, and what it means for the endpoint.

It is a dictionary with keys in upper case, as in Django's other settings; each stands for an
argument of ``AtomicBatch``, or of ``DriverTransaction``::

    ATOMICBATCH = {
        "PATH": "/batch",
        "LIMITS": {"MAX_CALLS": 100, "TIMEOUT_SECONDS": 10},
        "OUTSIDE": ["audit"],
    }
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from atomicbatch.django.drivers import place_of
from atomicbatch.engine import Replay
from atomicbatch.exchange import EndpointOptions, OptionNames
from atomicbatch.guard import Allowed
from atomicbatch.guard.places import Place
from atomicbatch.limits import EndpointLimits, Limits

SETTING = "ATOMICBATCH"


class Options(NamedTuple):
    """What the setting says."""

    endpoint: OptionNames
    """The arguments of ``AtomicBatch``."""
    outside: tuple[str | os.PathLike[str] | Place, ...]
    """The argument of ``DriverTransaction``."""


def options_of() -> Options:
    """
    Read the setting.

    Raises:
        ImproperlyConfigured: It has a key or a value that it cannot have.
    """
    options, problems = _read()
    if problems:
        raise ImproperlyConfigured("; ".join(problems))
    return options


def problems_of() -> list[str]:
    """Tell what is wrong with the setting, a sentence for each."""
    return _read()[1]


def _read() -> tuple[Options, list[str]]:
    given = getattr(settings, SETTING, {})
    read: dict[str, Any] = {}
    if not isinstance(given, Mapping):
        problems = [f"{SETTING} is a dictionary, not {given!r}"]
        return Options({}, ()), problems
    problems = []
    for key, value in given.items():
        reader = KEYS.get(key)
        if reader is None:
            problems.append(f"{SETTING} has no key {key!r}; it knows {', '.join(sorted(KEYS))}")
            continue
        try:
            read[key.lower()] = reader(value)
        except (TypeError, ValueError) as error:
            problems.append(f"{SETTING}[{key!r}]: {error}")
    outside = read.pop("outside", ())
    endpoint: OptionNames = read  # type: ignore[assignment]  # each by the reader of its key
    return Options(endpoint, outside), problems


def _path(value: Any) -> str:
    path: str = _of_kind(value, str)
    EndpointOptions(path=path)  # says what is wrong with it
    return path


def _status(value: Any) -> int:
    status: int = _of_kind(value, int)
    EndpointOptions(rolled_back_status=status)
    return status


def _names(value: Any) -> list[str]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"a list of names, not {value!r}")
    return [_of_kind(name, str) for name in value]


def _bounds(kind: type[Any]) -> Callable[[Any], Any]:
    """Make a reader of a dictionary with the fields of a class, in upper case."""
    kinds = {one.name.upper(): type(one.default) for one in fields(kind)}

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"a dictionary, not {value!r}")
        arguments = {}
        for key, bound in value.items():
            if key not in kinds:
                raise ValueError(f"no key {key!r}; it knows {', '.join(kinds)}")
            try:
                arguments[key.lower()] = _of_kind(bound, kinds[key])
            except TypeError as error:
                raise TypeError(f"{key}: {error}") from None
        return kind(**arguments)

    return read


def _outside(value: Any) -> tuple[str | os.PathLike[str] | Place, ...]:
    if isinstance(value, str | bytes | os.PathLike) or not isinstance(value, Iterable):
        raise TypeError(f"a list of databases and libraries, not {value!r}")
    names = tuple(_database(one) if one in settings.DATABASES else one for one in value)
    for name in names:
        if not isinstance(name, str | os.PathLike | Place):
            raise TypeError(f"not the name of a database or a library: {name!r}")
    Allowed(names)  # says what is wrong with an URL
    return names


def _database(alias: str) -> str | Path | Place:
    """Write one of the project's databases as ``outside=`` has it."""
    connection = connections[alias]
    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return Path(given["NAME"])
    if connection.vendor not in ("postgresql", "mysql"):
        return place_of(connection)
    where = urlencode({"host": given["HOST"], "port": given["PORT"]})
    return f"{connection.vendor}:///{quote(given['NAME'], safe='')}?{where}"


def _of_kind(value: Any, kind: type[Any]) -> Any:
    """Return a value of a type; a whole number may stand for another, and True for none."""
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{_KINDS[kind]}, not {value!r}")
    return value


_KINDS = {str: "text", int: "a whole number", float: "a number"}
KEYS: dict[str, Callable[[Any], Any]] = {
    "PATH": _path,
    "LIMITS": _bounds(Limits),
    "ENDPOINT_LIMITS": _bounds(EndpointLimits),
    "REPLAY": _bounds(Replay),
    "ROLLED_BACK_STATUS": _status,
    "NOT_OVERRIDABLE": _names,
    "CONSUMED_QUERY": _names,
    "OUTSIDE": _outside,
}
"""What the setting can have, and what reads it."""
