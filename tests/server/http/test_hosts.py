"""Doors: requests for other hosts, and writes from other sites' pages, reach nothing."""

from __future__ import annotations

import socket
from typing import NamedTuple

import pytest

from atomicbatch.server.http.hosts import Hosts
from atomicbatch.wire.batch import write_batch
from tests.server.conftest import Serve
from tests.server.served import Served, call, make_shop


def status(hosts: Hosts, *headers: tuple[str, str], method: str = "POST") -> int | None:
    """What a request with these headers is refused with."""
    sent = [(name.encode(), value.encode()) for name, value in headers]
    refused = hosts.refusal(method, sent)
    return None if refused is None else refused.status


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LOCALHOST:1", "localhost.", "localhost.:8000"),
        *("127.0.0.1", "127.0.0.1:8000", "127.8.9.1", "[::1]", "[::1]:8000", "[0:0:0::1]"),
    ],
)
def test_loopback_names_are_always_taken(host: str) -> None:
    """Whatever the port: it may be a forwarded one."""
    assert status(Hosts(), ("host", host)) is None


@pytest.mark.parametrize(
    ("host", "told"),
    [
        *((f"{name}{port}", 421) for name in ("evil.example", "EVIL.") for port in ("", ":80")),
        *((name, 421) for name in ("localhost.evil.example", "evil.localhost", "127.0.0.1.evil")),
        *(
            (name, 421)
            for name in ("0.0.0.0", "0.0.0.0:8000", "192.0.2.1", "[::]", "[2001:db8::1]")
        ),
        *((name, 421) for name in ("127.1", "2130706433", "0x7f.0.0.1", "127.0.0.01")),
        *(
            (name, 400)
            for name in ("", ":8000", "user@localhost", "a:b@localhost:1", "localhost,x")
        ),
        *(
            (name, 400)
            for name in ("http://localhost", "localhost/x", "localhost:x", "localhost:1:2")
        ),
        *((name, 400) for name in (".", "..localhost", "[::1", "[::1%lo]", "[x]", "%6cocalhost")),
        *((name, 400) for name in ("localhost evil", "localhost\tx", "loc\x00alhost", "löcalhost")),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_hosts_are_refused(host: str, told: int, method: str) -> None:
    """Also for reads: a page whose name was rebound reads what it likes."""
    assert status(Hosts(), ("host", host), method=method) == told


def test_the_host_must_be_there_once() -> None:
    """No Host, and several, leave it open whom a proxy took the request to be for."""
    assert status(Hosts(), method="GET") == 400
    assert status(Hosts(), ("host", "localhost"), ("host", "localhost"), method="GET") == 400


def test_names_are_allowed_one_by_one() -> None:
    """With a port that one only, without one any."""
    hosts = Hosts(
        "shop.example", ["api.example", "Old.Example:8080", "2001:db8::1", "[2001:DB8::2]:9"]
    )
    for taken in (
        *("shop.example", "shop.example:1", "API.example.", "api.example:99", "old.example:8080"),
        *("[2001:db8:0::1]:5", "[2001:db8::2]:9", "localhost"),
    ):
        assert status(hosts, ("host", taken)) is None, taken
    for other in (
        "old.example",
        "old.example:80",
        "x.api.example",
        "[2001:db8::2]",
        "api.example.org",
    ):
        assert status(hosts, ("host", other)) == 421, other


def test_listening_everywhere_takes_addresses_but_no_names() -> None:
    """A page that was reached by an address comes from there; a name may be anybody's."""
    for everywhere in ("0.0.0.0", "::"):
        hosts = Hosts(everywhere)
        assert status(hosts, ("host", "192.0.2.1:8000")) is None
        assert status(hosts, ("host", "[2001:db8::1]")) is None
        assert status(hosts, ("host", "evil.example")) == 421


@pytest.mark.parametrize(
    "name", ["", "http://x", "x/y", "a@b", "*", "*.example.org", "x:99999999", "ü"]
)
def test_what_is_no_host_cannot_be_allowed(name: str) -> None:
    """Rather a message at start than a server that answers nobody."""
    with pytest.raises(ValueError, match="not a host"):
        Hosts("127.0.0.1", [name])


HOST = ("host", "localhost:8000")


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([], None),
        ([("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")], None),
        ([("origin", "HTTP://LOCALHOST:8000")], None),
        ([("sec-fetch-site", "none")], None),
        ([("origin", "null")], 403),
        ([("origin", "")], 403),
        ([("origin", "http://localhost")], 403),
        ([("origin", "http://localhost:3000")], 403),
        ([("origin", "http://127.0.0.1:8000")], 403),
        ([("origin", "http://evil.example:8000")], 403),
        ([("origin", "ftp://localhost:8000")], 403),
        ([("origin", "localhost:8000")], 403),
        ([("origin", "http://localhost:8000/")], 403),
        ([("origin", "http://localhost:8000 http://evil.example")], 403),
        ([("origin", "http://localhost:8000"), ("origin", "http://evil.example")], 403),
        ([("sec-fetch-site", "cross-site")], 403),
        ([("sec-fetch-site", "same-site")], 403),
        ([("sec-fetch-site", "Cross-Site")], 403),
        ([("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], 403),
        ([("sec-fetch-site", "something-new")], 403),
    ],
)
def test_writes_come_from_our_own_pages(headers: list[tuple[str, str]], told: int | None) -> None:
    """Origin and Sec-Fetch-Site say where a browser's write comes from; both must be ours."""
    for method in ("POST", "PUT", "PATCH", "DELETE", "ANYTHING"):
        assert status(Hosts(), HOST, *headers, method=method) == told
    for method in ("GET", "HEAD", "OPTIONS"):
        assert status(Hosts(), HOST, *headers, method=method) is None


def test_the_port_of_an_origin_may_be_left_out() -> None:
    """80 and 443 are what no port means; behind a proxy with TLS pages are https."""
    hosts = Hosts("127.0.0.1", ["shop.example"])
    assert status(hosts, ("host", "shop.example"), ("origin", "https://shop.example")) is None
    assert status(hosts, ("host", "shop.example:443"), ("origin", "https://shop.example")) is None
    assert status(hosts, ("host", "shop.example"), ("origin", "http://shop.example:80")) is None
    assert status(hosts, ("host", "shop.example"), ("origin", "http://shop.example:81")) == 403


class Answer(NamedTuple):
    """The status and headers (lower-case) of a response, and its body."""

    status: int
    headers: bytes
    body: bytes


def ask(served: Served, request: bytes) -> Answer:
    """Send bytes as they are."""
    with socket.create_connection(("127.0.0.1", served.port), 20) as wire:
        wire.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            more = wire.recv(65536)
            assert more, received
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        return Answer(int(head.split(b" ")[1]), head.lower(), body)


def batch_of(*calls: object) -> tuple[bytes, bytes]:
    content_type, body = write_batch(list(calls))  # type: ignore[arg-type]
    return content_type, body


@pytest.fixture
def sqlite_shop(sqlite_path: object, serve: Serve) -> Served:
    """The shop, served, on SQLite: doors are the same before every database."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    return serve(url)


def test_nothing_runs_for_another_host(sqlite_shop: Served) -> None:
    """Plain requests and batches alike, in the request's line as in the header."""
    item = b'{"sku":"evil","name":"evil"}'
    content_type, batch = batch_of(call("POST", "/v1/api/items", {"sku": "e2", "name": "e"}))
    for target, hosts, told in (
        (b"", b"Host: evil.example\r\n", 421),
        (b"http://evil.example", b"Host: localhost\r\n", 400),
        (b"http://evil.example", b"Host: evil.example\r\n", 421),
        (b"http://localhost", b"Host: evil.example\r\n", 400),
        (b"http://u:p@localhost", b"Host: localhost\r\n", 400),
        (b"ftp://localhost", b"Host: localhost\r\n", 400),
        (b"", b"", 400),
    ):
        for version in (b"1.1", b"1.0"):
            plain = ask(
                sqlite_shop,
                b"POST %b/v1/api/items HTTP/%b\r\n%bContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (target, version, hosts, len(item), item),
            )
            assert plain.status == told, (target, hosts, plain)
            many = ask(
                sqlite_shop,
                b"POST %b/v1/api/batch HTTP/%b\r\n%bContent-Type: %b\r\n"
                b"Content-Length: %d\r\n\r\n%b"
                % (target, version, hosts, content_type, len(batch), batch),
            )
            assert many.status == told, (target, hosts, many)
            assert b"batch-outcome: not-started" in many.headers
            read = b"GET %b/v1/api/items HTTP/%b\r\n%b\r\n" % (target, version, hosts)
            assert ask(sqlite_shop, read).status == told
    wrong = ask(sqlite_shop, b"GET /healthz HTTP/1.1\r\nHost: evil.example:80\r\n\r\n")
    assert b"--allowed-host evil.example" in wrong.body
    assert sqlite_shop.rows("SELECT count(*) FROM items") == [(3,)]


def test_a_request_line_may_name_our_own_host(sqlite_shop: Served) -> None:
    """Clients behind a proxy write whole URLs; RFC 9112 section 3.2.2 has servers take them."""
    own = ask(
        sqlite_shop,
        b"GET http://localhost:9/v1/api/items/1?select=sku HTTP/1.1\r\nHost: localhost:9\r\n\r\n",
    )
    assert (own.status, own.body) == (200, b'{"sku":"tea"}')


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ],
)
def test_a_body_needs_the_content_type_of_json(
    sqlite_shop: Served, method: str, content_type: str | None
) -> None:
    """What a page can send without asking (fetch no-cors, sendBeacon, forms) is taken nowhere."""
    path = "/v1/api/items" if method == "POST" else "/v1/api/items/1"
    body = b'{"sku": "evil", "name": "evil"}'
    headers = {} if content_type is None else {"content-type": content_type}
    plain = sqlite_shop.client.request(method, path, content=body, headers=headers)
    assert plain.status_code == 415, plain.text
    assert plain.json()["type"] == "urn:atomicbatch:problem:unsupported-media-type"
    inner = call(method, path)._replace(
        body=body, headers=tuple((n.encode(), v.encode()) for n, v in headers.items())
    )
    response, replies = sqlite_shop.batch(call("GET", "/v1/api/items/1"), inner)
    assert response.headers["batch-outcome"] == "rolled-back; failed=2; status=415"
    assert replies[1].status == 415
    assert sqlite_shop.rows("SELECT count(*) FROM items WHERE sku = 'evil'") == [(0,)]


def test_a_browser_is_given_no_cross_origin_rights(sqlite_shop: Served) -> None:
    """No answer has a CORS header, and a header that would change the method is refused."""
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for path in ("/v1/api/batch", "/v1/api/items", "/"):
        asked = sqlite_shop.client.options(path, headers=headers)
        read = sqlite_shop.client.get(path, headers=headers)
        for response in (asked, read):
            assert not [name for name in response.headers if name.startswith("access-control")]
    override = {"x-http-method-override": "DELETE", "x-http-method": "DELETE"}
    assert sqlite_shop.client.get("/v1/api/items/1", headers=override).status_code == 400
    assert sqlite_shop.rows("SELECT count(*) FROM items") == [(3,)]
