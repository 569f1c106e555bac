"""A write reaches the rows that its filters say, or it is refused and reaches none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from atomicbatch.server.http.serve import database_url as server_url
from tests.server.conftest import Serve
from tests.server.served import Served, call, kind_of, on_its_own

TEXTS = [
    "a",
    "b",
    "A",
    " a",
    "a ",
    "a,b",
    '"a"',
    'a"b',
    "(a)",
    "a\\b",
    "a.b",
    "a&b=c",
    "#%",
    "",
    "ä",
]
ROWS = [
    (n, TEXTS[n % len(TEXTS)], n % 4 or None, TEXTS[(7 * n) % len(TEXTS)], ("x", None)[n % 2], 0)
    for n in range(1, 31)
]
# Names that must be quoted somewhere, and two that Google's clients use for themselves.
COLUMNS = {"id": int, "name": str, "a.b": int, "key": str, 'or"der': str}


@pytest.fixture
def odd(database_url: str, serve: Serve) -> Served:
    """Thirty rows, served, on each kind of database."""
    return served_odd(database_url, serve)


@pytest.fixture
def odd_sqlite(sqlite_path: Path, serve: Serve) -> Served:
    """The same on SQLite only, for what does not reach the database's own comparisons."""
    return served_odd(f"sqlite:///{sqlite_path}", serve)


def served_odd(url: str, serve: Serve) -> Served:
    mysql = kind_of(url) == "mysql"
    text = "VARCHAR(20)" if mysql else "TEXT"
    columns = ", ".join(
        f"{named_in_sql(name, mysql=mysql)} {'INTEGER' if kind is int else text}"
        for name, kind in COLUMNS.items()
    )
    suffix = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if mysql else ""
    on_its_own(url, f"CREATE TABLE odd ({columns}, mark INTEGER, PRIMARY KEY (id)){suffix}")
    return serve(url)


def named_in_sql(name: str, *, mysql: bool) -> str:
    return f"`{name}`" if mysql else '"' + name.replace('"', '""') + '"'


