"""Keys of every type lead back to their rows; names of every kind are served as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.databases import OTHER_MYSQL
from tests.server.conftest import Serve
from tests.server.rows.test_api import problem
from tests.server.served import kind_of, on_its_own

KEYS: dict[str, list[tuple[str, Any]]] = {
    "postgresql": [
        ("jsonb", {"b": [1, "x/y"], "a": None}), ("jsonb", "text"), ("integer[]", [1, None]),
        ("text[]", ["a,b", '"', "NULL"]), ("numeric", "1.10"), ("date", "0044-03-15 BC"),
        ("timestamptz", "2026-11-24T17:45:00+00:00"), ("bytea", "AP8="), ("boolean", True),
        ("inet", "10.0.0.0/8"), ("text", "a/b?c#d%2F"), ("text", "..."), ("time", "24:00:00"),
        ("double precision", "Infinity"), ("uuid", "0b0e1a52-8d8c-4c4f-9d55-0a4c1d6a2a55"),
    ],
    "mysql": [
        ("DECIMAL(5,2)", "1.10"), ("DATE", "2026-11-00"), ("TIME", "-100:00:00"),
        ("VARBINARY(9)", "AP8="), ("VARCHAR(20)", "a/b?c#d%2F"), ("BIT(8)", 200),
        *([] if OTHER_MYSQL else [("INET6", "::1")]),
    ],
    "sqlite": [
        ("TEXT", "a/b?c#d%2F"), ("NUMERIC(5,2)", "1.10"), ("DATETIME", "2026-11-24T17:45:00"),
        ("BLOB", "AP8="), ("REAL", 1.5), ("BOOLEAN", True), ("JSON", {"a": 1}), ("", "x"),
    ],
}  # fmt: skip


def test_a_location_leads_to_its_row(database_url: str, serve: Serve) -> None:
    """Whatever the key's type is, GET, PUT and DELETE at Location reach the row."""
    keys = KEYS[kind_of(database_url)]
    on_its_own(
        database_url,
        *(
            f"CREATE TABLE t{n} (k {type_}, v INTEGER, PRIMARY KEY (k))"
            for n, (type_, _) in enumerate(keys)
        ),
    )
    served = serve(database_url)
    for number, (type_, key) in enumerate(keys):
        created = served.request("POST", f"/v1/api/t{number}", {"k": key, "v": 1})
        assert created.status_code == 201, (type_, key, created.text)
        assert created.json()["k"] == key, (type_, key)
        location = created.headers["location"]
        read = served.request("GET", location)
        assert read.content == created.content, (type_, key, location)
        assert served.request("PUT", location, read.json()).content == read.content, (type_, key)
        assert served.request("PUT", location, {"v": 2}).json() == {"k": key, "v": 2}
        assert served.request("DELETE", location).status_code == 204, (type_, key)
        put = served.request("PUT", location, {"v": 3})
        assert "location" in put.headers, (type_, key, put.text)
        assert (put.status_code, put.headers["location"]) == (201, location), (type_, key)


@pytest.mark.parametrize("key", ["", ".", ".."])
def test_a_key_that_clients_take_out_of_a_path_has_no_location(
    database_url: str, serve: Serve, key: str
) -> None:
    """RFC 3986 lets them remove dots, percent-encoded or not; the row is found by a filter."""
    on_its_own(database_url, "CREATE TABLE t (k VARCHAR(9) PRIMARY KEY, v INTEGER)")
    served = serve(database_url)
    created = served.request("POST", "/v1/api/t", {"k": key, "v": 1})
    assert (created.status_code, created.json()) == (201, {"k": key, "v": 1})
    assert "location" not in created.headers
    assert served.client.get("/v1/api/t", params={"k": f"eq.{key}"}).json() == [created.json()]


