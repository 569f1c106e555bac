"""Handlers: a call is what a request is to Django; its response is read inside the transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import signals
from django.test import override_settings
from django.utils import timezone

from tests.django.asking import Project
from tests.django.shop import odd, views
from tests.endpoints.asking import call

pytestmark = pytest.mark.every_gateway
# Django says so where an async server is to send a sync stream, or the other way round.
STREAMS = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    odd.LOG.clear()
    views.UPLOADED.clear()
    yield
    odd.LOG.clear()
    views.UPLOADED.clear()


# Responses ----------------------------------------------------------------------------------------


def test_what_has_no_body(project: Project) -> None:
    """Replies to HEAD, and 204 and 304, have none; in-process nobody else would take it away."""
    answer = project.batch("HEAD /echo", "GET /odd/empty", "GET /odd/not-modified")
    assert (answer.outcome, answer.statuses) == ("committed", [200, 204, 304])
    assert [reply.body for reply in answer.replies] == [b"", b"", b""]


@pytest.mark.parametrize("view", ["stream", "async-stream"])
@STREAMS
def test_a_stream_is_read_inside(project: Project, view: str) -> None:
    """What a stream writes while it is read is stored with the batch, or not at all."""
    answer = project.batch(f"GET /odd/{view}", "POST /items pen")
    assert answer.replies[0].body == b"ab"
    assert project.rows() == ["pen", "stream a", "stream b"]
    project.empty()
    answer = project.batch(f"GET /odd/{view}", "POST /items pen", "POST /items pen")
    assert answer.outcome == "rolled-back; failed=3; status=409"
    assert project.rows() == []


@pytest.mark.parametrize("view", ["stream", "async-stream"])
@STREAMS
def test_a_stream_that_breaks_off(project: Project, view: str) -> None:
    """It fails its call, although its status was 200."""
    answer = project.batch("POST /items pen", f"GET /odd/{view}?late")
    assert answer.outcome == "rolled-back; failed=2; status=500"
    assert project.rows() == []


@STREAMS
def test_a_file_is_sent_and_closed(project: Project) -> None:
    """All of its bytes are in the reply, and nobody forgets to close it."""
    answer = project.batch("GET /odd/file", "GET /odd/file")
    assert [reply.body for reply in answer.replies] == [bytes(range(256)) * 800] * 2
    assert [file.closed for file in odd.LOG] == [True, True]


def test_cookies_and_headers_are_the_replys_own(project: Project) -> None:
    """Each reply has those of its call, and the batch's response has none of them."""
    answer = project.batch("GET /visits", "GET /visits")
    for reply in answer.replies:
        cookies = [value for name, value in reply.headers if name == b"set-cookie"]
        assert [value[:10] for value in cookies] == [b"sessionid="]
        assert dict(reply.headers)[b"content-type"] == b"application/json"
    assert "set-cookie" not in answer.headers


def test_a_redirect_is_not_followed(project: Project) -> None:
    """It is a success."""
    answer = project.batch("POST /odd/redirect", "POST /items pen")
    assert (answer.outcome, answer.statuses) == ("committed", [302, 201])


def test_sys_exit_ends_the_process_and_not_the_batch(database: str) -> None:
    """What is no Exception gets out, and nothing is stored."""
    with Project.behind("wsgi", database) as project:
        project.empty()
        with pytest.raises(SystemExit):
            project.batch("POST /items pen", "POST /odd/exits")
        assert project.rows() == []


# Bodies -------------------------------------------------------------------------------------------


def test_the_bound_on_bodies_is_for_each_call(project: Project) -> None:
    """DATA_UPLOAD_MAX_MEMORY_SIZE bounds what a call sends, not what the batch does."""
    fits, does_not = b"x" * 900, b"x" * 1100
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000):
        answer = project.ask(call("POST", "/echo", fits), call("POST", "/echo", fits))
        assert (answer.outcome, answer.statuses) == ("committed", [200, 200])
        answer = project.ask(call("POST", "/echo", fits), call("POST", "/echo", does_not))
        assert answer.outcome == "rolled-back; failed=2; status=400"


@pytest.mark.parametrize("spills", [False, True])
def test_uploads(project: Project, spills: bool) -> None:
    """A file of a form is a call's own; where it is large, it lies on disk until the call ends."""
    content = b"--inner\r\n" + b"x" * 5000
    calls = [call("POST", "/upload", *form(name, content)) for name in ("a.txt", "b.txt")]
    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=100 if spills else 10**6):
        answer = project.ask(*calls)
    assert answer.outcome == "committed"
    kind = "TemporaryUploadedFile" if spills else "InMemoryUploadedFile"
    told = {"kind": kind, "size": 5009, "start": "--inner\r\nxxxxxxxxxxx", "form": "T"}
    assert [json.loads(reply.body) for reply in answer.replies] == [told, told]
    assert project.rows() == ["a.txt", "b.txt"]
    assert [file.closed for file in views.UPLOADED] == [True, True]


