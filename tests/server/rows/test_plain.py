"""Plans made in fewer steps give the replies and the rows that all others give."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from atomicbatch.errors import ConflictError
from atomicbatch.limits import Limits
from atomicbatch.model import Call, Reply
from atomicbatch.server.database.backends import backend_for, dialect_of
from atomicbatch.server.database.opening import database_url as server_url
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.rows.api import Api
from atomicbatch.server.rows.plan import Altered, First, Known, One, Reached, Stored
from atomicbatch.server.rows.representation import Representation
from atomicbatch.server.rows.writes import Write
from atomicbatch.server.schema.reflection import read_schema
from atomicbatch.server.schema.tables import Column, Schema
from tests.server.conftest import Serve
from tests.server.served import JSON, kind_of, make_shop, on_its_own, seen
from tests.server.values.test_codec import TABLES

# Where SQLite stores something else than it is sent, or gives a row a number in another way.
ODD = [
    "CREATE TABLE strict_one (id INTEGER PRIMARY KEY, n INT, r REAL, t TEXT, b BLOB) STRICT",
    "CREATE TABLE loose (id INTEGER PRIMARY KEY, t STRING, n INT, r NUMERIC, f REAL, d DATE_CHAR)",
    "CREATE TABLE downward (id INTEGER PRIMARY KEY DESC, n INTEGER, t TEXT)",
    "CREATE TABLE bare (id INTEGER PRIMARY KEY, n INTEGER) WITHOUT ROWID",
    "CREATE TABLE words (word TEXT PRIMARY KEY COLLATE NOCASE, n INTEGER)",
    "CREATE TABLE nokey (n INTEGER, t TEXT)",
    "CREATE TABLE alone (id INTEGER PRIMARY KEY)",
    "CREATE TABLE counted (n REAL, t TEXT, id INTEGER PRIMARY KEY AUTOINCREMENT)",
    "CREATE TABLE twice (id INTEGER PRIMARY KEY, n INTEGER, m INTEGER AS (n * 2))",
    "CREATE TABLE defaults (id INTEGER PRIMARY KEY, n INTEGER DEFAULT 7, t TEXT DEFAULT 'x')",
    "CREATE TABLE ignoring (id INTEGER PRIMARY KEY, n INTEGER UNIQUE ON CONFLICT IGNORE, t TEXT)",
    "CREATE TABLE hidden (id INTEGER PRIMARY KEY, n INTEGER UNIQUE ON/**/CONFLICT IGNORE, t TEXT)",
    "CREATE TABLE filled (id INTEGER PRIMARY KEY, t NOT NULL ON/**/CONFLICT REPLACE DEFAULT 'x')",
    "CREATE TABLE raised (id INTEGER PRIMARY KEY, n INTEGER, t TEXT)",
    "CREATE TRIGGER a AFTER INSERT ON raised BEGIN UPDATE raised SET n = 5 WHERE id = NEW.id; END",
    "CREATE TABLE checked (id INTEGER PRIMARY KEY, n INTEGER CHECK (n > 0), t TEXT UNIQUE)",
    "CREATE TABLE parents (id INTEGER PRIMARY KEY, t TEXT)",
    "CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents (id))",
    'CREATE TABLE "a ""b" (id INTEGER PRIMARY KEY, "x""y" TEXT, "é ü" TEXT, "a:b" INTEGER)',
    "INSERT INTO loose VALUES (1, x'ff', 'text', 'abc', 9e999, 'day')",
    "INSERT INTO loose VALUES (2, 'item', 1.5, -0.0, -9e999, 5)",
    "INSERT INTO strict_one VALUES (1, 5, 2.0, CAST(x'ff41' AS TEXT), x'00')",
    "INSERT INTO words VALUES ('Word', 1), (x'ff', 2), ('a/b', 3)",
    "INSERT INTO parents VALUES (1, 'one'), (2, 'two')",
]
# Values of each kind: such as fit nearly always, and others.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "integer": ([0, 1, 2, 7, 127], [-7, 2**31, 2**63 - 1, -(2**63), 2**63, "12", 5.0, 1.5, True]),
    "float": (
        [0.0, 3.0, 9.99, 1.5e30, 3, 1e15],
        [-0.0, 5e-324, 2**60, "1.5", "Infinity", True, 1e300, 2**63],
    ),
    "decimal": (
        ["9.99", "9.00", "0.50", 5, 9.5],
        ["-0.00", "0", "9.999", "1e3", "x", "123456.5", "12345678901", 2**53 + 1],
    ),
    "text": (
        ["plain words", "Grüße 世界", "a.b", "5", ""],
        ["item", "Infs", "-inf", "a\0b", "x" * 60, 5, "\uffff", "👩"],
    ),
    "boolean": ([True, False], [0, 1, 5, 1.0, "true", 300]),
    "date": (["2026-11-24"], ["20261124", 5, "infinity", "2026-13-01"]),
    "time": (["17:45:00"], ["17:45", "25:00", 5]),
    "datetime": (
        ["2026-11-24T17:45:00", "2026-11-24 17:45:00"],
        ["2026-11-24T17:45:00.5", "2026-11-24T17:45:00Z", 1700000000],
    ),
    "timestamp": (["2026-11-24T17:45:00Z"], ["2026-11-24T17:45:00+02:00", "now"]),
    "bytes": (["", "AAEC"], ["not base64!", 5]),
    "json": ([{"a": [1, 1.50]}, [], "text"], [5, 1.10, True, None]),
    "uuid": (
        ["0b0e1a52-8d8c-4c4f-9d55-0a4c1d6a2a55"],
        ["0B0E1A528d8c4c4f9d550a4c1d6a2a55", "x"],
    ),
    "array": ([[], [1, None], ["1"]], ["{1,2}", ["a"], [[1], [2]], 5]),
    "any": ([0, "x", 1.5], [True, []]),
    "other": (["x"], [5, True]),
}
HEADERS = [
    ((b"accept", b"*/*"), (b"user-agent", b"x")),
    ((b"prefer", b"return=minimal"),),
    ((b"prefer", b"return=representation, max-affected=1"),),
    ((b"prefer", b"max-affected=0"),),
    ((b"if-match", b"*"),),
    ((b"if-none-match", b"*"),),
    ((b"accept", b"application/vnd.pgrst.object+json"),),
    ((b"content-type", b"text/plain"),),
    ((b"content-encoding", b"gzip"),),
    ((b"x-http-method-override", b"PATCH"),),
]


class Undone(Exception):
    """The transaction of a call that has failed is to be rolled back."""


class Performer:
    """Performs calls, each in a transaction of its own, on what a URL leads to."""

    def __init__(self, url: str, *, plain: bool) -> None:
        backend = backend_for(server_url(url), read_only=False)
        engine = backend.engine()
        with engine.connect() as connection:
            backend.dialect = dialect_of(engine)
            self.schema = read_schema(connection, backend.dialect)
        self.session = Session(backend, reader=False)
        self.api = Api(
            self.schema,
            base_path="/v1/api",
            pages={},
            read_only=False,
            limits=Limits(),
            plain=plain,
        )

    def perform(self, call: Call) -> Reply:
        """The call's reply; what it did is undone if it has failed."""
        try:
            with self.session:
                reply = self.api.perform(call, self.session)
                if reply.status >= 400:
                    raise Undone
        except Undone:
            pass
        except ConflictError:  # from now on the session reads texts that are not UTF-8
            return self.perform(call)
        return reply


