"""BatchMiddleware: a project's views in one transaction, by each gateway."""

from __future__ import annotations

import json

from tests.django.asking import Project
from tests.endpoints.asking import call


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
