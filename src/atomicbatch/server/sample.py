"""Sample: a small shop in an SQLite file, to send first batches to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path


def create_sample(path: Path) -> None:
    """
    Make the sample shop in a new file.

    Raises:
        FileExistsError: There is something at ``path``; it is left alone.
        OSError: The file cannot be made.
    """
    script = resources.files("atomicbatch.server").joinpath("shop.sql").read_text("utf-8")
    with path.open("xb"):  # never over something that exists
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"BEGIN;\n{script}\nCOMMIT;")