def drawn(chance: random.Random, schema: Schema) -> Call:
    """A call on some table, mostly such as clients send."""
    tables = [table for table in schema.tables.values() if not table.read_only]
    table = chance.choice(tables if chance.random() < 0.97 else list(schema.tables.values()))
    path = f"/v1/api/{table.name}".encode()
    if '"' in table.name or " " in table.name:
        path = b"/v1/api/a%20%22b"
    columns = [c for c in table.columns if c.writable or chance.random() < 0.05]
    key = [c.name for c in table.key]
    if chance.random() < 0.7:
        columns = [c for c in columns if c.name not in key or c.kind.value != "integer"]
    if chance.random() < 0.5:
        columns = [c for c in columns if chance.random() < 0.6]
    if chance.random() < 0.1:
        chance.shuffle(columns)
    odd = 0.0 if chance.random() < 0.6 else 0.2
    body: Any = {c.name: _value(chance, c, odd) for c in columns}
    if chance.random() < 0.03:
        body = chance.choice([[], [body, body], {**body, "nope": 1}, 5, None])
    text = msgspec.json.encode(body)
    if chance.random() < 0.02:
        text = text[:-1] + chance.choice([b"", b",}", b"\xff}", b'"id":1}'])
    method = chance.choice(
        ["POST", "POST", "POST", "PATCH", "PATCH", "GET", "GET", "DELETE", "PUT", "HEAD"]
    )
    on_row = method != "POST" and chance.random() < 0.9
    if on_row:
        parts = [
            b"%d" % chance.choice([1, 1, 2, 2, 3, 4] if chance.random() < 0.9 else [99, 2**63])
            if c.kind.value == "integer"
            else chance.choice([b"word", b"WORD", b"plain%20words", b"a%2Fb", b"1", b"%FF"])
            for c in table.key
        ]
        path += b"/" + b",".join(parts)
    query = b""
    if chance.random() < 0.15:
        query = chance.choice([b"select=*", b"limit=3", b"order=id", b"id=gt.1", b"x=1"])
    headers = chance.choice(HEADERS) if chance.random() < 0.3 else ()
    if method in ("GET", "HEAD", "DELETE"):
        return Call(method, path, query, headers, b"")
    return Call(method, path, query, (*headers, *JSON), text)


