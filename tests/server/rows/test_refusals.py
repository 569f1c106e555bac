"""Every bad body of the corpus, sent to a real server: the exact status, and nothing runs."""

from __future__ import annotations

import gzip
import socket
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from atomicbatch.limits import Limits
from tests.server.conftest import Serve
from tests.server.served import Served, call, make_shop

CORPUS = Path(__file__).parents[2] / "corpus"
# Where header lines are bounded tightly, the outer request's own are too many already.
BAD = [
    case
    for case in tomllib.loads((CORPUS / "index.toml").read_text())["bad"]
    if "max_header_lines" not in case.get("limits", {})
]
WRITES = (
    b"--b\r\n\r\nPOST /v1/api/items HTTP/1.1\r\nContent-Type: application/json\r\n\r\n"
    b'{"sku": "jam", "name": "Jam"}\r\n'
)


@pytest.fixture
def shop(sqlite_path: Path, serve: Serve) -> Served:
    """The shop on SQLite."""
    make_shop(f"sqlite:///{sqlite_path}")
    return serve(f"sqlite:///{sqlite_path}")


def refused(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem of a batch that did not run."""
    assert response.status_code == status, response.text
    assert response.headers["batch-outcome"] == "not-started"
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (document["type"], document["status"]) == (f"urn:atomicbatch:problem:{slug}", status)
    return document


SLUGS = {400: "malformed-batch", 413: "limit-exceeded", 415: "unsupported-media-type"}


@pytest.mark.parametrize("case", BAD, ids=lambda case: Path(case["file"]).stem)
def test_a_bad_body(case: dict[str, Any], sqlite_path: Path, serve: Serve) -> None:
    """Status, call (counted from 1) and offset are those of the index."""
    make_shop(f"sqlite:///{sqlite_path}")
    served = serve(f"sqlite:///{sqlite_path}", limits=Limits(**case.get("limits", {})))
    response = served.client.post(
        "/v1/api/batch",
        content=(CORPUS / case["file"]).read_bytes(),
        headers={"content-type": case["content_type"].encode("latin-1")},
    )
    document = refused(response, case["status"], SLUGS[case["status"]])
    if "call" in case:
        assert document["call"] == case["call"] + 1
    if "offset" in case:
        assert document["offset"] == case["offset"]


@pytest.mark.parametrize(
    "rest",
    [
        b"",  # no closing delimiter: the upload was cut off
        b"--b\r\n\r\nGET http://example.org/ HTTP/1.1\r\n\r\n--b--",
        b"--b\r\n\r\nPOST /v1/api/batch HTTP/1.1\r\n\r\n--b--",
        b"--b\r\n\r\nGET /a HTTP/1.1\r\nX : y\r\n\r\n--b--",
        b"--b\r\n\r\nGET /%2e%2e/etc HTTP/1.1\r\n\r\n--b--",
        b"--b\r\n\r\nPOST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nx\r\n--b--",
    ],
)
def test_a_good_call_before_a_bad_one_does_not_run(shop: Served, rest: bytes) -> None:
    """Malformed anywhere: nothing is stored."""
    headers = {"content-type": "multipart/mixed; boundary=b"}
    response = shop.client.post("/v1/api/batch", content=WRITES + rest, headers=headers)
    refused(response, 400, "malformed-batch")
    assert shop.rows("SELECT count(*) FROM items") == [(3,)]


def test_the_limits_are_named(sqlite_path: Path, serve: Serve) -> None:
    """Each bound that is passed is 413 with its name and value, after decompression too."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    limits = Limits(max_calls=2, max_body_bytes=2000, max_header_bytes=300, max_header_lines=5)
    served = serve(url, limits=limits)
    headers = {"content-type": "multipart/mixed; boundary=b"}
    call = b"--b\r\n\r\nGET /v1/api/items HTTP/1.1\r\n"
    bodies: dict[str, tuple[bytes, dict[str, str]]] = {
        "max_calls": ((call + b"\r\n") * 3 + b"--b--", {}),
        "max_body_bytes": (call + b"\r\n" + b"x" * 2000 + b"\r\n--b--", {}),
        "max_header_bytes": (call + b"A: " + b"x" * 400 + b"\r\n\r\n--b--", {}),
        "max_header_lines": (call + b"A: b\r\n" * 9 + b"\r\n--b--", {}),
    }
    bomb = gzip.compress(call + b"\r\n" + b"x" * 100_000 + b"\r\n--b--")
    assert len(bomb) < 2000
    for name, (body, extra) in [
        *bodies.items(),
        ("max_body_bytes", (bomb, {"content-encoding": "gzip"})),
    ]:
        response = served.client.post("/v1/api/batch", content=body, headers={**headers, **extra})
        document = refused(response, 413, "limit-exceeded")
        assert document["limit"] == name
        assert document["maximum"] == getattr(limits, name)
    assert served.request("GET", "/v1/api/items/1").status_code == 200


def test_a_plain_request_is_bounded_too(sqlite_path: Path, serve: Serve) -> None:
    """A body that is too long is 413, one that does not come in time 408; nothing is stored."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    served = serve(url, limits=Limits(max_body_bytes=1000, timeout_seconds=0.3))
    item = {"sku": "x", "name": "x", "note": "y" * 1000}
    response = served.request("POST", "/v1/api/items", item)
    assert (response.status_code, response.json()["limit"]) == (413, "max_body_bytes")
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.sendall(
            b"POST /v1/api/items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    assert served.rows("SELECT count(*) FROM items") == [(3,)]


def test_other_methods_and_media_types(shop: Served) -> None:
    """405 with Allow, 415 with Accept-Post, and OPTIONS tells the limits."""
    response = shop.client.get("/v1/api/batch")
    refused(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "POST, OPTIONS"
    response = shop.client.post("/v1/api/batch", json=[])
    refused(response, 415, "unsupported-media-type")
    assert response.headers["accept-post"] == "multipart/mixed"
    options = shop.client.options("/v1/api/batch")
    assert options.status_code == 200
    assert options.json()["limits"]["max_calls"] == 1000


def test_a_compressed_batch_and_response(shop: Served) -> None:
    """The outer request may be gzipped, and the response is compressed as a whole when asked."""
    body = gzip.compress(WRITES + b"--b\r\n\r\nGET /openapi.json HTTP/1.1\r\n\r\n--b--")
    headers = {"content-type": "multipart/mixed; boundary=b", "content-encoding": "gzip"}
    response = shop.client.post(
        "/v1/api/batch", content=body, headers={**headers, "accept-encoding": "gzip"}
    )
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["batch-outcome"] == "committed"
    assert b"Content-Encoding" not in response.content, "calls run with identity"
    assert shop.rows("SELECT count(*) FROM items") == [(4,)]


def test_outer_headers_and_query_apply_to_calls(shop: Served) -> None:
    """Prefer and select of the outer request reach each call; a call's own win."""
    calls = (
        b"--b\r\n\r\nGET /v1/api/items?id=eq.1 HTTP/1.1\r\n\r\n"
        b"--b\r\n\r\nGET /v1/api/items?select=sku&id=eq.1 HTTP/1.1\r\nPrefer: x\r\n\r\n--b--"
    )
    response = shop.client.post(
        "/v1/api/batch?select=id",
        content=calls,
        headers={"content-type": "multipart/mixed; boundary=b", "prefer": "count=exact"},
    )
    assert b'[{"id":1}]' in response.content
    assert b'[{"sku":"tea"}]' in response.content
    assert response.content.count(b"Content-Range: 0-0/1") == 1


UNHEARD = [
    ("x_http_method_override", "GET", "not-supported"),
    ("x_http_method", "DELETE", "not-supported"),
    ("x_method_override", "put", "not-supported"),
    ("idempotency_key", "k", "not-supported"),
    ("repeatability_request_id", "k", "not-supported"),
    ("range", "0-0", "not-supported"),
    ("content_range", "items 0-0/1", "not-supported"),
    ("if", "(<urn:x>)", "not-supported"),
    ("accept", "application/vnd.pgrst.object+json", "not-supported"),
    ("content_profile", "other", "not-supported"),
    ("batch_references", "1", "not-supported"),
    ("if_unmodified_since", "Tue, 24 Nov 2026 10:00:00 GMT", "invalid-precondition"),
    ("if_match", "tag", "invalid-precondition"),
    ("if_match", "", "invalid-precondition"),
    ("if_none_match", '*, "a"', "invalid-precondition"),
    ("if_none_match", "'*'", "invalid-precondition"),
    ("if_none_match", "**", "invalid-precondition"),
]
WRITE_CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/api/items", {"sku": "jam", "name": "Jam"}),
    ("PATCH", "/v1/api/items?id=eq.1", {"stock": 0}),
    ("PATCH", "/v1/api/items/1", {"stock": 0}),
    ("PUT", "/v1/api/items/1", {"sku": "jam", "name": "Jam"}),
    ("PUT", "/v1/api/items/9", {"sku": "jam", "name": "Jam"}),
    ("DELETE", "/v1/api/items?id=eq.1", None),
    ("DELETE", "/v1/api/items/1", None),
]


