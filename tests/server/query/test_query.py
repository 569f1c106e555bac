"""Filters, select, order and pages: the same rows as an oracle in Python, on every database."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from atomicbatch.server.dialect import SQLITE
from atomicbatch.server.query.names import QueryProblem
from atomicbatch.server.query.query import Query, read_query
from atomicbatch.server.query.sql import order_by, where
from atomicbatch.server.query.tree import And
from atomicbatch.server.schema.reflection import read_schema
from atomicbatch.server.schema.tables import Table
from atomicbatch.server.values.codec import ValueProblem
from tests.server.conftest import Serve
from tests.server.served import Served, kind_of, on_its_own

ROWS: list[dict[str, Any]] = [
    {"id": 1, "name": "Tea", "price": "4.50", "stock": 10, "hot": True, "note": None},
    {"id": 2, "name": "tea%", "price": "4.50", "stock": 0, "hot": True, "note": "a,b"},
    {"id": 3, "name": "Cup_1", "price": "12.00", "stock": None, "hot": False, "note": 'q"q'},
    {"id": 4, "name": "Cupx1", "price": "30.25", "stock": 3, "hot": None, "note": "(x)"},
    {"id": 5, "name": "ÄRGER", "price": "0.00", "stock": 3, "hot": False, "note": "a.b"},
    {"id": 6, "name": "ärger*", "price": "-1.00", "stock": -5, "hot": None, "note": "back\\slash"},
    {"id": 7, "name": "[b]?", "price": "100.10", "stock": 7, "hot": True, "note": "%41"},
]
COLUMNS = {
    "sqlite": "id INTEGER PRIMARY KEY, name TEXT, price NUMERIC(10, 2), stock INTEGER,"
    ' hot BOOLEAN, note TEXT, "odd, name" INTEGER, doc JSON, raw BLOB',
    "postgresql": "id integer PRIMARY KEY, name text, price numeric(10, 2), stock integer,"
    ' hot boolean, note text, "odd, name" integer, doc json, raw bytea',
    "mysql": "id INTEGER PRIMARY KEY, name VARCHAR(50), price NUMERIC(10, 2), stock INTEGER,"
    " hot BOOLEAN, note VARCHAR(50), `odd, name` INTEGER, doc JSON, raw BLOB",
}


@pytest.fixture
def things(database_url: str, serve: Serve) -> Served:
    """Seven rows with NULLs, wildcards, delimiters and umlauts."""
    kind = kind_of(database_url)
    suffix = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if kind == "mysql" else ""
    on_its_own(database_url, f"CREATE TABLE things ({COLUMNS[kind]}){suffix}")
    served = serve(database_url)
    created = served.request("POST", "/v1/api/things", ROWS, prefer="return=minimal")
    assert created.status_code == 201
    return served


def ids(served: Served, query: str) -> list[int]:
    response = served.client.get(f"/v1/api/things?{query}")
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()]


EXAMPLES: list[tuple[str, list[int]]] = [
    ("id=eq.3", [3]),
    ("id=neq.3", [1, 2, 4, 5, 6, 7]),
    ("stock=neq.3", [1, 2, 6, 7]),
    ("stock=gt.3", [1, 7]),
    ("stock=gte.3", [1, 4, 5, 7]),
    ("stock=lt.0", [6]),
    ("stock=lte.0", [2, 6]),
    ("price=eq.4.5", [1, 2]),
    ("price=gt.12", [4, 7]),
    ("hot=eq.true", [1, 2, 7]),
    ("hot=is.true", [1, 2, 7]),
    ("hot=is.false", [3, 5]),
    ("hot=is.unknown", [4, 6]),
    ("stock=is.null", [3]),
    ("stock=is.not_null", [1, 2, 4, 5, 6, 7]),
    ("stock=not.is.null", [1, 2, 4, 5, 6, 7]),
    ("stock=not.eq.3", [1, 2, 6, 7]),
    ("name=like.Cup*", [3, 4]),
    ("name=like.Cup%25", [3, 4]),
    ("name=like.Cup_1", [3, 4]),
    ("name=like.Cup%5C_1", [3]),
    ("name=like.tea%5C%25", [2]),
    ("name=like.*%5C*", [6]),
    ("name=like.tea*", [2]),
    ("name=ilike.tea*", [1, 2]),
    ("name=ilike.%C3%A4rger*", [5, 6]),
    ("name=like.[b]?", [7]),
    ("name=not.ilike.*e*", [3, 4, 7]),
    ("note=like.*%5C%5C*", [6]),
    ("id=in.(1,3,99)", [1, 3]),
    ("id=in.()", []),
    ("id=not.in.(1,2,3)", [4, 5, 6, 7]),
    ('note=in.("a,b","q\\"q","(x)")', [2, 3, 4]),
    ("note=eq.a,b", [2]),
    ("note=eq.(x)", [4]),
    ("note=eq.%2541", [7]),
    ("name=eq.tea%25", [2]),
    ("stock=gte.3&hot=is.true", [1, 7]),
    ("id=gt.2&id=lt.5", [3, 4]),
    ("or=(id.eq.1,id.eq.7)", [1, 7]),
    ("or=(stock.is.null,and(stock.gt.5,hot.is.true))", [1, 3, 7]),
    ("not.or=(id.eq.1,id.gt.3)", [2, 3]),
    ("and=(id.gt.1,not.or(id.eq.2,id.gt.4))", [3, 4]),
    ("or=(id.not.in.(1,2,3,4,5),id.eq.1)", [1, 6, 7]),
    ("or=(not.id.gt.1,id.eq.3)", [1, 3]),
    ("or=(not.id.not.eq.3,id.eq.1)", [1, 3]),
    ('or=(note.eq."a,b",note.eq."q\\"q",note.eq."(x)")', [2, 3, 4]),
    ('or=(note.eq."back\\\\slash",id.eq.1)', [1, 6]),
    ("or=(note.eq.a.b)", [5]),
    ("or=(id.eq.1,id.eq.2)&or=(id.eq.2,id.eq.3)", [2]),
    ('and=("odd, name".is.null,id.eq.1)', [1]),
    ("odd,+name=is.null&id=eq.2", [2]),
    ("order=stock.desc.nullslast,id", [1, 7, 4, 5, 2, 6, 3]),
    ("order=stock.asc.nullsfirst,id.desc", [3, 6, 2, 5, 4, 7, 1]),
    ("order=hot.nullslast,id.desc&hot=not.is.false", [7, 2, 1, 6, 4]),
    ("order=price.desc&limit=2", [7, 4]),
    ("limit=3&offset=2", [3, 4, 5]),
    ("offset=5", [6, 7]),
    ("limit=0", []),
    ("id=eq.1&alt=json&prettyPrint=false&key=abc&$.xgafv=2", [1]),
    ("id=eq.%31", [1]),
    ('order="odd, name".desc,"id".desc&limit=1', [7]),
    ('select="odd, name",id&id=eq.2', [2]),
    ("name=neq.Tea&id=lt.3", [2]),
    ("id=not.lt.6", [6, 7]),
    ("hot=is.not_null&id=lte.4", [1, 2, 3]),
    ("not.and=(id.gt.2,id.lt.7)", [1, 2, 7]),
    ("name=in.(Tea,TEA)", [1]),
]


def test_a_query_finds_what_it_says(things: Served) -> None:
    """Each operator, on each database, with NULLs and wildcards and delimiters in the data."""
    for query, expected in EXAMPLES:
        found = ids(things, query)
        assert (found if "order" in query else sorted(found)) == expected, query


WORDS = [
    "Ärger",
    "ärger",
    "ARGER",
    "arger",
    "tea",
    "TEA",
    "Straße",
    "strase",
    "😀",
    "🎉",
    "ЁЖ",
    "ёж",
]


def test_ilike_folds_case_and_nothing_else(database_url: str, serve: Serve) -> None:
    """Accents, sharp s and emoji stay apart in any case; like tells cases apart as well."""
    suffix = " CHARACTER SET utf8mb4" if kind_of(database_url) == "mysql" else ""
    on_its_own(database_url, f"CREATE TABLE words (w VARCHAR(20)){suffix}")
    served = serve(database_url)
    served.request("POST", "/v1/api/words", [{"w": word} for word in WORDS])
    for word in WORDS:
        for pattern in (word, f"*{word[1:]}" if len(word) > 1 else f"*{word}*"):
            same = _like if "*" in pattern else str.__eq__
            like = served.client.get(f"/v1/api/words?w=like.{quote(pattern)}").json()
            assert [row["w"] for row in like] == [w for w in WORDS if same(w, pattern)], pattern
            ilike = served.client.get(f"/v1/api/words?w=ilike.{quote(pattern.upper())}").json()
            if "ß" not in pattern:  # its upper case is SS
                expected = [w for w in WORDS if same(w.lower(), pattern.lower())]
                assert [row["w"] for row in ilike] == expected, pattern


HOSTILE = [
    "' OR '1'='1",
    "x'; DROP TABLE things; --",
    "\\' OR 1=1 -- ",
    '" OR ""="',
    "`) OR 1=1 #",
    "%s %(name)s ? :x $1 {0}",
    "1) OR (1=1",
    "\\",
    "\\\\' --",
    "/* */ UNION SELECT 1",
]


def test_an_injection_stays_a_value(things: Served) -> None:
    """SQL in an operand is compared with, never run; SQL in a name is no column."""
    for number, text in enumerate(HOSTILE, 100):
        assert things.request("POST", "/v1/api/things", {"id": number, "name": text}).is_success
    for number, text in enumerate(HOSTILE, 100):
        plain, quoted = quote(text), quote(_quoted(text))
        pattern = quote(re.sub(r"([\\%_*])", r"\\\1", text))
        for query in (
            f"name=eq.{plain}",
            f"name=in.({quoted})",
            f"or=(name.eq.{quoted},name.eq.nobody)",
            f"name=like.{pattern}",
            f"name=ilike.{pattern}",
        ):
            assert ids(things, query) == [number], query
        assert things.request("DELETE", f"/v1/api/things?note=eq.{plain}").status_code == 204
        for query in (f"{plain}=eq.1", f"select={plain}", f"order={plain}", f"limit={plain}"):
            assert things.client.get(f"/v1/api/things?{query}").status_code == 400, query
        assert things.client.get(f"/v1/api/things?id=eq.{plain}").status_code == 400
    assert things.rows("SELECT count(*) FROM things") == [(len(ROWS) + len(HOSTILE),)]


def test_the_longest_query_is_taken(things: Served) -> None:
    """What is longer is refused by us, never by the database."""
    # No letter takes more bytes once it is folded than the first.
    for letter in ("\u0390", "😀", "*", "?"):
        for operator in ("like", "ilike"):
            assert ids(things, f"name={operator}.{quote(letter * 4000)}&id=eq.99") == []
    select, order = ",".join(f"{n}:id" for n in range(500)), ",".join(["id.desc.nullslast"] * 500)
    listed = things.client.get(f"/v1/api/things?select={select}&order={order}&limit=1")
    assert listed.json() == [{str(n): 7 for n in range(500)}]
    refused = things.client.get("/v1/api/things?name=like." + "a" * 4001)
    assert (refused.status_code, refused.json()["parameter"]) == (400, "name")


def test_select_chooses_and_renames(things: Served) -> None:
    """Columns come in the order asked for, under the names asked for."""
    response = things.client.get("/v1/api/things?select=n:name,id&id=eq.1")
    assert response.content == b'[{"n":"Tea","id":1}]'
    one = things.client.get("/v1/api/things/1?select=id,*,again:id")
    assert one.status_code == 400
    assert things.client.get("/v1/api/things/1?select=price").json() == {"price": "4.50"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The table on SQLite, for queries that are refused before they run."""
    path = tmp_path_factory.mktemp("query") / "t.sqlite"
    path.touch()
    on_its_own(f"sqlite:///{path}", f"CREATE TABLE things ({COLUMNS['sqlite']})")
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        return read_schema(connection, SQLITE).tables["things"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("name=like.50%", "written %25"),
        ("name=eq.%zz", "written %25"),
        ("na%me=eq.1", "written %25"),
        ("select=:id", "alias is empty"),
        ('select=:"id"', "alias is empty"),
        ("select=,id", "no column"),
        ('select="id', "no closing quote"),
        ('select="id"x', "only columns"),
        ('select=i"d"', "must be quoted"),
        ('order="id"desc', "a term is"),
        ('order="id', "no closing quote"),
        ('order=a:"id"', "a term is"),
        ('on_conflict="id".x', "separated by commas"),
        ("name=like." + "x" * 4001, "at most 4000"),
        ("order=" + "id," * 500 + "id", "more than 500 names"),
        ("select=" + "id," * 500 + "id", "more than 500 names"),
        ("&".join(["id=in.(" + ",".join(["1"] * 1000) + ")"] * 11), "more than 10000"),
        ("nam=eq.x", "did you mean 'name'"),
        ("=eq.x", "no column"),
        ("id", "operator.value"),
        ("id=5", "operator.value"),
        ("id=eq", "operator.value"),
        ("id=equals.5", "eq, neq, gt, gte, lt, lte, like, ilike, in, is"),
        ("id=not.5", "operator.value"),
        ("id=not.not.eq.5", "operator.value"),
        ("id=like.5", "text columns"),
        ("id=is.5", "'is' takes one of null, not_null"),
        ("id=is.true", "'is' takes one of null, not_null"),
        ("doc=eq.1", "cannot be used"),
        ("raw=gt.AA==", "cannot be used"),
        ("id=in.1", "'in' takes a list"),
        ("id=in.(1", "not closed"),
        ("id=in.(1)x", "more text after"),
        ('note=in.("a)', "no closing quote"),
        ("id=in.(" + ",".join(["1"] * 1001) + ")", "at most 1000"),
        ("or=id.eq.1", "'(' is missing"),
        ("or=(id.eq.1", "')' is missing"),
        ("or=(id.eq.1))", "more text after"),
        ("or=()", "starts with the name"),
        ("or=(id)", "column.operator.value"),
        ("or=(nope.eq.1)", "no column"),
        ("or=(id.xx.1)", "the operators are"),
        ("and=" + "(and" * 20 + "(id.eq.1)" + ")" * 20, "deeper than 10"),
        ("&".join(["id=eq.1"] * 101), "more than 100"),
        ("select=lines(*)", "no embedded tables"),
        ("select=doc->a", "no embedded tables"),
        ("select=id::text", "no embedded tables"),
        ("select=id,id", "twice"),
        ("select=nope", "no column"),
        ("order=id.up", "a term is"),
        ("order=id.desc.nulls", "a term is"),
        ("order=nope", "no column"),
        ("limit=x", "whole number"),
        ("limit=-1", "whole number"),
        ("limit=1&limit=2", "more than once"),
        ("offset=%D9%A3", "whole number"),
        ("offset=99999999999999999999", "whole number"),
        ("name=eq.%FF", "not valid UTF-8"),
        ("%FF=eq.1", "not valid UTF-8"),
        ("name=like.%00", "NUL"),
        ("alt=media", "alt=json"),
        ("on_conflict=nope", "no column"),
    ],
)
def test_what_is_not_understood_is_told(table: Table, query: str, told: str) -> None:
    """Each mistake is told with what would have been right, and never guessed at."""
    with pytest.raises(QueryProblem) as caught:
        read_query(table, query.encode())
    assert told in caught.value.detail


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("nam=eq.x", "nam"),
        ("name=eq.%FF", "name"),
        ("name=eq.%", "name"),
        ("id=xx.1", "id"),
        ("not.or=(id.eq.1", "not.or"),
        ("select=nope", "select"),
        ("order=nope", "order"),
        ("limit=x", "limit"),
        ("alt=media", "alt"),
        ("on_conflict=nope", "on_conflict"),
    ],
)
def test_the_culprit_is_named(table: Table, query: str, parameter: str) -> None:
    """The parameter at fault is told, for programs."""
    with pytest.raises(QueryProblem) as caught:
        read_query(table, query.encode())
    assert caught.value.parameter == parameter