def _value(chance: random.Random, column: Column, odd: float) -> Any:
    if column.name == "sku" and chance.random() > odd:
        return f"sku {chance.random():.6f}"
    if column.nullable and chance.random() < 0.1:
        return None
    if column.choices and chance.random() > odd:
        return column.choices[0]
    usual, others = VALUES[column.kind.value]
    if column.kind.value == "other" and chance.random() > odd:
        return None
    value = chance.choice(others if chance.random() < odd else usual)
    if column.name == "id" and value == 2**63 - 1:
        return 2**31  # behind the greatest number SQLite takes one at random
    return value[:5] if isinstance(value, str) and column.length == 5 else value


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders and row classes are made at once, not when they are worth it."""
    monkeypatch.setattr(Write, "_WORTH_IT", 1)
    monkeypatch.setattr(Representation, "_WORTH_IT", 1)


def prepare(url: str) -> None:
    """All tables anew, with the same rows."""
    kind = kind_of(url)
    drops = ["DROP VIEW IF EXISTS item_names"]
    tables = ["order_lines", "items", "kinds"]
    if kind == "sqlite":
        tables += [statement.split()[2] for statement in ODD if "CREATE TABLE" in statement]
        tables = [*[t for t in reversed(tables) if t != '"a'], '"a ""b"']
    on_its_own(url, *drops, *(f"DROP TABLE IF EXISTS {table}" for table in tables))
    if kind == "postgresql":
        on_its_own(url, "DROP TYPE IF EXISTS mood", "CREATE TYPE mood AS ENUM ('sad', 'ok')")
    make_shop(url)
    on_its_own(url, TABLES[kind], "INSERT INTO kinds (id) VALUES (1), (2), (3)")
    if kind == "postgresql":
        on_its_own(url, "ALTER TABLE kinds ALTER COLUMN id RESTART WITH 4")
    if kind == "sqlite":
        on_its_own(url, *ODD)


def stored(url: str, schema: Schema) -> dict[str, list[Any]]:
    """All rows of all tables; on SQLite with the class of each value, to the last byte."""
    dialect, found = schema.dialect, {}
    for name, table in schema.tables.items():
        names = [dialect.quote(column.name) for column in table.columns]
        if dialect.name == "sqlite":
            names = [f"typeof({name}) || quote(CAST({name} AS BLOB))" for name in names]
        elif dialect.name == "postgresql":
            names = [f"{name}::text" for name in names]
        sql = f"SELECT {', '.join(names)} FROM {table.sql_name(dialect)}"
        found[name] = sorted(map(repr, seen(url, sql)))
    return found


def run(url: str, calls: list[Call], *, plain: bool) -> tuple[list[Any], dict[str, Any]]:
    prepare(url)
    performer = Performer(url, plain=plain)
    replies = [performer.perform(call) for call in calls]
    performer.session.close()
    return replies, stored(url, performer.schema)


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))])
def test_replies_and_rows_are_the_same(database_url: str, eager: None, seed: int) -> None:
    """Random calls on every kind of column and table, byte for byte and row for row."""
    chance = random.Random(seed)
    prepare(database_url)
    schema = Performer(database_url, plain=True).schema
    calls = [drawn(chance, schema) for _ in range(120 if seed == 1 else 1000)]
    found, rows = run(database_url, calls, plain=True)
    expected, expected_rows = run(database_url, calls, plain=False)
    for call, one, other in zip(calls, found, expected, strict=True):
        assert one == other, call
    assert rows == expected_rows
    assert sum(reply.status < 300 for reply in found) > 30


def call(method: str, path: str, body: str = "") -> Call:
    return Call(method, f"/v1/api/{path}".encode(), b"", JSON if body else (), body.encode())


@pytest.fixture
def performer(sqlite_path: Path, eager: None) -> Performer:
    """Of the odd tables, and one more."""
    on_its_own(f"sqlite:///{sqlite_path}", *ODD, THINGS)
    return Performer(f"sqlite:///{sqlite_path}", plain=True)


THINGS = "CREATE TABLE things (id INTEGER PRIMARY KEY, t TEXT, n INT, r REAL, p NUMERIC(6, 2))"
THING = '{"t":"plain words","n":5,"r":2.5,"p":"9.00"}'
NO_SIGN = THING.replace("2.5", "-0.0")


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (call("POST", "things", THING), Stored),
        (call("POST", "things", NO_SIGN), First),
        (call("POST", "things", '{"t":"x y","n":5,"r":2.5}'), First),
        (call("POST", "strict_one", '{"n":1,"r":2.0,"t":"x y","b":"AAEC"}'), Stored),
        (call("POST", "alone", '{"id":7}'), Stored),
        (call("POST", "counted", '{"n":1.0,"t":"x y"}'), Stored),
        (call("POST", "loose", '{"t":"5","n":1,"r":1,"f":1.0,"d":"2026-11-24"}'), First),
        (call("POST", "downward", '{"n":1,"t":"x y"}'), First),
        (call("POST", "bare", '{"id":1,"n":1}'), First),
        (call("POST", "twice", '{"n":1}'), First),
        (call("POST", "hidden", '{"n":1,"t":"x y"}'), First),
        (call("POST", "filled", '{"t":null}'), First),
        (call("PATCH", "things/1", THING), Reached),
        (call("PATCH", "things/1", NO_SIGN), Altered),
        (call("PATCH", "things/1", '{"n":5}'), Altered),
        (call("PATCH", "things/1", '{"id":2}'), One),
        (call("PATCH", "bare/1", '{"n":1}'), One),
        (call("PATCH", "words/a", '{"n":1}'), One),
    ],
    ids=lambda value: f"{value.path!r} {value.body!r}" if isinstance(value, Call) else "",
)
def test_a_row_is_known_where_sqlite_stores_what_it_is_sent(
    performer: Performer, asked: Call, kind: type
) -> None:
    """Not where a value may change, nor where the row's number is not its key."""
    for _ in range(3):
        performer.perform(asked)
    plan = performer.api.plan(asked)
    assert isinstance(plan, Known)
    assert plan.statement.__class__ is kind