def form(name: str, content: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A form with a file, and its headers."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\nT\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'
        b"%s\r\n--b--\r\n"
    ) % (name.encode(), content)
    return body, [(b"content-type", b"multipart/form-data; boundary=b")]


# What is a thread's, or a context's ---------------------------------------------------------------


def test_nothing_is_left_for_the_next_call(project: Project) -> None:
    """Language, time zone, urlconf and script prefix are set anew for each call."""
    answer = project.batch("GET /odd/tell", "POST /odd/leave-behind", "GET /odd/tell")
    assert answer.outcome == "committed"
    before, _, after = (reply.body for reply in answer.replies)
    assert json.loads(before)["language"] == "en"
    assert json.loads(before) == json.loads(after)
    assert json.loads(project.plain("GET /odd/tell").body)["language"] == "en"


def test_nothing_is_left_of_earlier_requests(project: Project) -> None:
    """A server's thread keeps the time zone that a request has set; a call begins without it."""
    try:
        project.plain("POST /odd/leave-behind")
        told = json.loads(project.batch("GET /odd/tell").replies[0].body)
    finally:
        timezone.deactivate()
    assert told["zone"] == timezone.get_default_timezone_name()


def test_all_sync_code_of_a_batch_shares_a_thread(project: Project) -> None:
    """As that of a request does: Django's connections belong to it."""
    answer = project.batch("GET /odd/tell", "GET /async-items", "GET /odd/tell")
    threads = {json.loads(reply.body)["thread"] for reply in answer.replies[::2]}
    assert len(threads) == 1


def test_each_call_begins_and_ends_as_a_request_does(project: Project) -> None:
    """Django's signals are sent around each call; the batch request has its own around them."""
    told: list[str] = []

    def started(**_: Any) -> None:
        told.append("started")

    def finished(**_: Any) -> None:
        told.append("finished")

    signals.request_started.connect(started)
    signals.request_finished.connect(finished)
    try:
        project.batch("GET /echo", "GET /async-items")
    finally:
        signals.request_started.disconnect(started)
        signals.request_finished.disconnect(finished)
    assert told == ["started", *["started", "finished"] * 2, "finished"]


def test_queries_are_counted_for_each_call(project: Project) -> None:
    """With DEBUG, Django forgets a request's queries when the next one begins."""
    with Project.behind(project.gateway, project.database, DEBUG=True) as other:
        answer = other.batch("POST /items pen", "GET /odd/tell")
    assert json.loads(answer.replies[1].body)["queries"] == 0


# Where the project is mounted ---------------------------------------------------------------------


def test_below_a_prefix(project: Project) -> None:
    """Calls are written as clients write their other requests: with the prefix."""
    where = {"path": "/shop/v1/api/batch", "root_path": "/shop"}
    answer = project.batch("GET /shop/echo", "GET /shop/odd/tell", **where)
    assert answer.statuses == [200, 200]
    told, in_force = (json.loads(reply.body) for reply in answer.replies)
    assert (told["path"], told["script"]) == ("/shop/echo", "/shop")
    assert (in_force["prefix"], in_force["reversed"]) == ("/shop/", "/shop/odd/tell")


def test_below_a_prefix_that_only_django_knows(project: Project) -> None:
    """FORCE_SCRIPT_NAME is what clients write, although a proxy takes it away."""
    forced = {"FORCE_SCRIPT_NAME": "/shop"}
    with Project.behind(project.gateway, project.database, **forced) as other:
        answer = other.batch("GET /shop/echo")
    assert answer.statuses == [200]
    told = json.loads(answer.replies[0].body)
    assert (told["path"], told["script"]) == ("/shop/echo", "/shop")


def test_the_environ_is_the_calls_own(project: Project) -> None:
    """The target is the call's; what a server has put there for the batch request is not passed."""
    told = json.loads(project.batch("GET /echo?a=%20").replies[0].body)
    if project.gateway == "wsgi":
        assert told["target"] == "/echo?a=%20"
    assert {name.partition(".")[0] for name in told["meta"]} == {"wsgi"}
    assert "wsgi.file_wrapper" not in told["meta"]


def test_a_path_that_is_not_ascii(project: Project) -> None:
    """It is decoded once, also where it is the prefix's."""
    answer = project.batch("GET /%C3%A4", path="/v1/api/batch")
    assert answer.statuses == [404]
    where: dict[str, Any] = {"path": "/ä/v1/api/batch", "root_path": "/ä"}
    if project.gateway == "wsgi":
        where = {name: text.encode().decode("latin-1") for name, text in where.items()}
    else:
        where["raw_path"] = b"/%C3%A4/v1/api/batch"
    answer = project.ask(call("GET", "/%C3%A4/echo"), **where)
    assert json.loads(answer.replies[0].body)["path"] == "/ä/echo"
