"""What GET shows can be sent back, for every type, and the row is the same to the last byte."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from atomicbatch.server.opening import database_url as server_url
from atomicbatch.server.values import decode_json, encode_json
from tests.server.conftest import Serve
from tests.server.every_type import POSTGRESQL_NEEDS, cases_of
from tests.server.served import Served, on_its_own, seen

pytestmark = pytest.mark.slow
# How a value is looked at by its bytes.
_EXACTLY = {
    "sqlite": "typeof(v), hex(v), iif(typeof(v) = 'real', quote(v), '')",
    "postgresql": "v::text",
    "mysql": "CONCAT(HEX(v), '|', CAST(v AS BINARY))",
}


@pytest.fixture
def everything(database_url: str, serve: Serve) -> Any:
    """A table for each type, with a row for each value; and the server."""
    kind = "postgresql" if "postgresql" in database_url else database_url.partition(":")[0]
    tables: dict[str, dict[int, str]] = {}
    names: dict[str, str] = {}
    statements = []
    for type_, value in cases_of(kind):
        table = names.setdefault(type_, f"t{len(names)}")
        rows = tables.setdefault(table, {})
        if not rows:
            statements.append(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v {type_})")
        rows[len(rows) + 1] = f"{type_}: {value}"
        statements.append(f"INSERT INTO {table} VALUES ({len(rows)}, {value})")
    if kind == "postgresql":
        on_its_own(database_url, *POSTGRESQL_NEEDS)
    engine = sa.create_engine(server_url(database_url), poolclass=sa.NullPool)
    with closing(engine.raw_connection()) as own:
        cursor = own.cursor()
        if kind == "mysql":
            cursor.execute("SET sql_mode = '', time_zone = '+00:00'")
        for statement in statements:
            cursor.execute(statement)
        own.commit()
    return tables, serve(database_url)


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
