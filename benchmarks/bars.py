"""The figures that the server has to reach: ratios of medians of one run."""

from __future__ import annotations

from typing import NamedTuple

Cell = tuple[str, int]
"""The kind of calls and how many of them are in a batch."""


class Bar(NamedTuple):
    """``ours`` takes at most ``most`` times what ``other`` takes."""

    other: str
    most: float


BARS: dict[str, dict[Cell, Bar]] = {
    "SQLite": {
        ("create", 1): Bar("PocketBase", 1.5),
        ("create", 100): Bar("raw", 3.0),
        ("create", 1000): Bar("raw", 2.0),
        ("create", 10_000): Bar("raw", 2.2),
        ("mix", 100): Bar("raw", 3.5),
    },
    "PostgreSQL": {
        ("create", 1): Bar("raw", 2.2),
        ("create", 100): Bar("raw", 0.6),
        ("create", 1000): Bar("raw", 0.45),
        ("create", 10_000): Bar("raw", 0.45),
        ("mix", 100): Bar("raw", 0.75),
    },
}

MOST_TRIPS: dict[Cell, float] = {("create", 100): 6, ("create", 1000): 6, ("mix", 100): 10}
"""How long a batch may wait for a PostgreSQL server at a distance, in round trips."""


class Door(NamedTuple):
    """What a driver's door may cost a statement outside of batches: the one or the other."""

    microseconds: float = 0.0
    share: float = 0.0
    """Of what the statement takes as a whole."""


MOST_DOOR: dict[str, Door] = {
    "sqlite3": Door(microseconds=3.0),
    "aiosqlite": Door(share=0.05),
    "psycopg": Door(share=0.05),
    "psycopg2": Door(share=0.05),
    "asyncpg": Door(share=0.05),
    "PyMySQL": Door(share=0.05),
    "mysqlclient": Door(share=0.05),
    "aiomysql": Door(share=0.05),
    "asyncmy": Door(share=0.05),
}


LEAST_OF_DRF = {"persistent": 1.3, "anew": 3.0}
"""What separate / batch has to reach with Django REST framework, by how it keeps connections."""


def met(measured: float, most: float) -> str:
    """Say whether a figure that must not be exceeded is kept."""
    return "met" if measured <= most else "MISSED"


def reached(measured: float, least: float) -> str:
    """Say whether a figure that must be reached is."""
    return "met" if measured >= least else "MISSED"