def test_what_utf_16_cannot_hold_is_shown_as_stored(tmp_path: Path, eager: None) -> None:
    """In such a file SQLite replaces two characters, so rows are looked at."""
    path = tmp_path / "wide.sqlite"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA encoding = 'UTF-16le'")
        raw.execute(THINGS)
    performer = Performer(f"sqlite:///{path}", plain=True)
    for _ in range(3):
        reply = performer.perform(call("POST", "things", THING.replace("words", "\uffff")))
        assert '"plain \ufffd"'.encode() in reply.body


def test_a_trigger_of_another_program_is_honoured(sqlite_path: Path, serve: Serve) -> None:
    """It is there from the next batch on, whatever was known of the table before."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(url, THINGS)
    served = serve(url)
    body = msgspec.json.decode(THING)
    for _ in range(30):
        assert served.request("POST", "/v1/api/things", body).json()["n"] == 5
    change = (
        "CREATE TRIGGER t AFTER {} ON things BEGIN UPDATE things SET n = 77 WHERE id = NEW.id; END"
    )
    on_its_own(url, change.format("INSERT"))
    assert served.request("POST", "/v1/api/things", body).json()["n"] == 77
    on_its_own(url, "DROP TRIGGER t")
    for _ in range(30):
        assert served.request("PATCH", "/v1/api/things/1", body).json()["n"] == 5
    on_its_own(url, change.format("UPDATE"))
    assert served.request("PATCH", "/v1/api/things/1", body).json()["n"] == 77


def test_nobody_adds_a_trigger_within_a_transaction(
    performer: Performer, sqlite_path: Path
) -> None:
    """What is known of a table when a batch begins holds until it ends."""
    trigger = "CREATE TRIGGER t AFTER INSERT ON things BEGIN SELECT 1; END"
    with closing(sqlite3.connect(sqlite_path, timeout=0)) as other:
        with performer.session as session:
            performer.api.perform(call("POST", "things", THING), session)
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                other.execute(trigger)
        other.execute(trigger)
