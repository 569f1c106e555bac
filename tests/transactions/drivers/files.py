"""An SQLite file with a table ``item``, and what it holds as others see it."""

from __future__ import annotations

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
SEED = [("one", 10), ("two", 20)]


class File:
    """One file; all that is done here goes through connections of its own."""

    def __init__(self, path: Path, *, journal: str = "WAL") -> None:
        self.path = str(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA journal_mode={journal}")
            connection.executescript(SCHEMA)
        self.reset()

    def run(self, *texts: str) -> list[tuple[Any, ...]]:
        """Run statements; return the rows of the last."""
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=0.5)) as connection:
            rows: list[tuple[Any, ...]] = []
            for text in texts:
                rows = connection.execute(text).fetchall()
            return rows

    def reset(self) -> None:
        """Back to the seed, ids included."""
        values = ", ".join(f"('{name}', {n})" for name, n in SEED)
        self.run(
            "DELETE FROM line",
            "DELETE FROM item",
            "DELETE FROM sqlite_sequence",
            f"INSERT INTO item (name, n) VALUES {values}",
        )

    def rows(self) -> list[tuple[str, int]]:
        """What is stored, by name."""
        return sorted((str(name), int(n)) for name, n in self.run("SELECT name, n FROM item"))