def reset(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM odd"))
        names = "abcdef"
        marks = ", ".join(f":{name}" for name in names)
        rows = [dict(zip(names, row, strict=True)) for row in ROWS]
        connection.execute(sa.text(f"INSERT INTO odd VALUES ({marks})"), rows)


def selected(engine: sa.Engine, where: str, values: list[Any]) -> list[int]:
    """The rows that ``where`` selects: ``[name]`` in it is a column, ``?`` one of the values."""
    mysql = engine.dialect.name in ("mysql", "mariadb")
    for name in COLUMNS:
        where = where.replace(f"[{name}]", named_in_sql(name, mysql=mysql))
    pieces = where.split("?")
    sql = pieces[0] + "".join(f":v{n}{piece}" for n, piece in enumerate(pieces[1:]))
    with engine.connect() as connection:
        found = connection.execute(
            sa.text(f"SELECT id FROM odd WHERE {sql} ORDER BY id"),
            {f"v{n}": value for n, value in enumerate(values)},
        )
        return [number for (number,) in found]


class Filter(NamedTuple):
    """One condition as a client may write it, and what it means in SQL."""

    name: str
    text: str
    sql: str
    values: list[Any]
    plain: bool
    """Whether it is written as the reference says, so that it must be taken."""


COMPARISONS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def listed(draw: st.DrawFn, value: str) -> tuple[str, bool]:
    """A value in parentheses: in quotes, or as it is; perhaps with blanks around it."""
    clean = not set(value) & set(',()"\\') and value == value.strip()
    blank = draw(st.sampled_from(["", "", "", " ", "\t"]))
    if not clean or draw(st.booleans()):
        return blank + quoted(value) + draw(st.sampled_from(["", "", " "])), True
    return blank + value, not blank


@st.composite
def named(draw: st.DrawFn, column: str, *, in_tree: bool) -> tuple[str, bool]:
    """A column's name: as it is, in quotes, or in the wrong case."""
    odd_name = set(column) & set('."')
    style = draw(
        st.sampled_from(
            ["quoted"] if odd_name and in_tree else ["quoted", "as it is"] * 4 + ["upper"]
        )
    )
    if style == "quoted":
        return quoted(column), True
    return (column.upper(), False) if style == "upper" else (column, True)


@st.composite
def filters(draw: st.DrawFn, *, in_tree: bool = False) -> Filter:
    """A condition on one column."""
    column = draw(st.sampled_from(list(COLUMNS)))
    name, plain = draw(named(column, in_tree=in_tree))
    operator = draw(st.sampled_from([*COMPARISONS, "in", "in", "is"]))
    value_of = st.integers(0, 9).map(str) if COLUMNS[column] is int else st.sampled_from(TEXTS)
    if operator == "is":
        word = draw(st.sampled_from(["null", "not_null"]))
        text, sql, values = word, f"IS {'NOT ' if word == 'not_null' else ''}NULL", []
    elif operator == "in":
        values = draw(st.lists(value_of, max_size=4))
        written = [draw(listed(value)) for value in values]
        plain = plain and all(good or COLUMNS[column] is int for _, good in written)
        text = "(" + ",".join(shown for shown, _ in written) + ")"
        # An empty element is an empty text.
        plain = plain and (text != "()" or not values)
        if values and text == "()":
            values = []
        sql = f"IN ({', '.join('?' * len(values))})"
    else:
        values = [draw(value_of)]
        text, good = draw(listed(values[0])) if in_tree else (values[0], True)
        plain = plain and (good or COLUMNS[column] is int)
        sql = f"{COMPARISONS[operator]} ?"
    values = [COLUMNS[column](value) for value in values]
    negated = draw(st.booleans())
    written_operator = ("not." if negated else "") + operator
    where = "1 = 0" if sql == "IN ()" else f"[{column}] {sql}"
    return Filter(
        name, f"{written_operator}.{text}", f"NOT ({where})" if negated else where, values, plain
    )


@st.composite
def trees(draw: st.DrawFn) -> Filter:
    """``and=(...)``, ``or=(...)`` and their negations."""
    members = draw(st.lists(filters(in_tree=True), min_size=1, max_size=3))
    word = draw(st.sampled_from(["and", "or"]))
    negated = draw(st.booleans())
    comma = draw(st.sampled_from([",", ",", ", "]))
    text = "(" + comma.join(f"{member.name}.{member.text}" for member in members) + ")"
    where = "(" + f" {word.upper()} ".join(f"({member.sql})" for member in members) + ")"
    return Filter(
        f"not.{word}" if negated else word,
        text,
        f"NOT {where}" if negated else where,
        [value for member in members for value in member.values],
        all(member.plain for member in members),
    )


# Added by people, proxies and Google's clients; what stands behind is whether it may be ignored.
EXTRAS = [
    ("alt=json", True), ("prettyPrint=false", True), ("quotaUser=me", True), ("$.xgafv=1", True),
    ("", True), ("key=secret", False), ("prettyPrint=eq.true", False), ("alt=not.is.null", False),
    ("quotaUser=in.(1)", False), ("userIp=fts(simple).x", False), ("KEY=secret", False),
    ("limit=1", False), ("order=id", False), ("offset=1", False), ("on_conflict=id", False),
    ("columns=id", False), ("=eq.1", False), ("id", False), ("fields=id", False),
    ("%22=eq.1", False), ("%22%22=eq.1", False),
    ("id=eq.1%00", False), ("name.x=eq.1", False), ("and=()", False),
]  # fmt: skip


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(filters() | filters() | trees(), min_size=1, max_size=3),
    st.lists(st.sampled_from(EXTRAS), max_size=1),
    st.sampled_from(["PATCH", "DELETE", "batch"]),
)
def test_a_write_reaches_the_rows_that_its_filters_select(
    odd: Served, chosen: list[Filter], extras: list[tuple[str, bool]], how: str
) -> None:
    """Exactly those that the same conditions select in SQL; or 400, and none."""
    engine = sa.create_engine(server_url(odd.url), poolclass=sa.NullPool)
    reset(engine)
    where = " AND ".join(f"({one.sql})" for one in chosen)
    expected = selected(engine, where, [value for one in chosen for value in one.values])
    pairs = [f"{quote(one.name, safe='')}={quote(one.text, safe='')}" for one in chosen]
    target = "/v1/api/odd?" + "&".join(pairs + [text for text, _ in extras])
    if how == "batch":
        response, replies = odd.batch(
            call("PATCH", target, {"mark": 1}, headers=[(b"prefer", b"return=minimal")])
        )
        status = replies[0].status
        assert (response.headers["batch-outcome"] == "committed") == (status < 400)
    elif how == "PATCH":
        status = odd.request("PATCH", target, {"mark": 1}).status_code
    else:
        status = odd.request("DELETE", target).status_code
    if how == "DELETE":
        left = selected(engine, "true", [])
        reached = [number for number, *_ in ROWS if number not in left]
    else:
        reached = selected(engine, "mark = 1", [])
    event(f"{status}")
    must = all(one.plain for one in chosen) and all(ignored for _, ignored in extras)
    may = all(ignored for _, ignored in extras)
    assert status in (200, 204, 400, 422), target
    assert status < 400 or not must, target
    assert status >= 400 or may, target
    assert reached == (expected if status < 400 else []), target


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('name=in.("a", "b")', ["a", "b"]),
        ('name=in.( "a" ,"b" )', ["a", "b"]),
        ('name=not.in.("a", "b")', sorted({*TEXTS} - {"a", "b"})),
        ('"a.b"=eq.1', None),
        ("id=in.(1, 2)", None),
        ('or=(name.eq."a", name.eq."b")', ["a", "b"]),
        ("name=in.(a, b)", "starts or ends with a blank"),
        ("name=not.in.(a, b)", "starts or ends with a blank"),
        ("name=in.( a)", "starts or ends with a blank"),
        ('name=in.(a"b)', "must be quoted"),
        ('name=in.("a"x)', "more text after a quoted value"),
        ('name=in.("a)', "no closing quote"),
        ("or=(name.eq. a,id.eq.1)", "starts or ends with a blank"),
        ("key=secret", "a condition is"),
        ("Key=secret", "no column"),
        ("alt=eq.json", "no column"),
        ("id=not.not.eq.1", "a condition is"),
        ("id=eq.1;x", "column 'id'"),
        ("id=eq. 1", "column 'id'"),
        ("id=is.null.", "'is' takes one of"),
        ("id=in.(1)x", "more text after"),
        ("or=(id.eq.1)x", "more text after"),
        ("or=(id.eq.1,)", "starts with the name"),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways(
    odd_sqlite: Served, query: str, found: list[str] | str | None
) -> None:
    """Each is honoured or refused; nothing of it is dropped."""
    engine = sa.create_engine(odd_sqlite.url, poolclass=sa.NullPool)
    reset(engine)
    response = odd_sqlite.request("DELETE", f"/v1/api/odd?{quote(query, safe='=&')}")
    gone = [name for number, name, *_ in ROWS if number not in selected(engine, "true", [])]
    if isinstance(found, str):
        assert response.status_code == 400
        assert found in response.json()["detail"]
        assert gone == []
    elif found is None:
        assert response.status_code == 204
        assert 0 < len(gone) < len(ROWS)
    else:
        assert response.status_code == 204
        assert sorted(set(gone)) == sorted(found)


def test_a_column_whose_name_has_quotes(sqlite_path: Path, serve: Serve) -> None:
    """A name that may mean two columns is refused; where it can mean one only it does."""
    on_its_own(
        f"sqlite:///{sqlite_path}",
        'CREATE TABLE q (id INTEGER PRIMARY KEY, x INTEGER, """x""" INTEGER, """y""" INTEGER)',
        "INSERT INTO q VALUES (1, 1, 2, 3)",
    )
    served = serve(f"sqlite:///{sqlite_path}")
    refused = served.request("DELETE", "/v1/api/q?%22x%22=eq.1")
    assert refused.status_code == 400
    assert "two columns match" in refused.json()["detail"]
    for query in ("%22y%22=eq.1", "%22%5C%22x%5C%22%22=eq.1", "x=eq.2"):
        assert served.request("DELETE", f"/v1/api/q?{query}").status_code == 204
    assert served.rows("SELECT count(*) FROM q") == [(1,)]
    assert served.request("DELETE", "/v1/api/q?%22y%22=eq.3").status_code == 204
    assert served.rows("SELECT count(*) FROM q") == [(0,)]
