"""The batch endpoint in FastAPI's own document, and FastAPI's TestClient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from openapi_spec_validator import validate
from pydantic import BaseModel
from sqlalchemy.orm import Session

from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

PATH = "/v1/api/batch"


class Item(BaseModel):
    name: str
    stock: int = 3


def shop(path: Path) -> FastAPI:
    engine = sa.create_engine(f"sqlite:///{path}/shop.sqlite")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE item (name TEXT PRIMARY KEY, stock INTEGER)")
    app = FastAPI(title="Shop")

    def session() -> Iterator[Session]:
        with Session(engine) as opened:
            yield opened

    @app.post("/items", status_code=201)
    def add(item: Item, db: Session = Depends(session)) -> Item:  # noqa: B008
        db.execute(sa.text("INSERT INTO item VALUES (:name, :stock)"), item.model_dump())
        db.commit()
        return item

    @app.get("/items")
    def items(db: Session = Depends(session)) -> list[str]:  # noqa: B008
        return list(db.scalars(sa.text("SELECT name FROM item")))

    @app.post("/fail")
    def fail() -> None:
        raise HTTPException(409)

    return app


def wrapped(app: FastAPI) -> Any:
    return AtomicBatch(app, transaction=SQLAlchemyTransaction())


def as_middleware(app: FastAPI) -> Any:
    app.add_middleware(AtomicBatch, transaction=SQLAlchemyTransaction())
    return app


@pytest.mark.parametrize("mount", [wrapped, as_middleware])
def test_the_endpoint_is_in_the_document(mount: Any, tmp_path: Path) -> None:
    """The app's document shows the endpoint, once, and is valid; the app's own paths stay."""
    app = mount(shop(tmp_path))
    client = TestClient(app)
    document = client.get("/openapi.json").json()
    assert list(document["paths"]) == ["/items", "/fail", PATH]
    assert document == client.get("/openapi.json").json()
    validate(document)
    assert client.get("/docs").status_code == 200


def test_mounted_below_an_app(tmp_path: Path) -> None:
    """The document of the app that holds the Mount shows the endpoint where it is."""
    app = FastAPI()
    app.mount("/api", wrapped(shop(tmp_path)))
    client = TestClient(app)
    assert client.get("/api/items").status_code == 200
    assert list(client.get("/openapi.json").json()["paths"]) == ["/api" + PATH]
    assert PATH in client.get("/api/openapi.json").json()["paths"]
    with_prefix = TestClient(app, root_path="/proxy")
    assert with_prefix.get("/proxy/api/items").status_code == 200
    assert list(with_prefix.get("/proxy/openapi.json").json()["paths"]) == ["/api" + PATH]


@pytest.mark.parametrize("path", ["/api", "/{tenant}"])
def test_not_where_it_is_not(path: str, tmp_path: Path) -> None:
    """No document shows an endpoint that refuses batches, or one of many paths."""
    app, inner = FastAPI(), shop(tmp_path)
    app.mount(path, as_middleware(inner) if path == "/api" else wrapped(inner))
    client = TestClient(app)
    assert client.get("/api/items").status_code == 200
    assert client.get("/openapi.json").json()["paths"] == {}


@pytest.mark.parametrize("mount", [wrapped, as_middleware])
def test_the_example_works(mount: Any, tmp_path: Path) -> None:
    """The example of the document can be sent as it stands, and commits."""
    client = TestClient(mount(shop(tmp_path)))
    document = client.get("/openapi.json").json()
    content = document["paths"][PATH]["post"]["requestBody"]["content"]
    ((media_type, media),) = content.items()
    answer = client.post(PATH, content=media["example"], headers={"Content-Type": media_type})
    assert answer.headers["batch-outcome"] == "committed"
    assert answer.text.count("HTTP/1.1 20") == 2
    assert client.get("/items").json() == ["text"]


def test_an_app_without_operations() -> None:
    """An empty app's document shows the endpoint as well."""
    client = TestClient(wrapped(FastAPI()))
    document = client.get("/openapi.json").json()
    assert list(document["paths"]) == [PATH]
    validate(document)


def test_two_endpoints() -> None:
    """Two batch endpoints of one app both show, each once."""
    app = FastAPI()
    AtomicBatch(app, transaction=SQLAlchemyTransaction(), path="/a")
    outer = AtomicBatch(app, transaction=SQLAlchemyTransaction(), path="/b")
    AtomicBatch(app, transaction=SQLAlchemyTransaction(), path="/a")
    assert sorted(TestClient(outer).get("/openapi.json").json()["paths"]) == ["/a", "/b"]


@pytest.mark.parametrize("lifespan", [True, False])
def test_test_client(lifespan: bool, tmp_path: Path) -> None:
    """Starlette's TestClient sends batches, with the app's lifespan and without."""
    app = AtomicBatch(shop(tmp_path), transaction=SQLAlchemyTransaction())
    client = TestClient(app)
    if lifespan:
        client.__enter__()
    headers = {"Content-Type": "multipart/mixed; boundary=b"}
    parts = [
        'POST /items HTTP/1.1\nContent-Type: application/json\n\n{"name": "pen"}\n',
        "POST /fail HTTP/1.1\n",
    ]
    for sent, outcome, stored in (
        (parts, "rolled-back; failed=2; status=409", []),
        (parts[:1], "committed", ["pen"]),
    ):
        body = "".join(f"--b\n\n{part}\n" for part in sent) + "--b--\n"
        answer = client.post(PATH, content=body, headers=headers)
        assert answer.headers["batch-outcome"] == outcome
        assert client.get("/items").json() == stored
    if lifespan:
        client.__exit__(None, None, None)
