"""What GET shows can be sent back, for every type, and the row is the same to the last byte."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from atomicbatch.server.database.opening import database_url as server_url
from atomicbatch.server.values.codec import decode_json, encode_json
from tests.server.conftest import Serve
from tests.server.every_type import SQLITE_TYPES
from tests.server.served import Served, kind_of, on_its_own, seen

pytestmark = pytest.mark.slow
# How a value is looked at by its bytes.
_EXACTLY = {
    "sqlite": "typeof(v), hex(v), iif(typeof(v) = 'real', quote(v), '')",
    "postgresql": "v::text",
    "mysql": "CONCAT(HEX(v), '|', CAST(v AS BINARY))",
}


def _exact(served: Served, table: str, where: str = "1 = 1") -> list[tuple[Any, ...]]:
    return seen(
        served.url, f"SELECT id, {_EXACTLY[served.kind]} FROM {table} WHERE {where} ORDER BY id"
    )


def test_what_is_shown_can_be_sent_back(everything: Any) -> None:
    """PUT and PATCH of what GET shows, as any JSON client writes it, change no byte."""
    tables, served = everything
    for table, rows in tables.items():
        before = _exact(served, table)
        for identity, case in rows.items():
            target = f"/v1/api/{table}/{identity}"
            read = served.request("GET", target)
            assert read.status_code == 200, (case, read.text)
            for method in ("PUT", "PATCH"):
                sent = served.client.request(
                    method,
                    target,
                    content=_rewritten(read.content),
                    headers={"content-type": "application/json"},
                )
                assert sent.status_code == 200, (method, case, read.text, sent.text)
                assert sent.content == read.content, (method, case)
        assert _exact(served, table) == before, rows


def test_what_is_shown_can_be_created_anew(everything: Any) -> None:
    """POST of what GET shows makes a row with the same bytes, where columns keep to their types."""
    tables, served = everything
    if served.kind == "sqlite":
        tables = {}  # there a column's type says little of what another program has stored
    for table, rows in tables.items():
        for identity, case in rows.items():
            if "repeat(" in case or case.endswith("'d''e'): ''"):
                continue  # too long for a request; the ENUM's own mark for an error
            body = decode_json(served.request("GET", f"/v1/api/{table}/{identity}").content)
            made = served.request("POST", f"/v1/api/{table}", {**body, "id": 1000 + identity})
            assert made.status_code == 201, (case, body, made.text)
            ((_, one),) = _exact(served, table, f"id = {identity}")
            ((_, other),) = _exact(served, table, f"id = {1000 + identity}")
            assert one == other or "json" in case.lower(), (case, body)


def _rewritten(content: bytes) -> bytes:
    """JSON as another program writes it: other blanks, another order of members, no duplicates."""
    row = decode_json(content)
    return msgspec.json.format(encode_json(dict(reversed(row.items()))), indent=1)


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
).map(lambda value: encode_json(value).decode())
_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=9).map(str)
# All days that a timestamp holds.
_DAYS = st.integers(-2451507, 106751982).map(lambda days: f"epoch {days}")


def _clock(seconds: int) -> str:
    sign, whole = "-" if seconds < 0 else "", abs(seconds)
    return f"{sign}{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


# Column -> its type, and values as a driver takes them.
DRAWN: dict[str, dict[str, tuple[str, st.SearchStrategy[Any]]]] = {
    "postgresql": {
        "texts": ("text[]", st.lists(st.none() | _TEXT, max_size=4)),
        "grid": ("text[]", st.lists(st.tuples(_TEXT, _TEXT).map(list), max_size=3)),
        "nums": ("numeric[]", st.lists(st.none() | _DECIMALS, max_size=3)),
        "raws": ("bytea[]", st.lists(st.binary(max_size=6), max_size=3)),
        "docs": ("jsonb[]", st.lists(_JSON, max_size=3)),
        "doc": ("json", _JSON),
        "num": ("numeric", _DECIMALS | st.sampled_from(["NaN", "Infinity", "-Infinity"])),
        "day": ("date", _DAYS),
        "moment": ("timestamp", _DAYS),
        "point": ("timestamptz[]", st.lists(_DAYS, max_size=3)),
        "single": ("real", st.floats(width=32).map(repr)),
        "dub": ("double precision[]", st.lists(st.floats().map(repr), max_size=3)),
        "span": (
            "interval",
            st.integers(-(2**31), 2**31).map(lambda n: f"{n} seconds {n % 99} mons"),
        ),
    },
    "mysql": {
        "clock": ("TIME", st.integers(-3020399, 3020399).map(_clock)),
        "wide": ("DECIMAL(65,9)", _DECIMALS.filter(lambda text: len(text) < 50)),
        "big": ("BIGINT UNSIGNED", st.integers(0, 2**64 - 1)),
        "bits": ("BIT(64)", st.integers(0, 2**64 - 1)),
        "raw": ("BLOB", st.binary(max_size=12)),
        "doc": ("JSON", _JSON),
        "txt": ("VARCHAR(20) CHARACTER SET utf8mb4", _TEXT),
        "dub": ("DOUBLE", st.floats(allow_nan=False, allow_infinity=False)),
    },
    "sqlite": {
        f"c{number}": (
            type_,
            st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | _TEXT | _JSON
            | st.binary(max_size=6),
        )
        for number, type_ in enumerate(SQLITE_TYPES)
    },
}  # fmt: skip
_EACH = {
    "sqlite": "typeof({0}), quote({0}), hex({0})", "postgresql": "{0}::text",
    "mysql": "HEX({0})",
}  # fmt: skip


def _insert(served: Served, identity: int, row: dict[str, Any]) -> None:
    """Store a row through a connection of its own."""
    columns = DRAWN[served.kind]
    marks = []
    for name, value in row.items():
        mark = "?" if served.kind == "sqlite" else "%s"
        if served.kind == "postgresql":
            mark = f"%s::{columns[name][0]}"
            if isinstance(value, str) and value.startswith("epoch"):
                row[name] = int(value[6:])
                mark = "('2000-01-01'::date + %s)"
            elif name == "point":
                row[name] = [int(day[6:]) for day in value]
                mark = (
                    "ARRAY(SELECT ('2000-01-01'::date + d)::timestamptz FROM unnest(%s::int[]) d)"
                )
        marks.append(mark)
    sql = f"INSERT INTO drawn (id, {', '.join(row)}) VALUES ({identity}, {', '.join(marks)})"
    engine = sa.create_engine(server_url(served.url), poolclass=sa.NullPool)
    with closing(engine.raw_connection()) as own:
        own.cursor().execute(sql, list(row.values()))
        own.commit()


def _check_drawn(served: Served, identity: int, row: dict[str, Any]) -> None:
    _insert(served, identity, row)
    looks = ", ".join(_EACH[served.kind].format(name) for name in row)
    look = f"SELECT {looks} FROM drawn WHERE id = {identity}"
    before = served.rows(look)
    target = f"/v1/api/drawn/{identity}"
    read = served.request("GET", target)
    assert read.status_code == 200, read.text
    for method in ("PUT", "PATCH"):
        sent = served.client.request(
            method,
            target,
            content=_rewritten(read.content),
            headers={"content-type": "application/json"},
        )
        assert sent.status_code == 200, (read.text, sent.text)
        assert sent.content == read.content
        assert served.rows(look) == before


@pytest.mark.parametrize("examples", [8, pytest.param(1500, marks=pytest.mark.prove)])
def test_whatever_a_row_holds_can_be_sent_back(
    database_url: str, serve: Serve, examples: int
) -> None:
    """Drawn values of every kind, arrays of them, and any storage class in SQLite."""
    kind = kind_of(database_url)
    columns = ", ".join(f"{name} {type_}" for name, (type_, _) in DRAWN[kind].items())
    on_its_own(database_url, f"CREATE TABLE drawn (id INTEGER PRIMARY KEY, {columns})")
    served = serve(database_url)
    numbers = itertools.count(1)

    @settings(max_examples=examples, deadline=None, database=None)
    @given(row=st.fixed_dictionaries({name: drawn for name, (_, drawn) in DRAWN[kind].items()}))
    def check(row: dict[str, Any]) -> None:
        _check_drawn(served, next(numbers), row)

    check()


def test_what_python_takes_for_blanks_is_data(postgresql_url: str, serve: Serve) -> None:
    """PostgreSQL leaves such items of arrays without quotes."""
    on_its_own(postgresql_url, "CREATE TABLE drawn (id INTEGER PRIMARY KEY, texts text[])")
    served = serve(postgresql_url)
    items = ["\x1c", "\x1fa", "a\x85", "\xa0", "\u2003b", "\u3000", " ", "\t", "", "NULL", "null"]
    _check_drawn(served, 1, {"texts": items})
    assert served.request("GET", "/v1/api/drawn/1").json() == {"id": 1, "texts": items}
