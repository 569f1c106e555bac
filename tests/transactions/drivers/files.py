"""A database with a table ``item``, and what it holds as others see it; here an SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE item (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name VARCHAR(60) NOT NULL UNIQUE,
  n INTEGER NOT NULL DEFAULT 0 CHECK (n > -1000),
  note TEXT DEFAULT 'abc'
);
CREATE TABLE line (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item (id));
"""
SEED = "INSERT INTO item (name, n) VALUES ('one', 10), ('two', 20)"


class Store:
    """
    A real database; all that is done here goes through connections that no door knows of.

    Attributes:
        on: Which one: ``sqlite``, ``postgresql`` or ``mariadb``.
    """

    on: str

    def run(self, *texts: str) -> list[tuple[Any, ...]]:
        """Run statements; return the rows of the last."""
        raise NotImplementedError

    def reset(self) -> None:
        """Back to the seed, ids included."""
        raise NotImplementedError

    def left_open(self) -> list[str]:
        """What is known of the transactions that others have open in it."""
        raise NotImplementedError

    async def comes_to_rest(self) -> bool:
        """Tell whether nobody has a transaction open, now or a moment later."""
        for _ in range(20):
            if not self.left_open():
                return True
            await asyncio.sleep(0.1)
        return False

    def rows(self) -> list[tuple[str, int]]:
        """What is stored, by name."""
        return sorted((str(name), int(n)) for name, n in self.run("SELECT name, n FROM item"))


class File(Store):
    """One file of SQLite's."""

    on = "sqlite"

    def __init__(self, path: Path, *, journal: str = "WAL") -> None:
        self.path = str(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA journal_mode={journal}")
            connection.executescript(SCHEMA)
        self.reset()

    def run(self, *texts: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=0.5)) as connection:
            rows: list[tuple[Any, ...]] = []
            for text in texts:
                rows = connection.execute(text).fetchall()
            return rows

    def reset(self) -> None:
        self.run("DELETE FROM line", "DELETE FROM item", "DELETE FROM sqlite_sequence", SEED)

    def left_open(self) -> list[str]:
        return []  # reset() would have failed
