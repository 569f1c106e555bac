"""The OpenAPI document is valid, complete and right about what is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from atomicbatch.limits import Limits
from atomicbatch.openapi.batch_path import example_batch
from atomicbatch.server.pages.openapi import openapi_document
from atomicbatch.server.pages.openapi_batch import example_calls
from atomicbatch.server.schema.tables import Schema
from atomicbatch.wire.batch import read_batch
from tests.server.conftest import Serve
from tests.server.schemas import schema_called
from tests.server.served import Served, kind_of, on_its_own
from tests.server.values.test_codec import EVERYWHERE, ONLY, TABLES

SCHEMAS = ["sample", "hostile", "empty"]


def document_of(schema: Schema, *, read_only: bool = False) -> dict[str, Any]:
    return openapi_document(
        schema, batch_path="/v1/api/batch", limits=Limits(), read_only=read_only, version="1"
    )


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("read_only", [False, True])
def test_it_is_valid(name: str, tmp_path: Path, *, read_only: bool) -> None:
    """The document obeys OpenAPI 3.1, whatever tables are called."""
    document = document_of(schema_called(name, tmp_path), read_only=read_only)
    validate(document)
    json.dumps(document)
    operations = [o["operationId"] for p in document["paths"].values() for o in operations_of(p)]
    assert len(operations) == len(set(operations))


def operations_of(path_item: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for key, value in path_item.items() if key != "parameters"]


def test_it_describes_what_can_be_done(tmp_path: Path) -> None:
    """Tables take everything, views are read, a read-only server takes no write."""
    sample = schema_called("sample", tmp_path)
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


# A row may hold what its type does not name: see the reference of values.
ODD = [("flo", "NaN"), ("flo", "-Infinity"), ("yes", 5), ("moment", 1700000000)]


def test_every_kind_of_value_fits_its_schema(database_url: str, serve: Serve) -> None:
    """Integers, decimals, dates, bytes, arrays, ... of each database are what is described."""
    kind = kind_of(database_url)
    if kind == "postgresql":
        on_its_own(database_url, "CREATE TYPE mood AS ENUM ('sad', 'ok')")
    on_its_own(database_url, TABLES[kind])
    served = serve(database_url)
    document = served.client.get("/openapi.json").json()
    validate(document)
    schemas = document["components"]["schemas"]
    formats = jsonschema.FormatChecker()
    for column, sent, expected in EVERYWHERE + ONLY[kind]:
        if (column, sent) in ODD or sent == "infinity":
            continue
        row = served.request("POST", "/v1/api/kinds", {column: sent}).json()
        jsonschema.validate(row, schemas["kinds"], format_checker=formats)
        # What was answered can be sent back.
        jsonschema.validate({column: expected}, schemas["kinds.create"], format_checker=formats)
    properties = schemas["kinds"]["properties"]
    assert properties["clock"]["format"] == "time-local"
    assert properties["small"].get("maximum") == (None if kind == "sqlite" else 32767)
    if kind == "mysql":
        assert properties["ubig"]["maximum"] == 2**64 - 1
        assert "format" not in properties["ubig"]
    if kind != "sqlite":
        assert properties["mood"]["enum"] == ["sad", "ok", None]


def test_answers_are_as_described(shop: Served) -> None:
    """Status and headers of real answers stand in the document, on each database."""
    document = shop.client.get("/openapi.json").json()
    told = {name.lower() for name in document["components"]["headers"]}
    new = {"sku": "n", "name": "n"}
    minimal, shown = {"prefer": "return=minimal"}, {"prefer": "return=representation"}
    tag = shop.client.get("/v1/api/items/1").headers["etag"]
    for path, method, target, body, headers in [
        ("items", "get", "items?limit=1", None, {"prefer": "count=exact"}),
        ("items/{key}", "get", "items/1", None, {}),
        ("items/{key}", "get", "items/1", None, {"if-none-match": tag}),
        ("items", "post", "items", {"id": 50, **new}, {}),
        ("items", "post", "items", {"id": 50}, {"prefer": "resolution=merge-duplicates"}),
        ("items/{key}", "put", "items/60", {"sku": "p", "name": "p"}, {}),
        ("items/{key}", "put", "items/60", {"sku": "p", "name": "q"}, minimal),
        ("items/{key}", "put", "items/60", {"sku": "p", "name": "r"}, {}),
        ("items/{key}", "patch", "items/60", {"name": "s"}, minimal),
        ("items/{key}", "patch", "items/60", {"name": "t"}, {}),
        ("items", "patch", "items?id=eq.60", {"name": "u"}, shown),
        ("items", "patch", "items?id=eq.60", {"name": "v"}, minimal),
        ("items/{key}", "delete", "items/60", None, shown),
        ("items", "delete", "items?id=eq.50", None, shown),
        ("items", "delete", "items?id=eq.50", None, {}),
    ]:
        response = shop.request(method.upper(), f"/v1/api/{target}", body, **headers)
        described = document["paths"][f"/v1/api/{path}"][method]["responses"]
        assert str(response.status_code) in described, (method, target, response.text)
        answer = described[str(response.status_code)]
        names = {name.lower() for name in answer.get("headers", {})}
        assert told & set(response.headers) <= names, (method, target)
        assert bool(response.content) == ("content" in answer), (method, target)


def test_columns_that_are_taken_for_parameters(tmp_path: Path) -> None:
    """A column called order is no filter; one called like a header is."""
    paths = document_of(schema_called("hostile", tmp_path))["paths"]
    listed = paths["/v1/api/%C3%A9b"]["get"]["parameters"]
    names = [entry["name"] for entry in listed if "name" in entry]
    assert names == ["id", "Prefer"]


@pytest.mark.parametrize("name", ["sample", "hostile"])
def test_the_example_is_a_batch(name: str, tmp_path: Path) -> None:
    """The example can be read as it stands."""
    body = example_batch(example_calls(schema_called(name, tmp_path), "/v1/api", read_only=False))
    batch = read_batch(body.encode(), content_type=b"multipart/mixed; boundary=batch")
    assert [call.method for call in batch.calls] == ["POST", "GET"]
    path, row = {
        "sample": (b"customers", {"name": "first name", "email": "first email"}),
        # A, the first, refers to rows that may not be there; the text is cut to its length.
        "hostile": (b"B", {"</code><script>": "fir"}),
    }[name]
    assert batch.calls[0].path == b"/v1/api/" + path
    assert json.loads(batch.calls[0].body) == row


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
