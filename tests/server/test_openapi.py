"""The OpenAPI document is valid, complete and right about what is served."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import sqlalchemy as sa
from openapi_spec_validator import validate

from atomicbatch.limits import Limits
from atomicbatch.server.dialect import SQLITE
from atomicbatch.server.openapi import openapi_document
from atomicbatch.server.openapi_batch import example_batch
from atomicbatch.server.page import index_page, json_index
from atomicbatch.server.reflection import read_schema
from atomicbatch.server.sample import create_sample
from atomicbatch.server.schema import Schema
from atomicbatch.wire.batch import read_batch
from tests.server.served import Served

HOSTILE = """
CREATE TABLE "a b/c{d}%?#&<script>" ("<b>x</b>" INTEGER PRIMARY KEY, "a.b""c" TEXT NOT NULL);
CREATE TABLE "表" ("列" TEXT, PRIMARY KEY ("列"));
CREATE TABLE nokey (x);
CREATE TABLE "Problem" (id INTEGER PRIMARY KEY, twice INTEGER AS (id * 2), n INTEGER NOT NULL);
CREATE VIEW v AS SELECT * FROM nokey;
"""


def schema_of(path: Path) -> Schema:
    return read_schema(sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool), SQLITE)


@pytest.fixture
def sample(tmp_path: Path) -> Schema:
    """The sample shop."""
    create_sample(tmp_path / "shop.sqlite")
    return schema_of(tmp_path / "shop.sqlite")


@pytest.fixture
def hostile(tmp_path: Path) -> Schema:
    """Names that break out of whatever is not escaped."""
    with closing(sqlite3.connect(tmp_path / "hostile.sqlite")) as connection:
        connection.executescript(HOSTILE)
    return schema_of(tmp_path / "hostile.sqlite")


def document_of(schema: Schema, *, read_only: bool = False) -> dict[str, Any]:
    return openapi_document(
        schema, batch_path="/v1/api/batch", limits=Limits(), read_only=read_only, version="1"
    )


@pytest.mark.parametrize("name", ["sample", "hostile"])
@pytest.mark.parametrize("read_only", [False, True])
def test_it_is_valid(name: str, request: pytest.FixtureRequest, *, read_only: bool) -> None:
    """The document obeys OpenAPI 3.1, whatever tables are called."""
    schema: Schema = request.getfixturevalue(name)
    document = document_of(schema, read_only=read_only)
    validate(document)
    json.dumps(document)
    operations = [o["operationId"] for p in document["paths"].values() for o in operations_of(p)]
    assert len(operations) == len(set(operations))


def operations_of(path_item: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for key, value in path_item.items() if key != "parameters"]


def test_it_describes_what_can_be_done(sample: Schema) -> None:
    """Tables take everything, views are read, a read-only server takes no write."""
    paths = document_of(sample)["paths"]
    assert set(paths["/v1/api/products"]) == {"get", "post", "patch", "delete"}
    assert set(paths["/v1/api/products/{key}"]) == {"parameters", "get", "put", "patch", "delete"}
    assert set(paths["/v1/api/order_totals"]) == {"get"}
    assert "/v1/api/order_totals/{key}" not in paths
    assert set(document_of(sample, read_only=True)["paths"]["/v1/api/products"]) == {"get"}
    body = paths["/v1/api/batch"]["post"]["requestBody"]["content"]
    assert list(body) == ["multipart/mixed; boundary=batch"]


def test_rows_fit_their_schemas(shop: Served) -> None:
    """What the server answers is what its document says, on each database."""
    document = shop.client.get("/openapi.json").json()
    validate(document)
    schemas = document["components"]["schemas"]
    rows = shop.client.get("/v1/api/items").json()
    assert len(rows) == 3
    for row in rows:
        jsonschema.validate(row, schemas["items"])
    created = {"sku": "x", "name": "y", "price": 1.5}
    jsonschema.validate(created, schemas["items.create"])
    jsonschema.validate({"price": "2.00", "note": None}, schemas["items.change"])
    for wrong in ({"sku": "x"}, {"sku": "x", "name": "y" * 51}, {**created, "colour": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schemas["items.create"])
    assert schemas["order_lines"]["properties"]["item_id"]["description"] == "refers to items (id)"


@pytest.mark.parametrize("name", ["sample", "hostile"])
def test_the_example_is_a_batch(name: str, request: pytest.FixtureRequest) -> None:
    """The example can be read as it stands."""
    body = example_batch(request.getfixturevalue(name), "/v1/api", read_only=False)
    batch = read_batch(body.encode(), content_type=b"multipart/mixed; boundary=batch")
    assert [call.method for call in batch.calls] == ["POST", "GET"]
    json.loads(batch.calls[0].body)


def test_the_example_works(shop: Served) -> None:
    """Sent to the server, it is committed, on each database."""
    document = shop.client.get("/openapi.json").json()
    ((media_type, content),) = document["paths"]["/v1/api/batch"]["post"]["requestBody"][
        "content"
    ].items()
    sent = shop.client.post(
        "/v1/api/batch", content=content["example"], headers={"content-type": media_type}
    )
    assert sent.headers["batch-outcome"] == "committed"
    assert shop.rows("SELECT count(*) FROM items") == [(4,)]


def page_of(schema: Schema) -> str:
    return index_page(
        schema,
        base_path="/v1/api",
        batch_path="/v1/api/batch",
        address="http://127.0.0.1:1234",
        limits=Limits(),
        read_only=False,
        version="1",
    ).decode()


def test_the_page_escapes_every_name(hostile: Schema) -> None:
    """No name of a table or column becomes markup."""
    page = page_of(hostile)
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert 'href="/v1/api/a%20b%2Fc%7Bd%7D%25%3F%23%26%3Cscript%3E?limit=20"' in page


def test_the_page_shows_what_is_served(sample: Schema) -> None:
    """Every table and column, the batch to start with, and no path of the machine."""
    page = page_of(sample)
    for table in sample.tables.values():
        assert f">{table.name}</a>" in page
        for column in table.columns:
            assert f">{column.name}</code>" in page
    assert "curl -i http://127.0.0.1:1234/v1/api/batch" in page
    assert "shop.sqlite" in page
    assert "/tmp" not in page
    assert "http" not in page.replace("http://127.0.0.1:1234", "").replace(".http", "")


def test_an_empty_database_has_a_page(tmp_path: Path) -> None:
    """Without tables the page says so, and its batch still works."""
    (tmp_path / "empty.sqlite").touch()
    schema = schema_of(tmp_path / "empty.sqlite")
    assert "no tables yet" in page_of(schema)
    assert json_index(schema, base_path="/v1/api") == b"[]"
    validate(document_of(schema))


def test_the_list_of_resources(hostile: Schema) -> None:
    """Each resource with its address and key."""
    listed = json.loads(json_index(hostile, base_path="/v1/api"))
    assert [entry["name"] for entry in listed] == sorted(hostile.tables)
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["v"]["read_only"] is True
    assert by_name["表"] == {
        "name": "表", "href": "/v1/api/%E8%A1%A8", "key": ["列"], "read_only": False,
    }  # fmt: skip
