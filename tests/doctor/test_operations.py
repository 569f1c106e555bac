"""The calls to try: from an OpenAPI document, from a file, with headers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from litestar import Litestar, get, post
from quart import Quart

from atomicbatch import Call
from atomicbatch.doctor.loading import DoctorError
from atomicbatch.doctor.operations import (
    from_http_file,
    from_openapi,
    with_headers,
)
from atomicbatch.openapi.calls import Operation


def operations(document: dict[str, Any]) -> list[Operation]:
    """What is made of a document that an app gives at /openapi.json."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found = scope["path"] == "/openapi.json"
        await send({"type": "http.response.start", "status": 200 if found else 404})
        await send({"type": "http.response.body", "body": json.dumps(document).encode()})

    return asyncio.run(from_openapi(app, {}))


def operation(**operation: Any) -> Operation:
    (found,) = operations({"paths": {"/a/{x}": {"post": operation}}})
    return found


def test_parameters_go_where_they_belong() -> None:
    """Path, query, header and cookie; optional ones only with an example."""

    def parameter(place: str, name: str, **more: Any) -> dict[str, Any]:
        return {"in": place, "name": name, "schema": {"type": "string"}, **more}

    found = operation(
        parameters=[
            parameter("path", "x", example="a b/ü"),
            parameter("query", "q", required=True, schema={"type": "array", "items": {}}),
            parameter("query", "left-out"),
            parameter("query", "shown", examples={"one": {"value": 3}}),
            parameter("header", "X-Key", required=True),
            parameter("cookie", "who", required=True),
        ]
    )
    assert found.path == "/a/{x}"
    assert found.call == Call(
        "POST",
        b"/a/a%20b%2F%C3%BC",
        b"q=text&shown=3",
        ((b"x-key", b"text"), (b"cookie", b"who=text")),
        b"",
    )


def test_bodies() -> None:
    """JSON and forms; of another type there is none, and so no call."""
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    json_body = {"content": {"application/json": {"schema": schema}}}
    found = operation(requestBody=json_body).call
    assert (found.body, found.headers) == (b'{"a": 1}', ((b"content-type", b"application/json"),))
    form = {"content": {"application/x-www-form-urlencoded": {"schema": schema}}}
    assert operation(requestBody=form).call.body == b"a=1"
    shown = {"content": {"application/json": {"schema": schema, "example": {"a": 9}}}}
    assert operation(requestBody=shown).call.body == b'{"a": 9}'
    image = {"content": {"image/png": {}}, "required": True}
    assert operation(requestBody=image).obstacle == "no body of type image/png can be made up"
    assert not operation(requestBody=image | {"required": False}).obstacle


def test_a_path_s_parameters_are_its_operations_too() -> None:
    """Those of the operation itself go first."""
    shared = [
        {"in": "path", "name": "x", "example": "shared"},
        {"in": "query", "name": "q", "example": "shared"},
    ]
    own = [{"in": "path", "name": "x", "example": "own"}]
    item = {"parameters": shared, "get": {"parameters": own}, "delete": {}}
    calls = [found.call for found in operations({"paths": {"/a/{x}": item}})]
    assert [(call.method, call.path, call.query) for call in calls] == [
        ("GET", b"/a/own", b"q=shared"),
        ("DELETE", b"/a/shared", b"q=shared"),
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # short forms are in use
def test_documents_of_frameworks() -> None:
    """FastAPI makes it even where it does not publish it; Litestar has it elsewhere."""
    hidden = FastAPI(openapi_url=None)
    hidden.get("/hidden")(lambda: None)
    (found,) = asyncio.run(from_openapi(hidden, {}))
    assert (found.call.method, found.path) == ("GET", "/hidden")

    @get("/things/{number:int}")
    async def read(number: int) -> int:
        return number

    @post("/things")
    async def create(data: dict[str, int]) -> None:
        pass

    litestar: Any = Litestar([read, create])
    made = asyncio.run(from_openapi(litestar, {}))
    assert {(one.call.method, one.call.path) for one in made} == {
        ("GET", b"/things/1"),
        ("POST", b"/things"),
    }


def test_an_app_without_a_document() -> None:
    """It is told how to go on."""
    quart: Any = Quart(__name__)
    with pytest.raises(DoctorError, match="--http"):
        asyncio.run(from_openapi(quart, {}))

    class Broken:
        def openapi(self) -> None:
            raise ValueError("no schema for Decimal")

    with pytest.raises(DoctorError, match="no schema for Decimal"):
        asyncio.run(from_openapi(Broken(), {}))  # type: ignore[arg-type]


def test_a_file(tmp_path: Path) -> None:
    """Each request is one operation; a full URL gives the Host."""
    path = tmp_path / "a.http"
    second_host = "host: shop.example:81"
    path.write_text(
        f"### First\nGET http://shop.example:81/a?b={{{{c}}}}\n###\nPUT /d\n{second_host}\n\ny"
    )
    first, second = from_http_file(path, {"c": "1"})
    assert (first.path, first.name, first.call.query) == ("/a", "First", b"b=1")
    assert first.call.headers == ((b"host", b"shop.example:81"),)
    assert second.call == Call("PUT", b"/d", b"", ((b"host", b"shop.example:81"),), b"y")
    path.write_text("GET /{{c}}")
    with pytest.raises(DoctorError, match=r"a\.http:1"):
        from_http_file(path, {})


def test_headers() -> None:
    """What a file says stands, what was made up does not; what all requests have is added."""
    own = ((b"x", b"own"), (b"x", b"twice"))
    call = Call("POST", b"/", b"", own, b"abc")
    rest = ((b"host", b"localhost"), (b"accept", b"*/*"), (b"content-length", b"3"))
    given = {"X": "given", "Y": "1"}
    assert with_headers(Operation(call, "/"), given).headers == (*own, (b"y", b"1"), *rest)
    again = with_headers(Operation(call, "/"), {"Host": "localhost"}).headers
    assert [value for name, value in again if name == b"host"] == [b"localhost"]
    made_up = with_headers(Operation(call, "/", made_up=True), given | {"Host": "h"})
    assert made_up.headers == (
        (b"x", b"given"),
        (b"y", b"1"),
        (b"host", b"h"),
        *rest[1:],
    )
