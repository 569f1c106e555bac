"""Details: what SQLAlchemy's inspector does not tell of a table, or tells otherwise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable

from sqlalchemy.engine.interfaces import (
    ReflectedColumn,
    ReflectedIndex,
    ReflectedUniqueConstraint,
)

from atomicbatch.server.schema.column_types import ColumnType

Names = tuple[str, ...]


class Details(ABC):
    """One kind of database, asked about one table after another."""

    @abstractmethod
    def column_type(self, table: str, column: ReflectedColumn) -> ColumnType:
        """What a column holds."""

    @abstractmethod
    def default_sql(self, column: ReflectedColumn, default: str) -> str | None:
        """The default of a column as SQL text; None: it is another value each time."""

    def declared(self, table: str, column: str) -> str | None:  # noqa: ARG002 - SQLite's alone
        """The name of a column's type, if it is kept as it was written; else None."""
        return None

    def is_numbered(self, table: str, column: str, key: Collection[str]) -> bool:  # noqa: ARG002
        """Whether the database numbers rows in this column although it has no default."""
        return False

    def is_row_number(self, table: str, key: Collection[str]) -> bool:  # noqa: ARG002 - SQLite's
        """Whether the primary key is the number that the database itself knows a row by."""
        return False

    def uniques(
        self,
        table: str,  # noqa: ARG002 - SQLite's alone
        constraints: Iterable[ReflectedUniqueConstraint],
        indexes: Iterable[ReflectedIndex],
    ) -> tuple[Names, ...]:
        """The sets of columns that cannot repeat, by a constraint or by a plain unique index."""
        found = [constraint["column_names"] for constraint in constraints]
        for index in indexes:
            names = [name for name in index["column_names"] if name is not None]
            # An index on expressions, or on some rows only, says nothing about plain columns.
            partial = any(key.endswith("_where") for key in index.get("dialect_options", {}))
            if index["unique"] and len(names) == len(index["column_names"]) and not partial:
                found.append(names)
        return tuple(dict.fromkeys(tuple(names) for names in found))

    def nulls_equal(self, table: str) -> frozenset[frozenset[str]]:  # noqa: ARG002
        """Those of the unique sets that take one NULL only."""
        return frozenset()

    def place(self, table: str, columns: Collection[str]) -> Names:  # noqa: ARG002
        """What tells where the database keeps a row; see ``Table.place``."""
        return ()
