"""Sessions, CSRF, signing in and out, permissions, messages, the admin: judged for each call."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.middleware.csrf import _get_new_csrf_string

from atomicbatch import Headers
from tests.django.asking import Project
from tests.endpoints.asking import call

SECRET = _get_new_csrf_string()
TOKEN = (b"x-csrftoken", SECRET.encode())
REFERER = (b"referer", b"https://shop.example/")


@pytest.fixture
def cookie(project: Project) -> tuple[bytes, bytes]:
    """The Cookie of a browser in which Ada has signed in."""
    ada = User.objects.create_superuser("ada", password="lovelace")
    session = SessionStore()
    session.update(
        {
            "_auth_user_id": str(ada.pk),
            "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
            "_auth_user_hash": ada.get_session_auth_hash(),
        }
    )
    session.save()
    connection.close()
    return b"cookie", f"sessionid={session.session_key}; csrftoken={SECRET}".encode()


def cookie_of(reply: Any) -> str:
    """The session that a reply sets."""
    for name, value in reply.headers:
        if name == b"set-cookie" and (found := re.match(rb" ?sessionid=(\w*)", value)):
            return found[1].decode()
    return ""


def stored(project: Project, key: str) -> dict[str, Any]:
    """What the database holds for a session."""
    data = project.rows(f"SELECT session_data FROM django_session WHERE session_key = '{key}'")
    return dict(SessionStore().decode(data[0])) if data else {}


# CSRF --------------------------------------------------------------------------------------------


def test_a_session_alone_may_not_write(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """A call without a token is refused, although it has the cookies of the batch request."""
    headers: Headers = (cookie, REFERER)
    answer = project.batch("GET /protected", "POST /protected", headers=headers)
    assert answer.outcome == "rolled-back; failed=2; status=403"
    assert project.rows() == []


@pytest.mark.parametrize("where", ["in the call", "in the batch request"])
def test_with_a_token_it_may(project: Project, cookie: tuple[bytes, bytes], where: str) -> None:
    """The token may be the call's own, or stand before all calls."""
    own = [TOKEN] if where == "in the call" else []
    headers: Headers = (cookie, REFERER) if own else (cookie, REFERER, TOKEN)
    answer = project.ask(call("POST", "/protected", b"", own), headers=headers)
    assert (answer.outcome, answer.statuses) == ("committed", [200])
    assert project.rows() == ["of ada"]


def test_a_form_that_has_the_token(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """The token may be in the body, as the forms of Django have it."""
    form = f"csrfmiddlewaretoken={SECRET}".encode()
    kind = (b"content-type", b"application/x-www-form-urlencoded")
    answer = project.ask(call("POST", "/protected", form, [kind]), headers=(cookie, REFERER))
    assert answer.statuses == [200]


def test_another_origin_is_refused(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """Where the batch has come from, its calls have come from."""
    headers: Headers = (cookie, (b"origin", b"https://elsewhere.example"), TOKEN)
    assert project.batch("POST /protected", headers=headers).statuses == [403]


def test_nobody_who_has_not_signed_in(project: Project) -> None:
    """login_required answers the call with its redirect."""
    answer = project.batch("GET /protected")
    assert answer.statuses == [302]


# Sessions ----------------------------------------------------------------------------------------


def test_each_call_saves_its_session(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """A call sees what the call before it has left there; all of it is stored with the batch."""
    answer = project.batch("GET /visits", "GET /visits", "GET /visits", headers=(cookie,))
    assert [json.loads(reply.body) for reply in answer.replies] == [1, 2, 3]
    key = cookie[1].decode().partition("=")[2].partition(";")[0]
    assert stored(project, key)["visits"] == 3
    answer = project.batch("GET /visits", "GET /nowhere", headers=(cookie,))
    assert answer.outcome.startswith("rolled-back")
    assert stored(project, key)["visits"] == 3


def test_signing_in(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """The session that it makes is there after COMMIT, and is not there after a rollback."""
    sign_in = call("POST", "/login", b"ada:lovelace")
    answer = project.ask(sign_in)
    key = cookie_of(answer.replies[0])
    assert stored(project, key)["_auth_user_id"]
    before = project.rows("SELECT count(*) FROM django_session")
    answer = project.ask(sign_in, call("POST", "/fail"))
    assert answer.outcome.startswith("rolled-back")
    assert project.rows("SELECT count(*) FROM django_session") == before


def test_signing_out(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """It takes effect for the calls behind it, and no session saved later brings it back."""
    answer = project.batch("GET /protected", "POST /logout", "GET /protected", headers=(cookie,))
    assert (answer.outcome, answer.statuses) == ("committed", [200, 200, 302])
    assert project.rows("SELECT count(*) FROM django_session") == [0]


def test_signing_out_is_undone(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """After a rollback Ada is signed in as before."""
    answer = project.batch("POST /logout", "POST /fail", headers=(cookie,))
    assert answer.outcome == "rolled-back; failed=2; status=500"
    assert project.batch("GET /protected", headers=(cookie,)).statuses == [200]


def test_a_call_may_be_somebody_else(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """Its own Cookie takes the place of the batch request's."""
    nobody = [(b"cookie", b"sessionid=none")]
    answer = project.ask(
        call("GET", "/protected"), call("GET", "/protected", b"", nobody), headers=(cookie,)
    )
    assert answer.statuses == [200, 302]


def test_messages(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """What a call leaves for the next page waits in its own cookie or session."""
    with Project.behind(
        project.gateway,
        project.database,
        MESSAGE_STORAGE="django.contrib.messages.storage.session.SessionStorage",
    ) as other:
        answer = other.batch("GET /messages", "GET /messages", headers=(cookie,))
    assert [json.loads(reply.body) for reply in answer.replies] == [[], ["come again"]]


# The admin ---------------------------------------------------------------------------------------


def test_the_admin(project: Project, cookie: tuple[bytes, bytes]) -> None:
    """Its forms work in a batch: sign in, add, and a duplicate that shows the form again."""
    kind = (b"content-type", b"application/x-www-form-urlencoded")
    token = f"csrfmiddlewaretoken={SECRET}"
    sign_in = call(
        "POST",
        "/admin/login/",
        f"{token}&username=ada&password=lovelace&next=/admin/".encode(),
        [kind, (b"cookie", f"csrftoken={SECRET}".encode())],
    )
    add = call("POST", "/admin/shop/item/add/", f"{token}&name=pen&stock=3".encode(), [kind])
    answer = project.ask(sign_in, add, call("GET", "/admin/"), headers=(cookie, REFERER))
    assert (answer.outcome, answer.statuses) == ("committed", [302, 302, 200])
    assert cookie_of(answer.replies[0])
    assert project.rows() == ["pen"]
    assert project.rows("SELECT object_repr FROM django_admin_log") != []
    again = project.ask(add, call("POST", "/fail"), headers=(cookie, REFERER))
    assert again.statuses[1] == 500
    assert project.rows("SELECT count(*) FROM django_admin_log") == [1]


def test_the_whole_stack_is_passed(project: Project) -> None:
    """What middleware adds to a response, each reply has: each call has passed it."""
    answer = project.batch("GET /echo", "GET /async-items")
    for reply in answer.replies:
        names = {name for name, _ in reply.headers}
        assert {b"x-content-type-options", b"content-language", b"vary"} <= names
    assert settings.MIDDLEWARE[0] == settings.BATCH