@pytest.mark.parametrize(("name", "value", "slug"), UNHEARD)
def test_a_header_that_is_not_listened_to(name: str, value: str, slug: str, shop: Served) -> None:
    """A write that relies on it is refused, alone and in a batch, and nothing is stored."""
    before = shop.rows("SELECT * FROM items ORDER BY id")
    header = (name.replace("_", "-").encode(), value.encode())
    for method, target, body in WRITE_CALLS:
        if value.upper() == method:
            continue
        alone = shop.request(method, target, body, **{name: value})
        assert alone.status_code == 400, (method, target)
        assert alone.json()["type"] == f"urn:atomicbatch:problem:{slug}"
        response, _ = shop.batch(call(method, target, body, headers=[header]))
        assert response.headers["batch-outcome"] in (
            "not-started",
            "rolled-back; failed=1; status=400",
        )
    assert shop.rows("SELECT * FROM items ORDER BY id") == before


def test_a_star_on_two_header_lines_is_no_tag(shop: Served) -> None:
    """Joined it is ``*, *``, which matches nothing where it is read as a list."""
    item = {"sku": "jam", "name": "Jam"}
    headers = [(b"if-none-match", b"*"), (b"if-none-match", b"*")]
    response, _ = shop.batch(call("PUT", "/v1/api/items/1", item, headers=headers))
    assert response.headers["batch-outcome"] == "rolled-back; failed=1; status=400"
    assert shop.rows("SELECT sku FROM items WHERE id = 1") == [("tea",)]


