"""Django REST framework and Django Ninja: their handlers, unmodified."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from rest_framework.authtoken.models import Token

from atomicbatch import Call
from tests.django.asking import Project
from tests.django.test_handlers import form
from tests.endpoints.asking import call

JSON = (b"content-type", b"application/json")


def send(method: str, path: str, body: Any, *headers: tuple[bytes, bytes]) -> Call:
    return call(method, path, json.dumps(body).encode(), [JSON, *headers])


# Django REST framework ---------------------------------------------------------------------------


def test_a_viewset(project: Project) -> None:
    """A call sees the rows of the calls before it; all of them are stored."""
    answer = project.ask(
        send("POST", "/rest/items", {"name": "pen", "stock": 1}),
        send("POST", "/rest/items", {"name": "ink"}),
        call("GET", "/rest/items"),
    )
    assert (answer.outcome, answer.statuses) == ("committed", [201, 201, 200])
    pen = json.loads(answer.replies[0].body)
    assert [one["name"] for one in json.loads(answer.replies[2].body)] == ["ink", "pen"]
    at = f"/rest/items/{pen['id']}"
    answer = project.ask(
        send("PATCH", at, {"stock": 5}), send("PUT", at, {"name": "pens"}), call("DELETE", at)
    )
    assert (answer.outcome, answer.statuses) == ("committed", [200, 200, 204])
    assert project.rows() == ["ink"]


def test_a_duplicate_is_a_400(project: Project) -> None:
    """The serializer finds the row of the call before; the batch is rolled back."""
    answer = project.ask(*[send("POST", "/rest/items", {"name": "pen"})] * 2)
    assert answer.outcome == "rolled-back; failed=2; status=400"
    assert json.loads(answer.replies[1].body) == {"name": ["item with this name already exists."]}
    assert project.rows() == []


def test_an_exception_after_a_write(project: Project) -> None:
    """What was written before an APIException is undone with the batch."""
    answer = project.ask(
        send("POST", "/rest/items", {"name": "pen"}), send("POST", "/rest/take", {"name": "ink"})
    )
    assert answer.outcome == "rolled-back; failed=2; status=409"
    assert json.loads(answer.replies[1].body) == {"detail": "out of stock"}
    assert project.rows() == []


@pytest.fixture
def token(project: Project) -> bytes:
    key: str = Token.objects.create(user=User.objects.create_user("ada")).key
    connection.close()
    return key.encode()


def test_token_authentication(project: Project, token: bytes) -> None:
    """Authorization stands before all calls, or in a call's own place."""
    mine, wrong = send("POST", "/rest/mine", {"name": "pen"}), (b"authorization", b"Token none")
    answer = project.ask(mine, headers=((b"authorization", b"Token " + token),))
    assert (answer.outcome, project.rows()) == ("committed", ["ada's pen"])
    answer = project.ask(
        send("POST", "/rest/mine", {"name": "ink"}),
        send("POST", "/rest/mine", {"name": "cap"}, wrong),
        headers=((b"authorization", b"Token " + token),),
    )
    # Everybody is told the status of who was to blame, since that one concerns the whole batch.
    assert answer.outcome == "rolled-back; failed=2; status=403"
    assert project.rows() == ["ada's pen"]


def test_throttling_is_counted_for_each_call(project: Project) -> None:
    """Two a day are two a day; the third call fails the batch."""
    cache.clear()
    calls = [
        send("POST", "/rest/throttled", {"name": f"{n}"}, (b"x-who", b"ada")) for n in range(3)
    ]
    answer = project.ask(*calls)
    assert answer.outcome == "rolled-back; failed=3; status=429"
    assert dict(answer.replies[2].headers)[b"retry-after"]
    assert project.rows() == []


def test_an_upload(project: Project) -> None:
    """A part of a form is a file."""
    content = b"x" * 5000
    answer = project.ask(call("POST", "/rest/upload", *form("a.txt", content)))
    assert (answer.outcome, answer.statuses) == ("committed", [201])
    assert json.loads(answer.replies[0].body) == {"size": 5000}


def test_the_browsable_api(project: Project) -> None:
    """A call that accepts HTML gets the page, one that does not gets JSON."""
    html = call("GET", "/rest/items", b"", [(b"accept", b"text/html")])
    answer = project.ask(html, call("GET", "/rest/items"), headers=((b"accept", b"*/*"),))
    kinds = [dict(reply.headers)[b"content-type"] for reply in answer.replies]
    assert kinds == [b"text/html; charset=utf-8", b"application/json"]


# Django Ninja ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ninja/items", "/ninja/async-items"])
def test_ninja(project: Project, path: str) -> None:
    """Its sync and its async operations are atomic together; HttpError fails the batch."""
    answer = project.ask(
        send("POST", path, {"name": "pen"}),
        send("POST", path, {"name": "ink"}),
        call("GET", "/ninja/items"),
    )
    assert (answer.outcome, answer.statuses) == ("committed", [200, 200, 200])
    assert project.rows() == ["ink", "pen"]
    answer = project.ask(
        send("POST", path, {"name": "cap"}), send("POST", path, {"name": "nib", "stock": -1})
    )
    assert answer.outcome == "rolled-back; failed=2; status=409"
    assert project.rows() == ["ink", "pen"]
    answer = project.ask(send("POST", path, {"name": "cap"}), send("POST", path, {"stock": 1}))
    assert answer.outcome == "rolled-back; failed=2; status=422"
    assert project.rows() == ["ink", "pen"]