def test_names_are_quoted_like_values(table: Table) -> None:
    """Names with commas, dots and quotes can be selected, ordered by and be unique."""
    query = read_query(
        table, b'select=id,x:"odd, name"&order="odd, name".desc&on_conflict="odd, name",id'
    )
    assert query.select is not None
    assert [(column.name, name) for column, name in query.select] == [
        ("id", "id"),
        ("odd, name", "x"),
    ]
    assert order_by(query.order, SQLITE) == "`odd, name` DESC"
    assert query.on_conflict == ("odd, name", "id")


def test_the_reference_s_examples_are_understood(tmp_path: Path) -> None:
    """Each query in the reference of filters reads as it stands there."""
    path = tmp_path / "t.sqlite"
    path.touch()
    on_its_own(
        f"sqlite:///{path}",
        "CREATE TABLE products (id INTEGER PRIMARY KEY, sku TEXT, name TEXT, city TEXT, note TEXT,"
        ' price NUMERIC(10, 2), stock INTEGER, placed DATE, "order" INTEGER, "odd, name" TEXT)',
    )
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        products = read_schema(connection, SQLITE).tables["products"]
    reference = Path(__file__).parents[3] / "docs" / "reference" / "filters.md"
    examples = re.findall(r"`\?([^`]+)`", reference.read_text())
    assert len(examples) >= 15
    for example_ in examples:
        query = read_query(products, example_.encode())
        assert query != Query(), example_


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30))
def test_any_text_stays_a_value(table: Table, text: str) -> None:
    """Whatever an operand is, it is a parameter, unchanged, and no part of the SQL."""
    try:
        plain, quoted = quote(text), quote(_quoted(text))
    except UnicodeEncodeError:  # half a surrogate pair
        return
    read = read_query(table, f"note=eq.{plain}&note=in.({quoted})&or=(note.neq.{quoted})".encode())
    assert read.filter is not None
    sql, parameters = where(read.filter, SQLITE)
    assert sql == "`note` = ? AND `note` IN (?) AND ((`note` <> ?))"
    assert parameters == (text,) * 3