def test_what_other_programs_put_into_a_key_has_no_location(
    sqlite_path: Path, serve: Serve
) -> None:
    """A key that no path can tell is served in lists, without an address."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(
        url,
        "CREATE TABLE t (k TEXT PRIMARY KEY, v INTEGER)",
        "INSERT INTO t VALUES (x'00ff', 1), (CAST(x'ff41' AS TEXT), 2)",
        "CREATE TRIGGER copy AFTER UPDATE ON t BEGIN SELECT 1; END",
    )
    served = serve(url)
    assert served.request("GET", "/v1/api/t?order=v").json() == [
        {"k": "AP8=", "v": 1}, {"k": "/0E=", "v": 2},
    ]  # fmt: skip
    problem(served.request("PATCH", "/v1/api/t?v=eq.2", {"v": 5}), 400, "invalid-key")
    changed = served.request("PATCH", "/v1/api/t?v=eq.2", {"v": 5}, prefer="return=minimal")
    assert changed.status_code == 204
    assert served.rows("SELECT count(*) FROM t WHERE v = 5") == [(1,)]


def test_names_of_every_kind(database_url: str, serve: Serve) -> None:
    """Per cent signs, quotes, dots, slashes and blanks in names of tables and columns."""
    mark = "`" if kind_of(database_url) == "mysql" else '"'
    names = ["a%b", "a%25b", "a%sb%(x)s", "it's", "a.b", "a/b", "a b", "a+b", "ä?#", "select", "%"]
    statements = []
    for number, name in enumerate(names):
        table, column = f"{mark}{name}{mark}", f"{mark}c{name}{mark}"
        statements.append(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {column} VARCHAR(9) DEFAULT 'd%d')"
        )
        statements.append(f"INSERT INTO {table} VALUES ({number}, 'old')")
    if kind_of(database_url) != "sqlite":
        statements = [statement.replace("%", "%%") for statement in statements]
    on_its_own(database_url, *statements)
    served = serve(database_url)
    index = {resource["name"]: resource["href"] for resource in served.client.get("/v1/api").json()}
    assert set(index) == set(names)
    for number, name in enumerate(names):
        path, column = index[name], f"c{name}"
        listed = served.client.get(
            path, params={"select": f'"{column}"', "and": f'("{column}".eq.old)'}
        )
        assert listed.json() == [{column: "old"}], (name, listed.text)
        assert served.request("GET", f"{path}/{number}").json() == {"id": number, column: "old"}
        changed = served.request("PATCH", f"{path}/{number}", {column: "new"})
        assert changed.json() == {"id": number, column: "new"}, (name, changed.text)
        assert served.request("PUT", f"{path}/{number}", {}).json()[column] == "d%d", name
        created = served.request("POST", path, {"id": 100, column: "x"})
        assert created.headers["location"] == f"{path}/100"
        assert served.request("DELETE", f"{path}?id=eq.100").status_code == 204
    problem(served.request("GET", "/v1/api/a"), 404, "not-found")


UPSERT = {
    "sqlite": (
        (
            "CREATE TABLE u (id INTEGER PRIMARY KEY, sku TEXT, land TEXT DEFAULT 'AT', v INTEGER,"
            " UNIQUE (sku, land))"
        ),
    ),
    "postgresql": (
        (
            "CREATE TABLE u (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, sku text,"
            " land text DEFAULT 'AT', v integer, UNIQUE (sku, land))"
        ),
        (
            "CREATE TABLE n (id serial PRIMARY KEY, sku text, land text, v integer,"
            " UNIQUE NULLS NOT DISTINCT (sku, land))"
        ),
    ),
    "mysql": (
        (
            "CREATE TABLE u (id INTEGER AUTO_INCREMENT PRIMARY KEY, sku VARCHAR(9),"
            " land VARCHAR(9) DEFAULT 'AT', v INTEGER, UNIQUE (sku, land))"
        ),
    ),
}
MERGE, IGNORE = "resolution=merge-duplicates", "resolution=ignore-duplicates"


def test_an_upsert_knows_defaults_and_nulls(database_url: str, serve: Serve) -> None:
    """A conflict column that is left out has its default; a NULL is like no other, unless told."""
    kind = kind_of(database_url)
    on_its_own(database_url, *UPSERT[kind])
    served = serve(database_url)
    target = "/v1/api/u?on_conflict=sku,land"
    assert served.request("POST", target, {"sku": "tea", "v": 1}, prefer=MERGE).status_code == 201
    merged = served.request("POST", target, {"sku": "tea", "v": 2}, prefer=MERGE)
    assert (merged.status_code, merged.json()["v"], merged.json()["land"]) == (200, 2, "AT")
    kept = served.request("POST", target, {"sku": "tea", "v": 3}, prefer=IGNORE)
    assert (kept.status_code, kept.json()["v"]) == (200, 2)
    for _ in range(2):
        body = {"sku": "tea", "land": None, "v": 4}
        assert served.request("POST", target, body, prefer=MERGE).status_code == 201
    assert served.rows("SELECT count(*) FROM u") == [(3,)]
    if kind == "postgresql":
        target = "/v1/api/n?on_conflict=sku,land"
        for expected in (201, 200):
            answered = served.request("POST", target, {"sku": "t", "v": expected}, prefer=MERGE)
            assert answered.status_code == expected, answered.text
        assert served.rows("SELECT sku, land, v FROM n") == [("t", None, 200)]


def test_an_upsert_of_a_table_without_a_primary_key(database_url: str, serve: Serve) -> None:
    """The unique columns find the row, and no other row is touched."""
    on_its_own(
        database_url,
        "CREATE TABLE t (a INTEGER NOT NULL UNIQUE, v INTEGER)",
        "INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    served = serve(database_url)
    target = "/v1/api/t?on_conflict=a"
    merged = served.request("POST", target, {"a": 1, "v": 9}, prefer=MERGE)
    assert (merged.status_code, merged.json()) == (200, {"a": 1, "v": 9})
    assert served.request("POST", target, {"a": 3, "v": 3}, prefer=MERGE).status_code == 201
    kept = served.request("POST", target, {"a": 2, "v": 9}, prefer=IGNORE)
    assert (kept.status_code, kept.json()) == (200, {"a": 2, "v": 2})
    assert served.rows("SELECT a, v FROM t ORDER BY a") == [(1, 9), (2, 2), (3, 3)]


def test_returning_shows_whole_numbers_as_they_are_stored(sqlite_path: Path, serve: Serve) -> None:
    """SQLite's RETURNING makes doubles of them where the table has a REAL column."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(url, "CREATE TABLE t (k REAL, id INTEGER PRIMARY KEY, n BIGINT, d NUMERIC(9, 2))")
    served = serve(url)
    row = {"k": 2.0, "id": 2**53 + 1, "n": 2**53 + 1, "d": "7.00"}
    created = served.request("POST", "/v1/api/t", row)
    assert created.json() == row
    assert created.content == served.request("GET", created.headers["location"]).content
    changed = served.request("PATCH", created.headers["location"], {"n": 2**53 + 3})
    assert changed.json()["n"] == 2**53 + 3
    assert (
        changed.headers["etag"]
        == served.request("GET", "/v1/api/t/9007199254740993").headers["etag"]
    )
