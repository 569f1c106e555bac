"""Google's own batch client works against the server unchanged."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its dependencies' own deprecations
    import httplib2
    from googleapiclient.discovery import build_from_document
    from googleapiclient.errors import HttpError
    from googleapiclient.http import BatchHttpRequest

from tests.server.conftest import Serve
from tests.server.served import Served, make_shop


def discovery(address: str) -> dict[str, Any]:
    """The least of a discovery document: create and read items."""
    key = {"id": {"type": "integer", "location": "path", "required": True}}
    return {
        "kind": "discovery#restDescription",
        "id": "shop:v1",
        "name": "shop",
        "version": "v1",
        "rootUrl": f"{address}/",
        "servicePath": "v1/api/",
        "baseUrl": f"{address}/v1/api/",
        "batchPath": "v1/api/batch",
        "schemas": {"Item": {"id": "Item", "type": "object", "properties": {}}},
        "resources": {
            "items": {
                "methods": {
                    "insert": {
                        "id": "shop.items.insert",
                        "path": "items",
                        "httpMethod": "POST",
                        "request": {"$ref": "Item"},
                        "response": {"$ref": "Item"},
                    },
                    "get": {
                        "id": "shop.items.get",
                        "path": "items/{id}",
                        "httpMethod": "GET",
                        "parameters": key,
                        "response": {"$ref": "Item"},
                    },
                    "delete": {
                        "id": "shop.items.delete",
                        "path": "items/{id}",
                        "httpMethod": "DELETE",
                        "parameters": key,
                    },
                }
            }
        },
    }


@pytest.fixture
def shop(sqlite_path: Path, serve: Serve) -> Served:
    """The shop on SQLite."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    return serve(url)


@pytest.fixture
def http() -> Iterator[httplib2.Http]:
    """The transport that Google's client uses."""
    made = httplib2.Http()
    yield made
    made.close()


class Answers:
    """What the client's callback was given, by request id."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.errors: dict[str, HttpError] = {}

    def __call__(self, request_id: str, response: Any, exception: HttpError | None) -> None:
        if exception is None:
            self.values[request_id] = response
        else:
            self.errors[request_id] = exception


@pytest.mark.parametrize("by_discovery", [True, False])
def test_creates_and_reads(
    shop: Served, http: httplib2.Http, sqlite_path: Path, *, by_discovery: bool
) -> None:
    """Creates, reads and a delete run in order and are all stored, text of any script too."""
    service = build_from_document(discovery(shop.address), http=http)
    answers = Answers()
    batch = (
        service.new_batch_http_request(callback=answers)
        if by_discovery
        else BatchHttpRequest(callback=answers, batch_uri=f"{shop.address}/v1/api/batch")
    )
    items = service.items()
    for sku in ("jam", "茶"):
        batch.add(items.insert(body={"sku": sku, "name": f"Name {sku}", "price": "1.50"}))
    batch.add(items.get(id=4))
    batch.add(items.get(id=5))
    batch.add(items.delete(id=3))
    batch.execute(http=http)
    assert answers.errors == {}
    assert answers.values["1"]["id"] == 4
    assert answers.values["3"] == answers.values["1"]
    assert answers.values["4"]["sku"] == "茶"
    assert answers.values["5"] == ""
    with sqlite3.connect(sqlite_path) as look:
        assert look.execute("SELECT id, sku FROM items ORDER BY id").fetchall() == [
            (1, "tea"),
            (2, "cup"),
            (4, "jam"),
            (5, "茶"),
        ]
    look.close()


def test_a_failure_is_told_call_by_call(
    shop: Served, http: httplib2.Http, sqlite_path: Path
) -> None:
    """The callback gets 409 for the failing call and 424 for the others; nothing is stored."""
    service = build_from_document(discovery(shop.address), http=http)
    answers = Answers()
    batch = service.new_batch_http_request(callback=answers)
    for sku in ("jam", "tea", "pie"):
        batch.add(service.items().insert(body={"sku": sku, "name": sku}))
    batch.execute(http=http)
    assert {key: error.resp.status for key, error in answers.errors.items()} == {
        "1": 424,
        "2": 409,
        "3": 424,
    }
    with sqlite3.connect(sqlite_path) as look:
        assert look.execute("SELECT count(*) FROM items").fetchone() == (3,)
    look.close()
