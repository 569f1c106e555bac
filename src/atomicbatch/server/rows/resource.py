"""Resource: one table as it is served: its SQL, its columns, and how its rows are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from atomicbatch.model import Call, Header
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.dialect import Dialect
from atomicbatch.server.query.query import Query, read_query
from atomicbatch.server.query.sql import Where, where
from atomicbatch.server.rows.plan import Row
from atomicbatch.server.rows.representation import Representation
from atomicbatch.server.rows.statements import Statements
from atomicbatch.server.schema.tables import Column, Table
from atomicbatch.server.values.kinds import Kind

JSON: Header = (b"content-type", b"application/json")
_NO_QUERY = Query()
_EVERY_ROW = Where("", ())


class Selection(NamedTuple):
    """What the query of a collection selects."""

    query: Query
    shown: Representation
    sql: str
    parameters: Sequence[Any]


class Resource:
    """
    The rows of one table or view.

    Args:
        read_only: Only GET and HEAD are served, whatever the table is.
        max_bytes: How many bytes the replies of one batch may take together.
        plain: Whether ``plain.py`` is used. Without it the replies are the same.

    Attributes:
        sql: The SQL for the table.
        whole: How a row with all its columns is shown.
        positions: Where in such a row each column is.
        key_positions: Where the columns of the primary key are; empty without one.
        is_numbered: Whether the primary key is one whole number, of 32 bits at least.
        documents: The columns that hold JSON.
        plain: The methods that ``plain.py`` has a plan for.
        selections: What was read of the queries that were asked last; see ``read.py``.
    """

    def __init__(
        self,
        table: Table,
        dialect: Dialect,
        *,
        read_only: bool,
        max_bytes: int,
        plain: bool = True,
    ) -> None:
        self.table = table
        self.dialect = dialect
        self.read_only = read_only or table.read_only
        self.sql = Statements(table, dialect, most_bytes=max_bytes)
        self._typed = dialect.name != "sqlite"
        self.whole = Representation(table.columns, typed=self._typed)
        self.positions = {column.name: index for index, column in enumerate(table.columns)}
        self.key_positions = tuple(self.positions[column.name] for column in table.key)
        self.is_numbered = len(table.key) == 1 and _is_number(table.key[0])
        self.documents = tuple(c for c in table.columns if c.kind is Kind.JSON)
        self.plain = self._plain_methods() if plain else frozenset()
        self.selections: dict[bytes, Selection] = {}

    def _plain_methods(self) -> frozenset[str]:
        methods = {"GET", "HEAD"}
        if not self.read_only:
            shown = {"POST": self.sql.returns_row, "PATCH": self.sql.update_returns}
            methods |= {method for method, is_shown in shown.items() if is_shown}
            if not self.table.has_triggers:
                methods.add("DELETE")
        return frozenset(methods)

    def query(self, call: Call) -> Query:
        """The query of a call on the collection."""
        return read_query(self.table, call.query) if call.query else _NO_QUERY

    def item_query(self, call: Call) -> Query:
        """The query of a call on one row, which takes ``select`` only."""
        if not call.query:
            return _NO_QUERY
        query = read_query(self.table, call.query)
        others = query.filter or query.order or query.limit is not None or query.offset
        if others or query.on_conflict:
            raise RowFault(
                400, "invalid-query", "a single row takes no filters or order, only select"
            )
        return query

    def where(self, query: Query) -> Where:
        """What stands behind WHERE; empty for every row."""
        return _EVERY_ROW if query.filter is None else where(query.filter, self.dialect)

    def shown(self, query: Query) -> tuple[Representation, str]:
        """How the rows that a query asks for are shown, and their columns for SELECT."""
        if query.select is None:
            return self.whole, self.sql.columns_sql
        columns = [column for column, _ in query.select]
        shown = Representation(columns, [name for _, name in query.select], typed=self._typed)
        return shown, ", ".join(self.sql.read_sql(column) for column in columns)

    def selected(self, query: Query, row: Row) -> Row:
        """Of a row with all columns, those that a query asks for."""
        if query.select is None:
            return row
        return [row[self.positions[column.name]] for column, _ in query.select]

    def body(self, query: Query, row: Row) -> bytes:
        """A row with all columns, as a query asks for it."""
        shown, _ = self.shown(query)
        return shown.one(self.selected(query, row))

    def no_row(self) -> RowFault:
        """The fault of a call whose key leads to no row."""
        return RowFault(404, "not-found", f"{self.table.name!r} has no row with this key")


def _is_number(column: Column) -> bool:
    """Whether a column holds all whole numbers from 0 to a billion."""
    low, high = column.minimum, column.maximum
    return column.kind is Kind.INTEGER and (low or 0) <= 0 and (high is None or high >= 10**9)
