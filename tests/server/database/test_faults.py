"""Whatever a client sends, and whatever the database refuses, has a status of its own."""

from __future__ import annotations

from contextlib import closing
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.databases import OTHER_MYSQL
from tests.server.conftest import Serve
from tests.server.rows.test_api import problem
from tests.server.served import call, make_shop, on_its_own

BAD: tuple[Any, ...] = (
    *("x", "", " ", "-1", "1e400", "NaN", "{", "{}", "[1]", '{"a":', "<a>", "()", "'", "\\", "%s"),
    *("infinity", "2026-02-30", "99:99", "0000-00-00", "10101010101", "::", "a" * 3000, "\ud7ff€"),
    *(True, 0, -1, 2**31, 2**63, 2**70, 10**39, 1.5, 1e300, -1e-300),
    *([], [[]], ["x"], [None], [[1], [2, 3]], [1e300], {}, {"a": 1}, {"a": {"b": [None]}}),
)


@pytest.mark.slow
@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.prove)])
def test_no_value_is_an_error_of_ours(everything: Any, thorough: bool) -> None:
    """Every type refuses or takes every value, in a body, a filter and a key, without a 500."""
    tables, served = everything
    targets = ("?v=eq.", "?v=gt.", "?v=in.(", "?v=like.", "?v=ilike.", "?v=is.")
    for number, (table, rows) in enumerate(tables.items()):
        # In turn, so that every type meets some values and every value some types.
        for value in BAD if thorough else BAD[number % 8 :: 8]:
            body = {"id": 5000, "v": value}
            answered = served.request("POST", f"/v1/api/{table}", body)
            assert answered.status_code < 500, (rows, value, answered.text)
            if answered.is_success:
                gone = served.request("DELETE", f"/v1/api/{table}/5000")
                assert gone.status_code == 204, (rows, value)
        for value in BAD[:20] if thorough else BAD[number % 20 : 20 : 20]:
            for start in targets:
                text = quote(str(value), safe="")
                answered = served.request("GET", f"/v1/api/{table}{start}{text}&limit=2")
                assert answered.status_code < 500, (rows, start, value, answered.text)


def test_each_refusal_of_postgresql_has_its_status(postgresql_url: str, serve: Serve) -> None:
    """Wrong XML, bits, arrays, names of things; too long for an index; what functions raise."""
    on_its_own(
        postgresql_url,
        "CREATE DOMAIN positive AS integer CHECK (value > 0)",
        "CREATE FUNCTION grumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF new.n = 1 THEN RAISE EXCEPTION 'no' USING ERRCODE = '42P01'; END IF;"
        " IF new.n = 2 THEN RAISE no_data_found; END IF;"
        " IF new.n = 3 THEN new.n := 1 / 0; END IF;"
        " IF new.n = 4 THEN PERFORM nothing_like_that(); END IF;"
        " RETURN new; END $$",
        "CREATE TABLE t (id integer PRIMARY KEY, x xml, b bit(5), vb varbit(3), d positive,"
        " r regclass, q tsquery, p point, i integer[], m money, k text UNIQUE, n integer,"
        " g integer GENERATED ALWAYS AS (10 / nullif(n, 5) + 1 / (n - 6)) STORED, j jsonb)",
        "CREATE TRIGGER grumble BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION grumble()",
    )
    served = serve(postgresql_url)
    for body, status, slug in (
        ({"x": "<a>"}, 400, "wrong-type"),
        ({"b": "101"}, 422, "value-out-of-range"),
        ({"vb": "1010"}, 422, "value-too-long"),
        ({"d": -1}, 422, "check-violation"),
        ({"r": "no_such_table"}, 400, "wrong-type"),
        ({"q": "fat &"}, 400, "wrong-type"),
        ({"p": "1"}, 400, "wrong-type"),
        ({"i": [[1], [2, 3]]}, 400, "wrong-type"),
        ({"m": "12 EUR"}, 400, "wrong-type"),
        ({"n": 1}, 422, "trigger-refused"),
        ({"n": 2}, 422, "trigger-refused"),
        ({"n": 3}, 422, "value-out-of-range"),
        ({"n": 4}, 500, "internal-error"),
        ({"n": 6}, 422, "value-out-of-range"),
        ({"j": {"a": "\0"}}, 422, "value-out-of-range"),
    ):
        refused = served.request("POST", "/v1/api/t", {"id": 1, **body})
        problem(refused, status, slug)
    words = " ".join(f"word{n}" for n in range(90000))
    problem(served.request("POST", "/v1/api/t", {"id": 1, "k": words}), 422, "value-too-long")
    assert served.rows("SELECT count(*) FROM t") == [(0,)]


