"""Statements: the SQL for one table, made once for each set of columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from atomicbatch.server.database.bounds import TOO_LONG
from atomicbatch.server.dialect import Dialect
from atomicbatch.server.rows.plan import Row
from atomicbatch.server.rows.writes import Write, Writes
from atomicbatch.server.schema.tables import Column, Table
from atomicbatch.server.values.codec import ValueProblem
from atomicbatch.server.values.kinds import Kind

# Types whose length PostgreSQL knows without reading the value.
_OCTETS = frozenset({"text", "varchar", "character varying", "bytea"})


class Statements:
    """
    SQL text for one table.

    Attributes:
        columns_sql: All columns as they are read, for SELECT and RETURNING.
        by_key: ``a = ? AND b = ?`` for the primary key.
        key_order: The primary key for ORDER BY.
        returns_stale: RETURNING does not show a row as it is stored in the end.
        returns_row: INSERT shows a row as it is stored in the end.
        update_returns: UPDATE shows a row as it is stored in the end.
        select_back: Reads a row that was just created, by what INSERT has returned; or None.
        inserts: The INSERTs.
        updates: The UPDATEs.
    """

    def __init__(self, table: Table, dialect: Dialect, *, most_bytes: int) -> None:
        self.table = table
        self._most_bytes = most_bytes
        self.dialect = dialect
        self.name = table.sql_name(dialect)
        self._mark = dialect.placeholder
        self.columns_sql = ", ".join(self.read_sql(column) for column in table.columns)
        self.by_key = " AND ".join(f"{dialect.quote(c.name)} = {self._mark}" for c in table.key)
        self.key_order = ", ".join(dialect.quote(column.name) for column in table.key)
        self.select = f"SELECT {self.columns_sql} FROM {self.name}"
        self.select_by_key = f"{self.select} WHERE {self.by_key}"
        self.delete = f"DELETE FROM {self.name}"
        self.delete_by_key = f"{self.delete} WHERE {self.by_key}"
        # RETURNING shows a row as it was before AFTER triggers ran; on MariaDB it also shows
        # computed columns as they were before the row got its number. Such a row is read back:
        # RETURNING is asked for its key only.
        self.returns_stale = table.has_triggers or (
            dialect.name == "mysql" and any(not column.writable for column in table.columns)
        )
        place, self.select_back = self._read_back()
        self.returning = f" RETURNING {self._returned(self.columns_sql)}"
        self.returning_place = f" RETURNING {self._returned(place)}" if place else self.returning
        self.returns_row = dialect.insert_returning and not self.returns_stale
        self.update_returns = dialect.update_returning and not self.returns_stale
        self.inserts = Writes(self._insert)
        self.updates = Writes(self._update)

    def where(
        self, columns: tuple[Column, ...], values: Sequence[Any]
    ) -> tuple[str, Sequence[Any]]:
        """What finds the row with these values, and its parameters."""
        if columns is self.table.key:
            return self.by_key, values
        names = [self.dialect.quote(column.name) for column in columns]
        terms = [
            f"{name} IS NULL" if value is None else f"{name} = {self._mark}"
            for name, value in zip(names, values, strict=True)
        ]
        return " AND ".join(terms), [value for value in values if value is not None]

    def _read_back(self) -> tuple[str, str | None]:
        """The columns that say where a new row is, and the SELECT that reads it from there."""
        if not self.returns_stale:
            return "", None
        if self.table.key:
            return self.key_order, self.select_by_key
        place = self.table.place
        if not place:
            return "", None
        where = " AND ".join(f"{name} = {self._mark}" for name in place)
        return ", ".join(place), f"{self.select} WHERE {where}"

    def _returned(self, names_sql: str) -> str:
        """Names of columns, separated by ``, ``, for RETURNING."""
        # Where a table has a REAL column, RETURNING shows whole numbers of other columns as
        # doubles, and loses digits (SQLite 3.40). An expression is shown as it is stored.
        if self.dialect.name != "sqlite" or all(
            c.kind is not Kind.FLOAT for c in self.table.columns
        ):
            return names_sql
        return "+" + names_sql.replace("`, `", "`, +`")

    def read_sql(self, column: Column) -> str:
        """A column as it is read; on PostgreSQL reading a value that is too long is an error."""
        name = self.dialect.quote(column.name)
        sql = column.select_sql or name
        if self.dialect.name != "postgresql" or not column.is_long:
            return sql
        # libpq receives the whole value before anybody can see how long it is. A value that is
        # short as stored cannot be too long: PostgreSQL's compression saves 99 percent at most.
        size = f"octet_length({name}::text)"
        if column.kind is Kind.BYTES or column.sql_type.lower() in _OCTETS:
            size = f"octet_length({name})"
        short = min(8192, self._most_bytes // 128)
        # One CASE inside the other, since AND may evaluate both of its sides.
        return (
            f"CASE WHEN CASE WHEN pg_column_size({name}) > {short} AND {size} > {self._most_bytes}"
            f" THEN CAST(left({name}::text, 0) || '{TOO_LONG}' AS boolean) END"
            f" THEN NULL ELSE {sql} END"
        )

    def _update(self, names: tuple[str, ...]) -> Write:
        """UPDATE ... SET of the columns ``names``, without WHERE."""
        columns = self._writable(names)
        assignments = ", ".join([f"{self.dialect.quote(name)} = {self._mark}" for name in names])
        sql = f"UPDATE {self.name} SET {assignments}"
        returning = self.returning if self.update_returns else ""
        by_key = f"{sql} WHERE {self.by_key}"
        # A change of the number would move the row.
        stays = self.table.number is not None and self.table.number not in columns
        return Write(
            columns,
            self.dialect,
            sql,
            bare=by_key if stays else "",
            by_key=by_key + returning,
            assignments=assignments,
            row=self._row_of(columns) if stays else None,
        )

    def defaults(self, columns: Sequence[Column]) -> str:
        """``a = default, b = default`` for an UPDATE that replaces a whole row."""
        return ", ".join(
            f"{self.dialect.quote(column.name)} = {self._default(column)}" for column in columns
        )

    def _default(self, column: Column) -> str:
        if self.dialect.name == "sqlite":  # has no SET c = DEFAULT
            return column.default_sql or "NULL"
        return "DEFAULT"

    def _insert(self, names: tuple[str, ...]) -> Write:
        """INSERT of the columns ``names``, RETURNING the row, or where it is."""
        columns = self._writable(names)
        if names:
            listed = ", ".join(self.dialect.quote(name) for name in names)
            marks = ", ".join([self._mark] * len(columns))
            sql = f"INSERT INTO {self.name} ({listed}) VALUES ({marks})"
        elif self.dialect.name == "mysql":
            sql = f"INSERT INTO {self.name} () VALUES ()"
        else:
            sql = f"INSERT INTO {self.name} DEFAULT VALUES"
        bare = sql
        if self.dialect.insert_returning:
            sql += self.returning_place if self.returns_stale else self.returning
        return Write(columns, self.dialect, sql, bare=bare, row=self._row_of(columns))

    def _row_of(self, columns: Sequence[Column]) -> Callable[[Row], Row] | None:
        """See ``Write.row``."""
        number = self.table.number
        others = [column for column in self.table.columns if column is not number]
        if number is None or not all(column in columns and column.keeps for column in others):
            return None
        # The row's number comes first, then the parameters.
        places = {column.name: index for index, column in enumerate(columns, 1)}
        places[number.name] = 0
        order = [places[column.name] for column in self.table.columns]
        return itemgetter(*order) if others else itemgetter(slice(0, 1))

    def _writable(self, names: tuple[str, ...]) -> list[Column]:
        by_name = self.table.by_name
        columns = []
        for name in names:
            column = by_name.get(name)
            if column is None:
                raise ValueProblem(
                    name, f"{self.table.name!r} has no such column", slug="unknown-column"
                )
            if not column.writable:
                raise ValueProblem(
                    name, "is computed by the database", status=422, slug="read-only-column"
                )
            columns.append(column)
        return columns
