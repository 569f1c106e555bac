"""A database of a server's with a table ``item``, and what it holds as others see it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql

from tests.transactions.drivers.files import SEED, Store

# Who waits longer for a lock than this waits for what a library has left open.
_LOCK_SECONDS = 5


class Server(Store):
    """
    One database of a server; all that is done here goes through connections of its own.

    Attributes:
        url: ``postgresql://...`` or ``mysql://...``, as libpq takes it.
        host: Where it listens.
        port: Of the host.
        user: May do everything in the database.
        password: Empty: none is asked for.
        database: Its name.
        parameters: All of these by these names, as most drivers' ``connect`` wants them.
    """

    def __init__(self, server: str, name: str) -> None:
        parts = urlsplit(server)
        self.url = f"{server}/{name}"
        self.host, self.port = str(parts.hostname), int(parts.port or 0)
        self.user, self.password = str(parts.username), parts.password or ""
        self.database = name
        self._server = server
        self._make()
        self._connection = self._connect(name)
        for text in self.schema:
            self._execute(text)
        self.reset()

    schema: tuple[str, ...]

    @property
    def parameters(self) -> dict[str, Any]:
        names = ("host", "port", "user", "password", "database")
        return {name: value for name in names if (value := getattr(self, name))}

    def url_of(self, scheme: str) -> str:
        """The URL with another scheme, such as ``postgresql+asyncpg``."""
        return f"{scheme}://{self.url.partition('://')[2]}"

    def run(self, *texts: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for text in texts:
            rows = self._execute(text)
        return rows

    def close(self) -> None:
        """Close the connection that looks at it."""
        self._connection.close()

    def _make(self) -> None:
        raise NotImplementedError

    def _connect(self, name: str) -> Any:
        raise NotImplementedError

    def _execute(self, text: str) -> list[tuple[Any, ...]]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(text)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


class PostgreSQL(Server):
    """A database of PostgreSQL's."""

    on = "postgresql"
    schema = (
        (
            "CREATE TABLE item (id SERIAL PRIMARY KEY, name VARCHAR(60) NOT NULL UNIQUE,"
            " n INTEGER NOT NULL DEFAULT 0 CHECK (n > -1000), note TEXT DEFAULT 'abc')"
        ),
        (
            "CREATE TABLE line (id SERIAL PRIMARY KEY,"
            " item INTEGER REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)"
        ),
    )

    def reset(self) -> None:
        self.run(
            "DELETE FROM line; DELETE FROM item; SELECT setval('item_id_seq', 1, false);"
            f"SELECT setval('line_id_seq', 1, false); {SEED}"
        )

    def left_open(self) -> list[str]:
        rows = self.run(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        return [str(query) for (query,) in rows]

    def _make(self) -> None:
        with psycopg.connect(f"{self._server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self.database} STRATEGY file_copy")

    def _connect(self, name: str) -> Any:
        connection = psycopg.connect(f"{self._server}/{name}", autocommit=True)
        connection.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
        return connection


class MariaDB(Server):
    """A database of MariaDB's."""

    on = "mariadb"
    schema = (
        (
            "CREATE TABLE item (id INTEGER PRIMARY KEY AUTO_INCREMENT,"
            " name VARCHAR(60) NOT NULL UNIQUE,"
            " n INTEGER NOT NULL DEFAULT 0 CHECK (n > -1000), note VARCHAR(60) DEFAULT 'abc')"
        ),
        (
            "CREATE TABLE line (id INTEGER PRIMARY KEY AUTO_INCREMENT,"
            " item INTEGER, FOREIGN KEY (item) REFERENCES item (id))"
        ),
    )

    def reset(self) -> None:
        self.run(
            "DELETE FROM line",
            "DELETE FROM item",
            "ALTER TABLE item AUTO_INCREMENT = 1",
            "ALTER TABLE line AUTO_INCREMENT = 1",
            SEED,
        )

    _asked = 0.0

    def left_open(self) -> list[str]:
        # MariaDB tells the same again to who asks within a tenth of a second.
        time.sleep(max(0, self._asked + 0.11 - time.monotonic()))
        self._asked = time.monotonic()
        rows = self.run(
            "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx"
            " JOIN information_schema.processlist ON id = trx_mysql_thread_id"
            f" WHERE db = '{self.database}' AND id <> connection_id()"
        )
        return [f"thread {number}" for (number,) in rows]

    def _make(self) -> None:
        with closing(self._connect("")) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {self.database} CHARACTER SET utf8mb4")

    def _connect(self, name: str) -> Any:
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=name or None,
            autocommit=True,
            ssl_disabled=True,  # else it reads the system's certificates each time
            init_command=f"SET lock_wait_timeout = {_LOCK_SECONDS},"
            f" innodb_lock_wait_timeout = {_LOCK_SECONDS}",
        )


@contextmanager
def made(kind: type[Server], server: str, name: str) -> Iterator[Server]:
    """Make a database on a server, whose URL names none."""
    store = kind(server, name)
    try:
        yield store
    finally:
        store.close()
