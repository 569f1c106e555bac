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


def verdict(measured: float, bar: float) -> str:
    """Say whether a bar that must not be exceeded is met."""
    return f"at most {bar:g}: " + ("met" if measured <= bar else "MISSED")


def verdict_at_least(measured: float, bar: float) -> str:
    """Say whether a bar that must be reached is met."""
    return f"at least {bar:g}: " + ("met" if measured >= bar else "MISSED")
