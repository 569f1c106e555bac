"""Django's backend for SQLite, by a driver without a door, for a database of another kind."""

from __future__ import annotations

import sqlite3
from types import ModuleType
from typing import Any

from django.db.backends.sqlite3 import base

strange = ModuleType("strange.driver")
vars(strange).update({name: value for name, value in vars(sqlite3).items() if name[0] != "_"})


class DatabaseWrapper(base.DatabaseWrapper):
    vendor = "strange"
    Database = strange

    def get_new_connection(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        # Not by connect(), where the door is.
        return sqlite3.Connection(conn_params["database"], isolation_level=None)

    def create_cursor(self, name: str | None = None) -> Any:
        return Cursor(self.connection)


class Cursor(base.SQLiteCursorWrapper):
    def callproc(self, name: str) -> None:
        """As drivers have it whose databases have procedures; this is their only one."""
        self.execute(f"INSERT INTO shop_item (name, stock) VALUES ('{name}', 0)")
