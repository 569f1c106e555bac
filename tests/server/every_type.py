"""Every type of each database, with values as SQL: extremes, and what only that database has."""

from __future__ import annotations

from tests.databases import OTHER_MYSQL

POSTGRESQL: dict[str, tuple[str, ...]] = {
    "smallint": ("-32768", "32767"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "numeric": (
        *("'NaN'", "'Infinity'", "'-Infinity'", "1e-300", "repeat('9', 3000)::numeric", "-0.10"),
    ),
    "numeric(12,4)": ("99999999.9999", "-0.0001"),
    "numeric(3,-2)": ("99900",),
    "numeric(2,5)": ("0.00099",),
    "real": ("'NaN'", "'-Infinity'", "1e-45", "0.1", "3.4028235e38", "'-0'"),
    "double precision": ("'Infinity'", "5e-324", "0.1", "1.7976931348623157e308", "'-0'"),
    "boolean": ("true", "false"),
    "text": ("''", "'NULL'", r"""E'a\\b"{}, \n'""", "'{1,2}'"),
    "varchar(5)": ("'ab'", "'👩世界ab'"),
    "char(5)": ("'ab'",),
    '"char"': ("'x'",),
    "name": ("'n'",),
    "bytea": (r"'\x00ff'", "''", r"'\x5c22'"),
    "date": (
        *("'infinity'", "'-infinity'", "'0044-03-15 BC'", "'4713-01-01 BC'", "'5874897-12-31'"),
        *("'12026-01-01'", "'0001-01-01'"),
    ),
    "time": ("'24:00:00'", "'23:59:59.999999'", "'00:00'"),
    "time(2)": ("'23:59:59.99'",),
    "timetz": ("'24:00:00+00'", "'17:45:00+05:30'", "'00:00:00-15:59:59'", "'12:00:00.5-07'"),
    "timestamp": (
        *("'infinity'", "'0044-03-15 12:00:00.000001 BC'", "'294276-12-31 23:59:59.999999'"),
        *("'4713-01-01 00:00:00 BC'", "'12026-01-01 00:00:00'"),
    ),
    "timestamptz": (
        *("'-infinity'", "'0044-03-15 12:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'"),
        *("'2026-11-24 17:45:00+02'", "'12026-01-01 00:00:00+00'"),
    ),
    "interval": (
        *("'1 year -2 months 3 days -04:05:06.000007'", "'-178000000 years'", "'0'", "'25 hours'"),
        *("'-0.000001 seconds'", "'1 mon -1 day'"),
    ),
    "json": (
        *("""'{"a":  1.10, "a": 2}'""", "'1e400'", "'[ ]'", """'"x"'"""),
        """'{"deep": [1, {"é": null}]}'""",
    ),
    "jsonb": (
        """'{"b": [1.10, 1e3], "a": null}'""",
        "'[]'",
        "'9007199254740993'",
        "'true'",
        "'null'",
    ),
    "jsonpath": ("""'$."a"[*] ? (@ > 1)'""",),
    "uuid": ("'0b0e1a52-8d8c-4c4f-9d55-0a4c1d6a2a55'",),
    "xml": ("""'<a b="1">x &amp; y</a>'""", "'<!-- c --><a/>'", "'text'"),
    "money": ("'-92233720368547758.08'", "'12.50'"),
    "bit(5)": ("B'10101'",),
    "varbit": ("B''", "B'1'"),
    "inet": ("'192.168.0.1/24'", "'::1'"),
    "cidr": ("'10.0.0.0/8'",),
    "macaddr": ("'08:00:2b:01:02:03'",),
    "macaddr8": ("'08:00:2b:01:02:03:04:05'",),
    "tsvector": ("'a fat cat'", "'a:1A ''it''''s'':2'"),
    "tsquery": ("'fat & (rat | !cat)'", "'super:*A'"),
    "point": ("'(1.5,-2)'", "'(Infinity,NaN)'"),
    "line": ("'{1,2,3}'",),
    "lseg": ("'[(1,2),(3,4)]'",),
    "box": ("'(3,4),(1,2)'",),
    "path": ("'[(1,2),(3,4)]'", "'((1,2),(3,4))'"),
    "polygon": ("'((1,2),(3,4),(5,6))'",),
    "circle": ("'<(1,2),3.5>'",),
    "int4range": ("'[1,5)'", "'empty'", "'(,)'"),
    "numrange": ("'[1.10,2.20]'",),
    "tstzrange": ("'[2026-01-01 00:00+00,infinity)'", "'[0044-03-15 00:00:00+00 BC,)'"),
    "int4multirange": ("'{[1,3),[5,7)}'", "'{}'"),
    "oid": ("4294967295",),
    "xid": ("'4294967295'",),
    "xid8": ("'18446744073709551615'",),
    "cid": ("'1'",),
    "tid": ("'(4294967295,65535)'",),
    "pg_lsn": ("'16/B374D848'",),
    "pg_snapshot": ("'10:20:10,14,15'",),
    "regclass": ("'pg_class'", "'-'"),
    "regtype": ("'integer'", "'character varying'"),
    "regprocedure": ("'now()'",),
    "regrole": ("'postgres'",),
    "int2vector": ("'1 2 3'",),
    "mood": ("'ok'", """'very, "sad"'"""),
    "hstore": (r"""'a=>1, "b c"=>NULL, "q\\\""=>"x"'""",),
    "citext": ("'MiXed'",),
    "place": ("""'(1,"a, b",)'""", """'(,,"")'"""),
}
POSTGRESQL_DOMAINS: dict[str, tuple[str, tuple[str, ...]]] = {
    "d_int": ("integer CHECK (value > 0)", ("7",)),
    "d_d_int": ("d_int", ("8",)),
    "d_short": ("varchar(5)", ("'ab'",)),
    "d_moment": (
        "timestamptz(3)",
        ("'2026-11-24 17:45:00.123+00'", "'0044-03-15 00:00:00+00 BC'"),
    ),
    "d_jsonb": ("jsonb", ("""'{"a": 1}'""",)),
    "d_bytes": ("bytea", (r"'\x00ff'",)),
    "d_bool": ("boolean", ("true",)),
    "d_real": ("real", ("0.1",)),
    "d_mood": ("mood", ("'ok'",)),
    "d_ints": ("integer[]", ("'{1,NULL,-3}'", "'[0:1]={5,6}'")),
    "d_net": ("inet", ("'::1'",)),
    "d_amount": ("numeric(6,2) NOT NULL", ("12.50",)),
}
POSTGRESQL_ARRAYS: dict[str, tuple[str, ...]] = {
    "integer[]": ("'{}'", "'{{1,2},{3,NULL}}'", "'[2:3]={1,2}'", "'[0:0][5:6]={{1,2}}'"),
    "text[]": (r"""ARRAY['NULL', NULL, '', 'a"b\c', '{x}', ' y ', E'\n', 'é,']""",),
    "jsonb[]": (
        """ARRAY['{"a": 1}', NULL, '[1, 2]']::jsonb[]""",
        "ARRAY['null']::jsonb[]",
        """ARRAY[ARRAY['1'], ARRAY['"x"']]::jsonb[]""",
    ),
    "varchar(3)[]": ("'{abc,NULL}'",),
    "numeric(6,2)[]": ("'{1.10,-2}'",),
    "d_int[]": ("'{1,NULL}'",),
    "bytea[]": (r"ARRAY['\x00ff'::bytea, '']",),
    "timestamptz[]": ("ARRAY['0044-03-15 00:00:00+00 BC', 'infinity']::timestamptz[]",),
}
POSTGRESQL_NEEDS = [
    "CREATE EXTENSION hstore",
    "CREATE EXTENSION citext",
    """CREATE TYPE mood AS ENUM ('ok', 'very, "sad"')""",
    "CREATE TYPE place AS (x integer, y text, z text)",
    *(f"CREATE DOMAIN {name} AS {base}" for name, (base, _) in POSTGRESQL_DOMAINS.items()),
]
MARIADB: dict[str, tuple[str, ...]] = {
    "TINYINT": ("-128",),
    "BOOLEAN": ("1", "0", "5"),
    "SMALLINT UNSIGNED": ("65535",),
    "MEDIUMINT": ("-8388608",),
    "BIGINT UNSIGNED": ("18446744073709551615",),
    "DECIMAL(65,30)": ("99999999999999999999999999999999999.123456789012345678901234567891",),
    "FLOAT": ("0.1", "3.40282e38", "16777217"),
    "DOUBLE": ("0.1", "5e-324", "-1.7976931348623157e308"),
    "BIT(1)": ("b'1'",),
    "BIT(64)": ("b'" + "1" * 64 + "'",),
    "DATE": ("'0000-00-00'", "'2026-00-00'", "'2026-11-00'", "'9999-12-31'", "'0000-01-01'"),
    "TIME": ("'838:59:59'", "'-838:59:59'", "'-00:00:01'", "'24:00:00'", "'100:00:00'"),
    "TIME(6)": ("'-25:00:00.000001'", "'23:59:59.999999'"),
    "DATETIME": ("'0000-00-00 00:00:00'", "'2026-00-15 10:00:00'", "'9999-12-31 23:59:59'"),
    "DATETIME(6)": ("'0000-00-00 00:00:00'", "'1000-01-01 00:00:00.000001'"),
    "TIMESTAMP NULL": ("'0000-00-00 00:00:00'", "'1970-01-01 12:00:01'", "'2038-01-18 03:14:07'"),
    "TIMESTAMP(3) NULL": ("'0000-00-00 00:00:00'", "'2026-11-24 17:45:00.123'"),
    "YEAR": ("0", "1901", "2155", "'0000'"),
    "CHAR(5)": ("'ab'", "''"),
    "VARCHAR(5)": ("'ab  '", "'👩世界ab'"),
    "VARCHAR(5) CHARACTER SET latin1": ("'é'",),
    "TEXT": (r"'a\\b\0c%s'",),
    "BINARY(4)": ("x'00ff'",),
    "VARBINARY(4)": ("x''", "x'00'"),
    "LONGBLOB": ("x'00ff5c27'",),
    "JSON": ("""'{"a":  1.10, "a": 2}'""", "'1e400'", """'"x"'""", "'[ ]'", "'null'"),
    "ENUM('a','b,c','d''e')": ("'a'", "'b,c'", "'d''e'", "''"),
    "SET('a','b','c d')": ("''", "'a,c d'"),
    "GEOMETRY": ("ST_GeomFromText('POINT(1.1 -2)', 4326)", "ST_GeomFromText('POINT(0 0)')"),
    "LINESTRING": ("ST_GeomFromText('LINESTRING(0 0,1 1)')",),
    "INET4": ("'192.168.0.1'",),
    "INET6": ("'::ffff:10.0.0.1'", "'fe80::1'"),
    "UUID": ("'0b0e1a52-8d8c-4c4f-9d55-0a4c1d6a2a55'",),
}
# What other programs may put into any column of SQLite.
SQLITE_VALUES = (
    *("NULL", "0", "1", "-9223372036854775808", "9223372036854775807", "1e20", "0.1", "9e999"),
    *("-9e999", "1.5", "''", "'text'", "'abcd'", "'1234'", "' 5 '", "x''", "x'00ff'"),
    *("x'd76df8e7'", "CAST(x'ff41' AS TEXT)", "'a' || char(0) || 'b'", "'2026-11-24'"),
    *("'2026-11-24 17:45:00'", "'2026-11-24T17:45:00'", "'2026-11-24T17:45:00.500Z'"),
    *("'2026-11-24 17:45:00.000000'", "'2026-11-24 17:45'", "'17:45'", "'17:45:00.50'"),
    *("1700000000", "2461004.5", "'infinity'", "'0B0E1A52-8D8C-4C4F-9D55-0A4C1D6A2A55'"),
    *("""'{"a":  1.10}'""", """'{"a":1,"a":2}'""", "'no json'", "'null'", """'"\\ud800"'"""),
    *("'true'", "1.239", "123456789012345678", "'12345678901234567890.5'", "'Infinity'", "'inf'"),
)
SQLITE_TYPES = (
    *("INTEGER", "BIGINT", "REAL", "DOUBLE PRECISION", "NUMERIC", "NUMERIC(6,2)", "BOOLEAN"),
    *("DECIMAL(30,10)", "TEXT", "VARCHAR(3)", "CLOB", "BLOB", "DATE", "TIME", "DATETIME"),
    *("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "JSON", "JSONB", "UUID", "ANY", "", "POINT"),
)


def _is_only_mariadbs(type_: str, value: str) -> bool:
    """Tell whether MySQL lacks a type, or refuses a value of it: its JSON is no text."""
    return type_ in ("INET4", "INET6", "UUID") or value == "'1e400'"


def cases_of(kind: str) -> list[tuple[str, str]]:
    """Pairs of a type and a value as SQL."""
    if kind == "sqlite":
        return [(type_, value) for type_ in SQLITE_TYPES for value in SQLITE_VALUES]
    if kind == "mysql":
        known = [(type_, value) for type_, values in MARIADB.items() for value in values]
        return [case for case in known if not (OTHER_MYSQL and _is_only_mariadbs(*case))]
    sources = [POSTGRESQL, {name: values for name, (_, values) in POSTGRESQL_DOMAINS.items()}]
    cases = [(type_, v) for source in sources for type_, values in source.items() for v in values]
    for type_, values in POSTGRESQL.items():
        items = ", ".join(f"CAST({value} AS {type_})" for value in values)
        cases.append((f"{type_}[]", f"ARRAY[{items}, NULL]"))
    return cases + [(type_, v) for type_, values in POSTGRESQL_ARRAYS.items() for v in values]
