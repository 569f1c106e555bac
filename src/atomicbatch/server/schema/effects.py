"""Effects: tables on which a write does more, or less, than it says: triggers, rules, engines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from atomicbatch.server.dialect import DialectName


class Effects(NamedTuple):
    """What is known of the tables of a database, by their names."""

    indirect: frozenset[str]
    """Tables whose writes may do something else than they say; see ``Table.has_triggers``."""
    read_only: dict[str, str]
    """Tables that are served for reading only, each with the reason."""
    without_rowid: frozenset[str] = frozenset()
    """SQLite's tables that do not number their rows."""
    direct: frozenset[str] = frozenset()
    """SQLite's tables that store what they are sent, as far as their columns do, or refuse it."""


_INSTEAD = "a rule of the database replaces its writes"
_FOREIGN = "it is a foreign table, which another database commits"
_ENGINE = "its storage engine cannot roll back"
_SHADOW = "it belongs to a virtual table"
# A write to a parent fires the triggers of its partitions and children.
_POSTGRESQL_INDIRECT = """
    WITH RECURSIVE fired (oid) AS (
        (SELECT tgrelid FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
         UNION SELECT ev_class FROM pg_catalog.pg_rewrite WHERE ev_type <> '1'
         UNION SELECT conrelid FROM pg_catalog.pg_constraint
               WHERE contype = 'f' AND conrelid = confrelid AND confupdtype IN ('c', 'n', 'd'))
        UNION SELECT inhparent FROM pg_catalog.pg_inherits JOIN fired ON inhrelid = fired.oid
    )
    SELECT relname FROM pg_catalog.pg_class JOIN fired USING (oid) WHERE pg_table_is_visible(oid)
"""
_POSTGRESQL_INSTEAD = """
    SELECT relname FROM pg_catalog.pg_rewrite JOIN pg_catalog.pg_class ON pg_class.oid = ev_class
    WHERE ev_type <> '1' AND is_instead AND pg_table_is_visible(pg_class.oid)
"""
_POSTGRESQL_FOREIGN = """
    SELECT relname FROM pg_catalog.pg_class WHERE relkind = 'f' AND pg_table_is_visible(oid)
"""
_MARIADB_INDIRECT = """
    SELECT event_object_table FROM information_schema.triggers
    WHERE event_object_schema = database()
"""
# MyISAM, Aria and others keep what was written to them when a batch is rolled back.
_MARIADB_ENGINE = """
    SELECT t.table_name FROM information_schema.tables t
    LEFT JOIN information_schema.engines e ON e.engine = t.engine
    WHERE t.table_schema = database() AND t.table_type = 'BASE TABLE'
    AND coalesce(e.transactions, '') <> 'YES'
"""


def effects(connection: sa.Connection, dialect: DialectName) -> Effects:
    """Read the effects from a database."""

    def names(sql: str) -> frozenset[str]:
        return frozenset(row[0] for row in connection.exec_driver_sql(sql))

    if dialect == "sqlite":
        return _sqlite_effects(connection)
    if dialect == "mysql":
        return Effects(names(_MARIADB_INDIRECT), dict.fromkeys(names(_MARIADB_ENGINE), _ENGINE))
    read_only = dict.fromkeys(names(_POSTGRESQL_INSTEAD), _INSTEAD)
    read_only |= dict.fromkeys(names(_POSTGRESQL_FOREIGN), _FOREIGN)
    return Effects(names(_POSTGRESQL_INDIRECT), read_only)


# A constraint that drops a write, or other rows, without an error; and a reference of a table to
# itself, which follows a change of key after RETURNING has shown the row.
_SQLITE_INDIRECT = re.compile(
    r"ON\s+CONFLICT\s+(IGNORE|REPLACE)|ON\s+UPDATE\s+(CASCADE|SET)|^\s*CREATE\s+VIRTUAL",
    re.IGNORECASE,
)


def _sqlite_effects(connection: sa.Connection) -> Effects:
    by_folded: dict[str, str] = {}
    indirect, resolving = set(), set()
    rows = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master").all()
    for type_, name, _, sql in rows:
        if type_ == "table":
            by_folded[name.lower()] = name
            if _SQLITE_INDIRECT.search(sql or ""):
                indirect.add(name)
            # Blanks or a comment may stand between the words of a clause; within one, nothing can.
            if "conflict" in (sql or "").lower():
                resolving.add(name)
    # A trigger keeps its table's name as it was written, which may differ in its letters' case.
    indirect |= {by_folded.get(row[2].lower(), row[2]) for row in rows if row[0] == "trigger"}
    listed = connection.exec_driver_sql("PRAGMA table_list").mappings().all()
    own = [row for row in listed if row["schema"] == "main"]
    return Effects(
        frozenset(indirect),
        {row["name"]: _SHADOW for row in own if row["type"] == "shadow"},
        frozenset(row["name"] for row in own if row["wr"]),
        _direct(connection, own) - indirect - resolving,
    )


def _direct(connection: sa.Connection, tables: Iterable[sa.RowMapping]) -> frozenset[str]:
    # UTF-16 has no form for two characters, which SQLite then replaces.
    if connection.exec_driver_sql("PRAGMA encoding").scalar() != "UTF-8":
        return frozenset()
    return frozenset(row["name"] for row in tables if row["type"] == "table" and not row["wr"])
