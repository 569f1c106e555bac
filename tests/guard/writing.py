"""Writes a row by a driver, in any process: what is started anew imports nothing else of tests."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing, suppress
from typing import Any


def insert(url: str, name: str, begin: str = "") -> None:
    """By sqlite3, or by psycopg on PostgreSQL, on a connection of its own."""
    if "://" in url:
        import psycopg

        with psycopg.connect(url) as link:
            link.execute("INSERT INTO t (name) VALUES (%s)", [name])
        return
    with closing(sqlite3.connect(url, timeout=0.1)) as connection, connection:
        if begin:
            connection.execute(begin)
        connection.execute("INSERT INTO t (name) VALUES (?)", [name])


def read(url: str) -> Any:
    if "://" in url:
        import psycopg

        with psycopg.connect(url) as link:
            return link.execute("SELECT count(*) FROM t").fetchone()
    with closing(sqlite3.connect(url, timeout=0.1)) as connection:
        return connection.execute("SELECT count(*) FROM t").fetchone()


def hide(url: str, name: str, begin: str = "") -> str:
    """Write, and hide whatever comes of it."""
    with suppress(Exception):
        insert(url, name, begin)
    return "fine"


class Writing(multiprocessing.get_context("spawn").Process):  # type: ignore[misc]
    """A process by a class of an app's own, which hides whatever comes of it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def run(self) -> None:
        hide(self.url, "anew")
