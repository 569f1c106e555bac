"""What is stored, as a connection of the tests' own sees it."""

from __future__ import annotations

import importlib
import sqlite3
import time
from typing import Any
from urllib.parse import urlsplit

# The tables of each database, those first that refer to others, with what is told of their rows.
_TABLES = {
    "patterns_line": ("'line'", "0"),
    "patterns_coded": ("code", "0"),
    "patterns_item": ("name", "n"),
    "patterns_place": ("name", "{rank}"),
    "patterns_value": ("'value'", "0"),
    "django_session": ("'session'", "0"),
    "patterns_cache": ("'entry'", "0"),
    "auth_user": ("username", "0"),
}
Rows = list[list[Any]]


class Store:
    """
    One database.

    Args:
        driver: The project's.
        target: The path of a file, or an URL.
    """

    def __init__(self, driver: str, target: str) -> None:
        self._driver = driver
        self._connection = _connect(driver, target)
        rank = "`rank`" if driver in ("pymysql", "mysqlclient") else '"rank"'
        self._all = " UNION ALL ".join(
            f"SELECT '{table}' AS kind, {name} AS name, {n.format(rank=rank)} AS n FROM {table}"
            for table, (name, n) in _TABLES.items()
        )

    def run(self, text: str) -> list[list[Any]]:
        """Run SQL; return its rows."""
        cursor = self._connection.cursor()
        try:
            cursor.execute(text)
            return [list(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            cursor.close()

    def rows(self) -> Rows:
        """All that the patterns store, without ids."""
        return sorted(self.run(self._all))

    def empty(self) -> None:
        """Delete all that the patterns store; it fails where somebody has locks."""
        kinds = {kind for kind, *_ in self.rows()}
        for table in _TABLES:
            if table in kinds:
                self.run(f"DELETE FROM {table}")

    def seed(self) -> None:
        """Store what the call ``seed`` stores."""
        self.run("INSERT INTO patterns_item (name, n, at) VALUES ('seed', 0, '2026-01-01')")

    def open_transactions(self) -> list[list[Any]]:
        """
        Tell which transactions stay open that nobody works in; SQLite would not let us write.

        A server ends what a client has closed when it gets to it. InnoDB's list of transactions is
        an old one for as long as it is read more often than each tenth of a second.
        """
        until = time.monotonic() + 5
        while (found := self._open_now()) and time.monotonic() < until:
            time.sleep(0.25)
        return found

    def _open_now(self) -> list[list[Any]]:
        if self._driver in ("psycopg", "psycopg2"):
            return self.run(
                "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database() "
                "AND state LIKE 'idle in%'"
            )
        if self._driver in ("pymysql", "mysqlclient"):
            return self.run(
                "SELECT p.id, p.command, p.time, p.info, t.trx_state, t.trx_rows_modified, "
                "t.trx_rows_locked, t.trx_is_read_only FROM information_schema.innodb_trx t JOIN "
                "information_schema.processlist p ON p.id = t.trx_mysql_thread_id "
                "WHERE p.db = database()"
            )
        return []


def _connect(driver: str, target: str) -> Any:
    if driver == "sqlite3":
        return sqlite3.connect(target, isolation_level=None, timeout=0, check_same_thread=False)
    module: Any = importlib.import_module("MySQLdb" if driver == "mysqlclient" else driver)
    if driver in ("psycopg", "psycopg2"):
        connection = module.connect(target)
        connection.autocommit = True
        return connection
    url = urlsplit(target)
    connection = module.connect(
        host=url.hostname,
        port=url.port,
        user=url.username,
        password=url.password,
        database=url.path.removeprefix("/"),
    )
    connection.autocommit(True)
    return connection