def test_the_log_does_not_show_rows(
    postgresql_url: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw is logged by its code: its text may quote what a row holds."""
    on_its_own(
        postgresql_url,
        "CREATE TABLE t (id integer PRIMARY KEY, name text)",
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " EXECUTE 'SELECT ' || quote_ident(new.name) || '()'; RETURN new; END $$",
        "CREATE TRIGGER act BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION act()",
    )
    served = serve(postgresql_url)
    refused = served.request("POST", "/v1/api/t", {"id": 1, "name": "private"})
    problem(refused, 500, "internal-error")
    assert "UndefinedFunction (42883)" in caplog.text
    assert "private" not in caplog.text


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
def test_the_database_s_own_time_limits_are_told(
    postgresql_url: str, serve: Serve, setting: str
) -> None:
    """lock_timeout is 503, to be tried again; statement_timeout 504. Neither is run again."""
    make_shop(postgresql_url)
    name = postgresql_url.rpartition("/")[2]
    on_its_own(postgresql_url, f"ALTER DATABASE {name} SET {setting} = '200ms'")
    served = serve(postgresql_url)
    with closing(psycopg.connect(postgresql_url)) as other:
        other.execute(f"SET {setting} = 0")
        other.execute("UPDATE items SET stock = 9 WHERE id = 1")
        answered = served.request("PATCH", "/v1/api/items/1", {"stock": 1})
        response, replies = served.batch(
            call("PATCH", "/v1/api/items/2", {"stock": 1}),
            call("PATCH", "/v1/api/items/1", {"stock": 1}),
        )
        other.rollback()
    if setting == "lock_timeout":
        problem(answered, 503, "database-busy")
        assert "retry-after" in answered.headers
        assert [reply.status for reply in replies] == [503, 503]
    else:
        problem(answered, 504, "timeout")
        assert [reply.status for reply in replies] == [424, 504]
    assert "batch-attempts" not in response.headers
    assert served.rows("SELECT stock FROM items ORDER BY id") == [(10,), (3,), (1,)]


def test_each_refusal_of_mariadb_has_its_status(mysql_url: str, serve: Serve) -> None:
    """Names with backticks, geometry, collations, character sets, time limits."""
    on_its_own(
        mysql_url,
        "CREATE TABLE `t``i``ck` (id INTEGER AUTO_INCREMENT PRIMARY KEY,"
        " `a``b` VARCHAR(5) NOT NULL, `c%%d` JSON, g GEOMETRY, n INTEGER,"
        " l VARCHAR(5) CHARACTER SET latin1,"
        " u VARCHAR(5) COLLATE utf8mb4_unicode_ci, e ENUM('a', 'b'),"
        f" i {'INTEGER' if OTHER_MYSQL else 'INET6'},"
        " z INTEGER AS (10 / n) STORED)",
    )
    served = serve(mysql_url)
    path = "/v1/api/t%60i%60ck"
    created = served.request("POST", path, {"a`b": "x", "c%d": [1], "n": 2})
    assert created.status_code == 201, created.text
    assert served.request("GET", created.headers["location"]).json()["a`b"] == "x"
    for query in ("a`b=eq.x", "a`b=in.(x,y)", "select=a`b,c%25d", "order=a`b.desc", "u=in.(é,世)"):
        assert served.request("GET", f"{path}?{query}").status_code == 200, query
    for body, status, slug, column in (
        ({"a`b": None}, 422, "not-null-violation", "a`b"),
        ({"a`b": "longer"}, 422, "value-too-long", "a`b"),
        ({"a`b": "x", "g": "AAAA"}, 400, "wrong-type", None),
        ({"a`b": "x", "l": "世"}, 422, "value-out-of-range", "l"),
        ({"a`b": "x", "i": "nonsense"}, 400, "wrong-type", "i"),
        ({"a`b": "x", "e": "c"}, 422, "value-out-of-range", "e"),
        ({"a`b": "x", "n": 0}, 422, "value-out-of-range", None),
    ):
        refused = problem(served.request("POST", path, body), status, slug)
        assert refused.get("column") == column, refused
    assert served.request("PUT", f"{path}/0", {"a`b": "zero"}).json()["id"] == 0
    assert served.rows("SELECT count(*) FROM `t``i``ck`") == [(2,)]


def test_each_refusal_of_sqlite_has_its_status(sqlite_path: Any, serve: Serve) -> None:
    """What a computed column, an index or a check says of a value is the value's fault."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(
        url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, j TEXT, n INTEGER, moment DATETIME,"
        " a AS (json_extract(j, '$.a')), b AS (abs(n)))",
        "CREATE INDEX ia ON t (a)",
        "CREATE INDEX ib ON t (b)",
    )
    served = serve(url)
    for body, status, slug in (
        ({"j": "no json"}, 400, "wrong-type"),
        ({"n": -(2**63)}, 422, "value-out-of-range"),
        ({"moment": 2**70}, 400, "wrong-type"),
    ):
        problem(served.request("POST", "/v1/api/t", body), status, slug)
    assert served.request("POST", "/v1/api/t", {"j": '{"a": 1}'}).json()["a"] == 1