def test_a_column_with_the_name_of_a_parameter(sqlite_path: Path, serve: Serve) -> None:
    """``order`` and the like can be filtered within and=()."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(
        url,
        'CREATE TABLE odd (id INTEGER PRIMARY KEY, "order" INTEGER, alt TEXT)',
        "INSERT INTO odd VALUES (1, 5, 'x'), (2, 6, 'y')",
    )
    served = serve(url)
    assert served.client.get("/v1/api/odd?and=(order.eq.6)").json()[0]["id"] == 2
    assert served.client.get("/v1/api/odd?alt=eq.x").json()[0]["id"] == 1


@settings(deadline=None)
@given(
    st.binary(max_size=60) | st.text('abcdinorteqlk.,()"\\=&*%-_ 1', max_size=80).map(str.encode)
)
@example(b"or=((((((((((((")
@example(b'or=(name.eq."' + b"\\" * 2000)
@example(b"or=(" + b"not." * 2000)
@example(b"id=in.(" + b"," * 5000)
def test_garbage_is_refused_and_nothing_else(table: Table, query: bytes) -> None:
    """Whatever the bytes, it is a query or a problem."""
    try:
        found = read_query(table, query)
    except (QueryProblem, ValueProblem):
        return
    sql, parameters = where(found.filter or And(()), SQLITE)
    assert sql.count("?") == len(parameters)


# The oracle: SQL's three-valued logic, in Python.

Row = dict[str, Any]
Truth = bool | None


def _not(value: Truth) -> Truth:
    return None if value is None else not value


def _and(values: list[Truth]) -> Truth:
    return False if False in values else None if None in values else True


def _like(value: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(value, re.sub(r"([\[?])", r"[\1]", pattern).replace("_", "?"))


NUMBERS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "neq": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


Condition = tuple[str, Callable[[Row], Truth]]


def _number(column: str, operator: str, operand: int) -> Condition:
    def holds(row: Row) -> Truth:
        value = row[column]
        return None if value is None else NUMBERS[operator](Decimal(value), operand)

    return f"{column}.{operator}.{operand}", holds


def _text(column: str, operand: str) -> Condition:
    def holds(row: Row) -> Truth:
        return None if row[column] is None else row[column] == operand

    return f"{column}.eq.{_quoted(operand)}", holds


def _pattern(operator: str, pattern: str) -> Condition:
    def holds(row: Row) -> Truth:
        name = row["name"]
        return _like(name.lower(), pattern.lower()) if operator == "ilike" else _like(name, pattern)

    return f"name.{operator}.{_quoted(pattern)}", holds


def _null(column: str) -> Condition:
    return f"{column}.is.null", lambda row: row[column] is None


def _in(column: str, values: list[int]) -> Condition:
    def holds(row: Row) -> Truth:
        if not values:
            return False
        return None if row[column] is None else row[column] in values

    return f"{column}.in.({','.join(map(str, values))})", holds


def _negated(condition: Condition) -> Condition:
    text, holds = condition
    return f"not.{text}", lambda row: _not(holds(row))


def _joined(word: str, conditions: list[Condition]) -> Condition:
    def holds(row: Row) -> Truth:
        values = [condition(row) for _, condition in conditions]
        return _and(values) if word == "and" else _not(_and([_not(value) for value in values]))

    return f"{word}({','.join(text for text, _ in conditions)})", holds


SIMPLE = st.one_of(
    st.builds(
        _number,
        st.sampled_from(["id", "price", "stock"]),
        st.sampled_from(sorted(NUMBERS)),
        st.integers(-6, 31),
    ),
    st.builds(
        _text, st.sampled_from(["name", "note"]), st.sampled_from(["Tea", "a,b", 'q"q', "x"])
    ),
    st.builds(
        _pattern,
        st.sampled_from(["like", "ilike"]),
        st.sampled_from(["Cup*", "*E*", "_ea", "*1", "tea*", "[b]?", "*", "ÄR*"]),
    ),
    st.builds(_null, st.sampled_from(["stock", "hot", "note"])),
    st.builds(_in, st.sampled_from(["id", "stock"]), st.lists(st.integers(-5, 10), max_size=4)),
)
TREES = st.recursive(
    SIMPLE | st.builds(_negated, SIMPLE),
    lambda inner: st.builds(
        _joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ).flatmap(lambda tree: st.sampled_from([tree, _negated(tree)])),
    max_leaves=8,
)


@pytest.mark.slow
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(condition=TREES)
def test_any_tree_finds_the_oracle_s_rows(things: Served, condition: Condition) -> None:
    """Random conditions find the rows that three-valued logic says, on each database."""
    text, holds = condition
    found = ids(things, f"and=({quote(text)})&select=id")
    assert found == [row["id"] for row in ROWS if holds(row) is True], json.dumps(text)
