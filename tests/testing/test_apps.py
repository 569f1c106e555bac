"""A batch through an app's own test client, and what came back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Body, FastAPI, Header, HTTPException
from fastapi.testclient import TestClient

from atomicbatch import MalformedError
from atomicbatch.asgi import AtomicBatch
from atomicbatch.testing import Answer, batch_of, call, read_answer
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "test-your-app.md"


@pytest.fixture
def client(sqlite_path: Path) -> Iterator[TestClient]:
    """An app that sells ten packets of tea."""
    engine = sa.create_engine(f"sqlite:///{sqlite_path}")
    orders = sa.Table(
        "orders", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("quantity", sa.Integer),
    )  # fmt: skip
    orders.metadata.create_all(engine)
    app = FastAPI()

    @app.post("/orders", status_code=201)
    def add(quantity: int = Body(embed=True)) -> int:
        with engine.begin() as connection:
            connection.execute(sa.insert(orders).values(quantity=quantity))
        if quantity > 10:
            raise HTTPException(409, "out of stock")
        return quantity

    @app.get("/orders")
    def every() -> list[dict[str, int]]:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(orders)).mappings()]

    @app.get("/who")
    def who(user: str = Header("nobody"), q: str = "") -> dict[str, str]:
        return {"user": user, "q": q}

    with TestClient(AtomicBatch(app, transaction=SQLAlchemyTransaction())) as made:
        yield made
    engine.dispose()


def send(client: TestClient, *calls: Any, **options: Any) -> Answer:
    request = batch_of(*calls, **options)
    response = client.post("/v1/api/batch", content=request.body, headers=request.headers)
    return read_answer(response.headers, response.content)


def page_tests() -> list[Any]:
    """The tests that stand on the page."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)\n```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(block, names)
    return [test for name, test in names.items() if name.startswith("test_")]


@pytest.mark.parametrize("written", page_tests(), ids=lambda test: test.__name__)
def test_the_page(written: Any, client: TestClient) -> None:
    """The tests on the page pass, for an app like the one that they are about."""
    written(client)


def test_an_answer_as_text(client: TestClient) -> None:
    """A failing assertion shows the outcome and what each call has answered."""
    answer = send(client, call("POST", "/orders", {"quantity": 11}), call("GET", "/orders"))
    outcome, first, second = str(answer).splitlines()
    assert (answer.committed, outcome) == (False, "rolled-back; failed=1; status=409")
    assert first == 'call 1: 409 {"detail":"out of stock"}'
    assert second.startswith("call 2: 424 {")


def test_headers_and_query(client: TestClient) -> None:
    """The request's headers are for all calls, a call's own for one."""
    answer = send(
        client,
        call("GET", "/who?q=a%20b"),
        call("GET", "/who", headers={"User": "grace"}),
        headers={"User": "ada"},
    )
    assert [reply.json() for reply in answer.replies] == [
        {"user": "ada", "q": "a b"},
        {"user": "grace", "q": ""},
    ]
    assert answer.replies[0].headers["content-type"] == "application/json"
    assert answer.replies[1].text == '{"user":"grace","q":""}'


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        (b"\x00\xff", b"\x00\xff", None),
        ("tea", b"tea", None),
        ({"a": 1}, b'{"a": 1}', "application/json"),
        (None, b"null", "application/json"),
    ],
)
def test_bodies(body: Any, sent: bytes, content_type: str | None) -> None:
    """Bytes and text are sent as they are, anything else as JSON."""
    made = call("POST", "/", body)
    expected = () if content_type is None else ((b"content-type", content_type.encode()),)
    assert (made.body, made.headers) == (sent, expected)
    assert call("POST", "/", {}, headers={"Content-Type": "x/y"}).headers == (
        (b"content-type", b"x/y"),
    )


def test_a_batch_that_did_not_run(client: TestClient) -> None:
    """The problem is shown where there are no replies."""
    response = client.post(
        "/v1/api/batch", content=b"x", headers={"Content-Type": "multipart/mixed; boundary=b"}
    )
    answer = read_answer(response.headers, response.content)
    assert (answer.outcome, answer.replies) == ("not-started", ())
    assert str(answer).startswith('not-started {"type":"urn:atomicbatch:problem:malformed-batch"')


def test_what_is_no_batch(client: TestClient) -> None:
    """A response of something else is told, and so is a body that breaks off."""
    response = client.get("/orders")
    with pytest.raises(AssertionError, match="did the request reach the batch endpoint"):
        read_answer(response.headers, response.content)
    broken = {"Content-Type": "multipart/mixed; boundary=b", "Batch-Outcome": "committed"}
    with pytest.raises(MalformedError):
        read_answer(broken, b"--b\r\n")
