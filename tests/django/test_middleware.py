"""BatchMiddleware: a project's views in one transaction, by each gateway."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from django.conf import settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from tests.django.asking import Project
from tests.endpoints.asking import call

pytestmark = pytest.mark.every_gateway
VIEWS = pytest.mark.parametrize(
    "path", ["/items", "/async-items", "/class-items", "/async-class-items"]
)


@VIEWS
def test_all_calls_take_effect(project: Project, path: str) -> None:
    """A batch of good calls is stored as a whole, and a call sees the calls before it."""
    answer = project.batch(f"POST {path} pen", f"POST {path} ink", f"GET {path}")
    assert (answer.status, answer.outcome) == (200, "committed")
    assert answer.statuses == [201, 201, 200]
    assert json.loads(answer.replies[2].body) == ["ink", "pen"]
    assert project.rows() == ["ink", "pen"]


@VIEWS
def test_or_none_does(project: Project, path: str) -> None:
    """The first failing call undoes the calls before it and stops the ones after it."""
    answer = project.batch(f"POST {path} pen", f"POST {path} pen", f"POST {path} ink")
    assert (answer.status, answer.outcome) == (200, "rolled-back; failed=2; status=409")
    assert answer.statuses == [424, 409, 424]
    assert json.loads(answer.replies[1].body) == {"taken": "pen"}
    assert project.rows() == []
    assert project.plain(f"POST {path} pen").status == 201
    assert project.rows() == ["pen"]


def test_a_view_that_raises(project: Project) -> None:
    """Django's own page for it is the call's reply, and the batch is rolled back."""
    answer = project.batch("POST /items pen", "POST /fail")
    assert answer.outcome == "rolled-back; failed=2; status=500"
    assert b"Server Error (500)" in answer.replies[1].body
    assert project.rows() == []


def test_each_call_is_a_request_of_its_own(project: Project) -> None:
    """It has its own method, path, query, body and headers, and the outer request's others."""
    answer = project.ask(
        call("PUT", "/echo?a=1", b"pen", [(b"x-own", b"1")]),
        call("GET", "/echo?b=%C3%A4"),
        headers=((b"x-outer", b"2"), (b"authorization", b"Token t")),
        query=b"a=2&c=3",
    )
    assert (answer.status, answer.outcome) == (200, "committed")
    first, second = (json.loads(reply.body) for reply in answer.replies)
    assert (first["method"], first["body"], first["full"]) == ("PUT", "pen", "/echo?a=1&c=3")
    assert (second["method"], second["body"]) == ("GET", "")
    assert second["uri"] == "https://shop.example/echo?b=%C3%A4&a=2&c=3"
    assert first["headers"] | {"X-Own": "1", "X-Outer": "2"} == first["headers"]
    assert second["headers"]["Authorization"] == "Token t"
    assert "X-Own" not in second["headers"]
    assert first["class"] == ("WSGIRequest" if project.gateway == "wsgi" else "ASGIRequest")
    assert (first["secure"], first["address"]) == (True, "192.0.2.7")


def test_a_failing_call_ends_the_batch(project: Project) -> None:
    """The first call that fails stops the batch; its page is the reply."""
    answer = project.batch("GET /echo", "GET /nowhere", "GET /echo")
    assert (answer.status, answer.outcome) == (200, "rolled-back; failed=2; status=404")
    assert answer.statuses == [424, 404, 424]


def test_other_methods(project: Project) -> None:
    """OPTIONS tells the limits, and what is no POST is refused."""
    assert project.plain("OPTIONS /v1/api/batch").status == 200
    refused = project.plain("GET /v1/api/batch")
    assert (refused.status, refused.headers["allow"]) == (405, "POST, OPTIONS")
    assert refused.outcome == "not-started"


