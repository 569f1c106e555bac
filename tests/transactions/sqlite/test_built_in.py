"""Built-in SQL functions that are put back."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import Any

import pytest

from atomicbatch.transactions.sqlite.built_in import _DATES, _PLAIN, is_built_in, put_back

VALUES: list[Any] = [
    None,
    0,
    -3,
    2**40,
    2.5,
    -0.75,
    "",
    "aé' ",
    "12x",
    "2024-02-29 12:30:00",
    b"\x00a",
]


def results(connection: sqlite3.Connection, name: str, count: int) -> list[Any]:
    """What it gives for many arguments; None where it refuses them."""
    found = []
    for number in range(len(VALUES) * 3):
        args = [VALUES[(number * (place + 1) + place) % len(VALUES)] for place in range(count)]
        marks = ", ".join("?" * count)
        value = None
        with suppress(sqlite3.Error):
            (value,) = connection.execute(f"SELECT {name}({marks})", args).fetchone()
        found.append((args, value, type(value)))
    return found


@pytest.mark.parametrize("name", sorted(_PLAIN))
def test_it_gives_what_the_built_in_one_gives(name: str) -> None:
    """After it was replaced and put back, for each number of arguments that SQLite knows."""
    with closing(sqlite3.connect(":memory:")) as connection:
        query = "SELECT DISTINCT narg FROM pragma_function_list WHERE builtin AND name = ?"
        counts = [count for (count,) in connection.execute(query, (name,))]
        # An SQLite that was built without it has nothing to put back.
        assert is_built_in(connection, name) is bool(counts)
        for known in counts:
            for count in (1, 2, 3) if known < 0 else (known,):
                expected = results(connection, name, count)
                connection.create_function(name, known, lambda *_: "replaced")
                assert results(connection, name, count) != expected
                put_back(connection, name, known)
                assert results(connection, name, count) == expected


@pytest.mark.parametrize("name", ["floor", "date"])
def test_it_may_stand_in_an_index(name: str) -> None:
    """As the built-in one may: not if it knows what time it is."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE item (n)")
        connection.create_function(name, 1, lambda n: n)
        put_back(connection, name, 1)
        if name in _DATES:
            with pytest.raises(sqlite3.OperationalError, match="non-deterministic"):
                connection.execute(f"CREATE INDEX by_n ON item ({name}(n))")
        else:
            connection.execute(f"CREATE INDEX by_n ON item ({name}(n))")
