"""Schema: tables and views as resources, read once from the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from atomicbatch.server.dialect import Dialect
from atomicbatch.server.values.codec import Codec
from atomicbatch.server.values.kinds import Kind

# Values of these kinds may be of any length if the column does not say otherwise.
_ANY_LENGTH = frozenset({Kind.TEXT, Kind.BYTES, Kind.JSON, Kind.ARRAY, Kind.ANY, Kind.OTHER})
_SHORT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """
    One column.

    Attributes:
        length: The most characters (of text) or bytes (of bytes), or None.
        precision: The most digits of a decimal, or None.
        scale: The most digits after the point of a decimal, or None.
        fraction_digits: The most digits of a fraction of a second; None: as many as one likes.
        minimum: The smallest integer, or None.
        maximum: The largest integer, or None.
        choices: The words of an enumeration, or None.
        required: A create without it fails: it is not nullable and has no default.
        writable: False for computed columns.
        select_sql: How the column is read if its plain name would lose something, or None.
        default_sql: The default as SQL text; None if there is none, or if it is another value each
            time.
        item: The kind of an array's items.
        keeps: Whether it surely stores what it is sent; see ``sqlite_storage.py``.
        sql_type: The type's name as the database writes it, for people.
        codec: JSON values <-> the driver's.
    """

    name: str
    kind: Kind
    nullable: bool = True
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    fraction_digits: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] | None = None
    required: bool = False
    writable: bool = True
    select_sql: str | None = None
    default_sql: str | None = None
    item: Kind | None = None
    keeps: bool = False
    sql_type: str = ""
    comment: str | None = None
    codec: Codec = field(repr=False, compare=False)

    @property
    def is_long(self) -> bool:
        """Whether a value may be long, in a database that keeps to types and lengths."""
        return self.kind in _ANY_LENGTH and (self.length is None or self.length > _SHORT)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns of this table that point at columns of another."""

    columns: tuple[str, ...]
    table: str
    target_columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """
    A table or a view.

    Attributes:
        key: The primary key's columns, in key order; empty for views and tables without one.
        referenced_by: Foreign keys of other tables that point at this one, each with the name of
            its own table. For SQLite only, whose errors do not name the foreign key.
        nulls_equal: Those of ``uniques`` that take one NULL only (NULLS NOT DISTINCT).
        has_triggers: Writes may do something else than they say: because of triggers, rules, or
            SQLite's ON CONFLICT IGNORE. RETURNING may show a row before they have changed it.
        place: The database's own columns that say where it keeps a row; empty if it has none.
        number: SQLite's column for a row's number. None if there is none, and also if anything but
            the values sent decides what an INSERT stores.
        read_only: Only GET and HEAD are served.
        read_only_why: The reason, for people.
        schema: The database schema to qualify the name with, or None.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    referenced_by: tuple[ForeignKey, ...] = ()
    uniques: tuple[tuple[str, ...], ...] = ()
    nulls_equal: frozenset[frozenset[str]] = frozenset()
    has_triggers: bool = False
    place: tuple[str, ...] = ()
    number: Column | None = None
    read_only: bool = False
    read_only_why: str = ""
    schema: str | None = None
    comment: str | None = None

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """Columns by name."""
        return {column.name: column for column in self.columns}

    def sql_name(self, dialect: Dialect) -> str:
        """The table's name in SQL text, quoted and qualified."""
        quoted = dialect.quote(self.name)
        return quoted if self.schema is None else f"{dialect.quote(self.schema)}.{quoted}"


@dataclass(frozen=True, slots=True)
class Schema:
    """All tables and views of one database, by name, in name order."""

    dialect: Dialect
    tables: dict[str, Table]
    database: str
    """The database's name, for people. It does not tell where it is kept, and by whom."""