# Threads and tasks --------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["insensitive", "gather", "own-thread"])
def test_what_a_view_gives_to_others(project: Project, view: str) -> None:
    """Threads of any kind and tasks work in the batch's transaction, too."""
    answer = project.batch("POST /items pen", f"POST /odd/{view}")
    assert answer.outcome == "committed"
    assert len(project.rows()) in (2, 4)
    project.empty()
    answer = project.batch("POST /items pen", f"POST /odd/{view}", "GET /nowhere")
    assert answer.outcome == "rolled-back; failed=3; status=404"
    assert project.rows() == []


# Whoever else is there ----------------------------------------------------------------------------


def test_below_another_app(database: str) -> None:
    """Mounted in an app of Starlette, calls start in Django, where the batch has come to."""
    passed: list[str] = []

    def outermost(app: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            passed.append(scope["path"])
            await app(scope, receive, send)

        return middleware

    with Project.behind("asgi", database) as project:
        project.empty()
        routes = [Mount("/shop", project.app)]
        project.app = Starlette(routes=routes, middleware=[Middleware(outermost)])
        answer = project.batch("POST /shop/items pen", "GET /shop/echo", path="/shop/v1/api/batch")
    assert (answer.outcome, answer.statuses) == ("committed", [201, 200])
    assert json.loads(answer.replies[1].body)["path"] == "/shop/echo"
    assert passed == ["/shop/v1/api/batch"]
    assert project.rows() == ["pen"]


def test_behind_a_middleware_that_reads_bodies(project: Project) -> None:
    """Who has read the batch's body before it comes to us has not taken it away."""
    middleware = ["tests.django.shop.middleware.reads_bodies", *settings.MIDDLEWARE]
    changed = {"MIDDLEWARE": middleware}
    with Project.behind(project.gateway, project.database, **changed) as other:
        answer = other.batch("POST /items pen", "GET /items")
    assert (answer.outcome, answer.statuses) == ("committed", [201, 200])


def test_a_batch_in_a_batch(project: Project) -> None:
    """A call to the endpoint is refused before anything runs."""
    answer = project.batch("POST /items pen", "POST /v1/api/batch x")
    assert (answer.status, answer.outcome) == (400, "not-started")
    assert project.rows() == []


def test_batches_are_not_logged_as_errors(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """Django's log has what it has of requests: one line for each call that failed."""
    project.batch("GET /echo", "GET /nowhere")
    lines = [record.getMessage() for record in caplog.records if record.name == "django.request"]
    assert lines == ["Not Found: /nowhere"]


# Compressed, too large, too slow ------------------------------------------------------------------


def test_compressed_both_ways(project: Project) -> None:
    """The batch is read, and its response written, in codings that Django does not know of."""
    answer = project.ask(
        call("POST", "/echo", b"x" * 5000),
        headers=((b"content-encoding", b"gzip"), (b"accept-encoding", b"gzip")),
        coded=gzip.compress,
    )
    assert answer.headers["content-encoding"] == "gzip"
    assert b"x" * 5000 in gzip.decompress(answer.body)


def test_a_body_that_is_too_long(project: Project) -> None:
    """It is refused by its bound, not by Django's."""
    changed = {
        "ATOMICBATCH": {"LIMITS": {"MAX_BODY_BYTES": 1000}},
        "DATA_UPLOAD_MAX_MEMORY_SIZE": 100,
    }
    with Project.behind(project.gateway, project.database, **changed) as other:
        assert other.batch("GET /echo", "GET /echo").outcome == "committed"
        refused = other.batch("POST /echo " + "x" * 1000)
    assert (refused.status, refused.problem["limit"]) == (413, "max_body_bytes")


def test_the_time_limit(project: Project) -> None:
    """A batch that takes too long is rolled back."""
    changed = {"ATOMICBATCH": {"LIMITS": {"TIMEOUT_SECONDS": 0.2}}}
    with Project.behind(project.gateway, project.database, **changed) as other:
        answer = other.batch("POST /items pen", "GET /odd/slow", "POST /items ink")
    assert answer.outcome.endswith("status=504")
    assert project.rows() == []
