"""Definitions: a few queries whose answers change when the definition of any table changes."""

from __future__ import annotations

from typing import Any

from atomicbatch.server.dialect import DialectName

_SQLITE = "SELECT type, name, tbl_name, sql FROM sqlite_master"
# The version (xmin) of each row of the catalogs that defines part of what is served. Rows of
# pg_class are left out: they change with statistics and TRUNCATE too.
_POSTGRESQL = """
    WITH served AS (
        SELECT oid, relname, relkind FROM pg_catalog.pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r','p','v','m','f')
    )
    SELECT md5(string_agg(definition, ',' ORDER BY definition)) FROM (
        SELECT concat('c', oid, relkind, relname) AS definition FROM served
        UNION ALL SELECT concat('a', attrelid, '.', attnum, '.', a.xmin)
            FROM pg_catalog.pg_attribute a JOIN served ON served.oid = attrelid WHERE attnum > 0
        UNION ALL SELECT concat('d', d.oid, '.', d.xmin)
            FROM pg_catalog.pg_attrdef d JOIN served ON served.oid = adrelid
        UNION ALL SELECT concat('i', indexrelid, '.', i.xmin)
            FROM pg_catalog.pg_index i JOIN served ON served.oid = indrelid
        UNION ALL SELECT concat('k', k.oid, '.', k.xmin)
            FROM pg_catalog.pg_constraint k LEFT JOIN served ON served.oid = conrelid
            WHERE served.oid IS NOT NULL OR contypid <> 0
        UNION ALL SELECT concat('t', t.oid, '.', t.xmin) FROM pg_catalog.pg_trigger t
        UNION ALL SELECT concat('r', r.oid, '.', r.xmin)
            FROM pg_catalog.pg_rewrite r JOIN served ON served.oid = ev_class
        UNION ALL SELECT concat('h', inhrelid, '.', inhparent) FROM pg_catalog.pg_inherits
        UNION ALL SELECT concat('y', y.oid, '.', y.xmin)
            FROM pg_catalog.pg_type y WHERE typtype IN ('d', 'e')
        UNION ALL SELECT concat('e', e.oid, '.', e.xmin) FROM pg_catalog.pg_enum e
    ) definitions
"""
_MARIADB = (
    (
        "SELECT table_name, column_name, ordinal_position, column_default, is_nullable,"
        " column_type, character_set_name, collation_name, column_key, extra,"
        " generation_expression, column_comment"
        " FROM information_schema.columns WHERE table_schema = database()"
        " ORDER BY table_name, ordinal_position"
    ),
    (
        "SELECT table_name, table_type, engine FROM information_schema.tables"
        " WHERE table_schema = database() ORDER BY table_name"
    ),
    (
        "SELECT table_name, index_name, non_unique, seq_in_index, column_name, sub_part"
        " FROM information_schema.statistics WHERE table_schema = database()"
        " ORDER BY table_name, index_name, seq_in_index"
    ),
    (
        "SELECT event_object_table, trigger_name, action_timing, event_manipulation"
        " FROM information_schema.triggers WHERE event_object_schema = database()"
        " ORDER BY event_object_table, trigger_name"
    ),
)
_STATEMENTS: dict[DialectName, tuple[str, ...]] = {
    "sqlite": (_SQLITE,),
    "postgresql": (_POSTGRESQL,),
    "mysql": _MARIADB,
}


def definitions(raw: Any, dialect: DialectName) -> list[Any]:
    """
    A value that differs from an earlier one once the definition of a table has changed.

    Args:
        raw: A driver's connection.
        dialect: The kind of database.
    """
    found = []
    cursor = raw.cursor()
    try:
        for statement in _STATEMENTS[dialect]:
            cursor.execute(statement)
            found.append(cursor.fetchall())
    finally:
        cursor.close()
    return found
