"""BatchMiddleware: a project's views in one transaction, by each gateway."""

from __future__ import annotations

import json

import pytest

from tests.django.asking import Project
from tests.endpoints.asking import call

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
