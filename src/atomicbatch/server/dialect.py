"""Dialect: how the databases differ in the SQL that we write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DialectName = Literal["sqlite", "postgresql", "mysql"]
"""``mysql`` is MariaDB and MySQL."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """SQL spelling of one kind of database."""

    name: DialectName
    insert_returning: bool = True
    update_returning: bool = True
    delete_returning: bool = True

    @property
    def placeholder(self) -> str:
        """What stands for a parameter in SQL text (PEP 249: qmark or format)."""
        return "?" if self.name == "sqlite" else "%s"

    def quote(self, name: str) -> str:
        """
        Quote an identifier, so that any name is safe in SQL text.

        ``%`` is doubled where the driver's parameter style would read it as a placeholder.
        """
        # SQLite takes "name" for the text 'name' where there is no such column; `name` it never
        # does (https://sqlite.org/quirks.html#dblquote).
        mark = '"' if self.name == "postgresql" else "`"
        quoted = mark + name.replace(mark, mark * 2) + mark
        return quoted if self.name == "sqlite" else quoted.replace("%", "%%")


SQLITE = Dialect("sqlite")
POSTGRESQL = Dialect("postgresql")
# MariaDB has INSERT and DELETE ... RETURNING, but no UPDATE ... RETURNING (before 13.0).
MARIADB = Dialect("mysql", update_returning=False)
MYSQL = Dialect("mysql", insert_returning=False, update_returning=False, delete_returning=False)