def test_a_read_may_say_what_it_likes(shop: Served) -> None:
    """What guards writes only does not stop a GET, nor what says what is so anyway."""
    headers = {"range": "0-0", "idempotency-key": "k", "x-http-method-override": "get"}
    assert shop.client.get("/v1/api/items/1", headers=headers).status_code == 200
    date = "Tue, 24 Nov 2026 10:00:00 GMT"
    tag = shop.client.get("/v1/api/items/1").headers["etag"]
    done = shop.request(
        "PATCH", "/v1/api/items/1", {"stock": 1}, if_match=tag, if_unmodified_since=date
    )
    assert done.status_code == 200


def test_a_list_that_has_changed_stops_the_writes_behind_it(shop: Served) -> None:
    """If-Match on a GET of many rows is 412 in a batch, and the batch rolls back."""
    tag = shop.client.get("/v1/api/items?id=lt.3").headers["etag"].encode()
    write = call("DELETE", "/v1/api/items/3")
    for expected in ("committed", "rolled-back; failed=1; status=412"):
        response, _ = shop.batch(
            call("GET", "/v1/api/items?id=lt.3", headers=[(b"if-match", tag)]), write
        )
        assert response.headers["batch-outcome"] == expected
        shop.request("PATCH", "/v1/api/items/1", {"stock": 77})
        write = call("DELETE", "/v1/api/items/2")
    assert shop.rows("SELECT id FROM items ORDER BY id") == [(1,), (2,)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_a_body_where_none_belongs(method: str, shop: Served) -> None:
    """It is mostly the next request, behind a broken delimiter: 400, alone and in a batch."""
    for target in ("/v1/api/items/1", "/v1/api/items?id=eq.1"):
        if method != "HEAD":
            alone = shop.client.request(method, target, content=b"x")
            assert alone.status_code == 400
            assert alone.json()["type"] == "urn:atomicbatch:problem:unexpected-body"
        swallowed = b"-b\r\n\r\nPOST /v1/api/items\r\n\r\n{}"
        response, replies = shop.batch(call(method, target)._replace(body=swallowed))
        assert response.headers["batch-outcome"] == "rolled-back; failed=1; status=400"
        assert replies[0].status == 400
    assert shop.rows("SELECT count(*) FROM items") == [(3,)]
    empty = shop.client.request(method, "/v1/api/items/1", headers={"content-length": "0"})
    assert empty.is_success
