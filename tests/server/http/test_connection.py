"""Connections by raw sockets: what is taken, in which order, and where each bound is."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atomicbatch.limits import Limits, ServerLimits
from tests.server.conftest import Serve
from tests.server.served import Served, make_shop, on_its_own, seen

HOST = b"Host: localhost\r\n"
GET = b"GET /v1/api/items/1?select=sku HTTP/1.1\r\n" + HOST
POST = b"POST /v1/api/items HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
ITEM = b'{"sku":"new","name":"new"}'


class Client:
    """A connection, and what has come by it."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self._received = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next response: status, headers in lower case, body."""
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", "0"))
        while len(self._received) < length:
            self._more()
        body, self._received = self._received[:length], self._received[length:]
        return int(lines[0].split(" ")[1]), headers, body

    def _more(self) -> None:
        data = self.socket.recv(262144)
        assert data, f"the connection was closed after {self._received!r}"
        self._received += data

    def closed(self) -> bool:
        """Whether the server has closed the connection, once it has nothing more to say."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def hang_up(self) -> None:
        self.socket.close()


Connect = Callable[..., Client]


@pytest.fixture
def url(sqlite_path: Path) -> str:
    made = f"sqlite:///{sqlite_path}"
    make_shop(made)
    return made


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect to a server: ``connect(served)``."""
    with contextlib.ExitStack() as stack:

        def one(served: Served, **options: Any) -> Client:
            client = Client(served.port, **options)
            stack.callback(client.hang_up)
            return client

        yield one


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)


def problem(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str, str | None]:
    """The status of a problem, its slug, and the limit that it names."""
    status, headers, body = answer
    assert headers["content-type"] == "application/problem+json"
    document = json.loads(body)
    assert document["status"] == status
    return status, document["type"].rpartition(":")[2], document.get("limit")


def test_answers_come_in_the_order_of_the_requests(
    url: str, serve: Serve, connect: Connect
) -> None:
    """Sent in one go or byte by byte; what is no request comes after what was one."""
    served = serve(url)
    requests = [
        GET + b"\r\n",
        POST + b"Content-Length: %d\r\n\r\n%b" % (len(ITEM), ITEM),
        POST.replace(b"items", b"nowhere") + b"Transfer-Encoding: chunked\r\n\r\n"
        b"2;x=y\r\n{}\r\n0\r\nTrailer: t\r\n\r\n",
        b"HEAD /v1/api/items/1 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"BLAH\r\n\r\n",
    ]
    for pieces in ([b"".join(requests)], [bytes([byte]) for byte in b"".join(requests)]):
        on_its_own(url, "DELETE FROM items WHERE sku = 'new'")
        client = connect(served)
        for piece in pieces:
            client.send(piece)
        assert client.answer()[2] == b'{"sku":"tea"}'
        assert client.answer()[0] == 201
        assert client.answer()[0] == 404
        while b"\r\n\r\n" not in client._received:
            client._more()
        head, _, client._received = client._received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert problem(client.answer()) == (400, "malformed-request", None)
        assert client.closed()


def test_many_requests_in_one_go(url: str, serve: Serve, connect: Connect) -> None:
    """More than wait at once: the rest is read when it is their turn."""
    client = connect(serve(url))
    count = 500
    sender = threading.Thread(target=client.send, args=((GET + b"\r\n") * count,))
    sender.start()
    assert {client.answer()[2] for _ in range(count)} == {b'{"sku":"tea"}'}
    sender.join()


def test_connections_end_as_the_client_says(url: str, serve: Serve, connect: Connect) -> None:
    """HTTP/1.0 and Connection: close end it, HTTP/1.1 keeps it."""
    served = serve(url)
    for request in (GET + b"Connection: close\r\n\r\n", GET.replace(b"1.1", b"1.0") + b"\r\n"):
        client = connect(served)
        client.send(request)
        assert client.answer()[1]["connection"] == "close"
        assert client.closed()
    client = connect(served)
    for _ in range(3):
        client.send(GET + b"\r\n")
        assert "connection" not in client.answer()[1]


def test_a_client_that_waits_for_100_is_told_to_go_on(
    url: str, serve: Serve, connect: Connect
) -> None:
    """Unless the head is enough to refuse it; then its body never comes."""
    served = serve(url, limits=Limits(max_body_bytes=1000))
    client = connect(served)
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(ITEM))
    assert client.answer()[0] == 100
    client.send(ITEM)
    assert client.answer()[0] == 201
    client = connect(served)
    batch = b"POST /v1/api/batch HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\n"
    client.send(batch + b"Expect: 100-continue\r\nContent-Length: 9999\r\n\r\n")
    status, headers, _ = client.answer()
    assert (status, headers["connection"]) == (415, "close")
    assert client.closed()


def test_blanks_behind_a_header_are_none_of_it(url: str, serve: Serve, connect: Connect) -> None:
    """RFC 9112, section 5.1: the server's doors, its framing and the calls of a batch see none."""
    client = connect(serve(url))
    head = b"POST /v1/api/items HTTP/1.1\r\nHost: localhost \t\r\nOrigin: http://localhost \r\n"
    head += b"Content-Type: application/json \r\nExpect: 100-continue \r\n"
    client.send(head + b"Content-Length: %d \r\n\r\n" % len(ITEM))
    assert client.answer()[0] == 100
    client.send(ITEM)
    assert client.answer()[0] == 201
    chunk = b'10\r\n{"name":"again"}'
    head = b"PATCH /v1/api/items?sku=eq.new HTTP/1.1\r\n" + HOST
    head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked  \r\n\r\n"
    client.send(head + chunk + b"\r\n0\r\n\r\n" + GET + b"Connection: close \r\n\r\n")
    assert client.answer()[0] == 200
    assert client.answer()[0] == 200
    assert client.closed()
    assert seen(url, "SELECT name FROM items WHERE sku = 'new'") == [("again",)]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_wish_for_http_2_does_not_lose_the_body(
    url: str, serve: Serve, connect: Connect, chunked: bool
) -> None:
    """Java's client asks with each first request; the body is the request's all the same."""
    client = connect(serve(url))
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAE\r\n"
    if chunked:
        framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ITEM), ITEM)
    else:
        framed = b"Content-Length: %d\r\n\r\n%b" % (len(ITEM), ITEM)
    client.send(GET + wish + b"\r\n" + POST + wish + framed + GET + b"\r\n")
    assert client.answer()[2] == b'{"sku":"tea"}'
    assert client.answer()[0] == 201
    assert client.answer()[2] == b'{"sku":"tea"}'
    assert seen(url, "SELECT name FROM items WHERE sku = 'new'") == [("new",)]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /v1/api/items?id=eq.1#x HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /v1/api/items HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET /v1/api/items HTTP/0.9\r\n" + HOST + b"\r\n",
        b"GET /v1/api/items\r\n" + HOST + b"\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\xc3\xbc HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"A: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        # A proxy in front may decode these, and see another body than we would.
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: ,chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Upgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_is_told(
    url: str, serve: Serve, connect: Connect, request_: bytes
) -> None:
    """400 as a problem, and the connection ends; nothing of it is guessed."""
    client = connect(serve(url))
    client.send(request_)
    answer = client.answer()
    assert problem(answer) == (400, "malformed-request", None)
    assert answer[1]["batch-outcome"] == "not-started"
    assert client.closed()


def test_a_head_is_bounded_in_bytes(url: str, serve: Serve, connect: Connect) -> None:
    """One long line, many lines, a long target, in one piece or many: 431, and nothing is kept."""
    served = serve(url, server_limits=ServerLimits(max_head_bytes=4000))
    fits = GET + b"A: " + b"a" * 3000 + b"\r\n\r\n"
    for head in (
        GET + b"A: " + b"a" * 5000 + b"\r\n\r\n",
        GET + b"A: b\r\n" * 900 + b"\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        GET + b"a" * 5000 + b": b\r\n\r\n",
    ):
        # As a whole, in pieces, and without its end: it must not be waited for.
        for sent, size in ((head, len(head)), (head, 700), (head[:-4], 700)):
            client = connect(served)
            with contextlib.suppress(OSError):  # it may be cut before all is sent
                for start in range(0, len(sent), size):
                    client.send(sent[start : start + size])
                    time.sleep(0.002)  # so that it comes in pieces
            assert problem(client.answer()) == (431, "limit-exceeded", "max_head_bytes")
            assert client.closed()
    client = connect(served)
    client.send(fits)
    assert client.answer()[0] == 200


def test_an_endless_head_is_cut(url: str, serve: Serve, connect: Connect) -> None:
    """A client that sends on and on is answered, read for a while longer, and cut off."""
    client = connect(serve(url))
    client.send(GET + b"A: ")
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() < began + 20:
            client.socket.sendall(b"a" * 65536)
    assert time.monotonic() < began + 15, "the client was never stopped"


@pytest.mark.parametrize(
    "framing",
    [
        b"1;" + b"x" * 300_000,
        b"1\r\n{\r\n0\r\n" + b"A: b\r\n" * 60_000,
        b"0\r\nA: " + b"b" * 300_000,
    ],
)
def test_what_is_around_a_body_is_bounded(
    url: str, serve: Serve, connect: Connect, framing: bytes
) -> None:
    """Extensions of chunks and trailers count as little as the head's bytes may be many."""
    client = connect(serve(url))
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(OSError):
        for start in range(0, len(framing), 20_000):
            client.send(framing[start : start + 20_000])
            time.sleep(0.002)
    assert problem(client.answer()) == (400, "malformed-request", None)
    assert client.closed()


def test_a_head_is_bounded_in_time(url: str, serve: Serve, connect: Connect) -> None:
    """408 for a head that does not come, also if a byte comes now and then."""
    served = serve(url, server_limits=ServerLimits(head_seconds=0.5))
    silent, slow = connect(served), connect(served)
    silent.send(GET)
    began = time.monotonic()
    with contextlib.suppress(OSError):
        for byte in GET * 10:
            slow.send(bytes([byte]))
            time.sleep(0.05)
            if slow.socket in _readable(slow):
                break
    assert time.monotonic() - began < 10
    for client in (silent, slow):
        assert problem(client.answer()) == (408, "timeout", None)
        assert client.closed()


def _readable(client: Client) -> list[Any]:
    import select

    return select.select([client.socket], [], [], 0)[0]


def test_a_connection_without_requests_is_closed(url: str, serve: Serve, connect: Connect) -> None:
    """From the beginning and between requests; empty lines keep it no longer."""
    served = serve(url, server_limits=ServerLimits(idle_seconds=0.5))
    fresh, used, lines = connect(served), connect(served), connect(served)
    used.send(GET + b"\r\n")
    assert used.answer()[0] == 200
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() < began + 10:
            lines.send(b"\r\n")
            time.sleep(0.05)
    assert time.monotonic() - began < 9, "empty lines keep a connection open"
    assert fresh.closed()
    assert used.closed()


def test_connections_are_bounded(url: str, serve: Serve, connect: Connect) -> None:
    """One too many is told when to come again, and the others are served."""
    served = serve(url, server_limits=ServerLimits(max_connections=3))
    clients = [connect(served) for _ in range(3)]
    for client in clients:
        client.send(GET + b"\r\n")
        assert client.answer()[0] == 200
    late = connect(served)
    answer = late.answer()
    assert problem(answer) == (503, "server-busy", "max_connections")
    assert answer[1]["retry-after"] == "1"
    assert late.closed()
    late.hang_up()
    clients.pop().hang_up()
    until(lambda: len(served.traffic.connections) < 3)
    for client in (connect(served), clients[0]):
        client.send(GET + b"\r\n")
        assert client.answer()[0] == 200


def test_uploads_are_bounded_together(url: str, serve: Serve, connect: Connect) -> None:
    """Bodies that are held come to no more than the bound; who is over it is told, and why."""
    bound = 300_000
    served = serve(
        url,
        limits=Limits(max_body_bytes=200_000),
        server_limits=ServerLimits(max_upload_bytes=bound),
    )
    held = connect(served)
    held.send(POST + b"Content-Length: 180001\r\n\r\n" + b" " * 180_000)
    until(lambda: served.traffic.upload_bytes == 180_000)
    for path in (b"/v1/api/items", b"/v1/api/batch"):
        late = connect(served)
        head = b"POST %b HTTP/1.1\r\n%bContent-Type: multipart/mixed; boundary=b\r\n" % (path, HOST)
        late.send(head + b"Content-Length: 190000\r\n\r\n" + b" " * 150_000)
        answer = late.answer()
        assert problem(answer) == (503, "server-busy", "max_upload_bytes")
        assert answer[1]["retry-after"] == "1"
        assert late.closed()
        late.hang_up()
    until(lambda: served.traffic.upload_bytes == 180_000)
    held.hang_up()
    until(lambda: served.traffic.upload_bytes == 0)
    again = connect(served)
    again.send(POST + b"Content-Length: 190000\r\n\r\n" + ITEM.ljust(190_000))
    assert again.answer()[0] == 201
    until(lambda: served.traffic.upload_bytes == 0)


def test_requests_are_bounded_together(
    url: str, sqlite_path: Path, serve: Serve, connect: Connect
) -> None:
    """What waits for the database is counted; one too many is 503, and /healthz still answers."""
    served = serve(url, server_limits=ServerLimits(max_requests=2))
    with contextlib.closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [connect(served) for _ in range(2)]
        for number, client in enumerate(waiting):
            body = ITEM.replace(b"new", b"w%d" % number)
            client.send(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        until(lambda: len(served.traffic.running) == 2)
        late = connect(served)
        late.send(b"POST /v1/api/batch HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n")
        answer = late.answer()
        assert problem(answer) == (503, "server-busy", "max_requests")
        assert (answer[1]["retry-after"], answer[1]["batch-outcome"]) == ("1", "not-started")
        assert served.client.get("/healthz").status_code == 200
        other.execute("ROLLBACK")
    assert [client.answer()[0] for client in waiting] == [201, 201]


def test_a_client_that_does_not_read_is_cut_off(url: str, serve: Serve, connect: Connect) -> None:
    """Its answer is not kept for ever, and while much is kept, no request is taken."""
    on_its_own(url, "CREATE TABLE big (id INTEGER PRIMARY KEY, text TEXT)")
    for number in range(4):
        on_its_own(url, f"INSERT INTO big VALUES ({number}, hex(zeroblob(2000000)))")
    served = serve(url, server_limits=ServerLimits(write_seconds=1, max_unsent_bytes=8_000_000))
    client = connect(served, receive_buffer=4096)
    client.send(b"GET /v1/api/big HTTP/1.1\r\n" + HOST + b"\r\n")
    until(lambda: served.traffic.unsent_bytes > 8_000_000)
    answer = served.client.get("/v1/api/items/1")
    assert (answer.status_code, answer.json()["limit"]) == (503, "max_unsent_bytes")
    assert served.client.get("/healthz").status_code == 200
    until(lambda: served.traffic.unsent_bytes == 0)
    assert len(served.traffic.connections) == 1
    with contextlib.suppress(ConnectionResetError):
        received = 0
        while data := client.socket.recv(1 << 20):
            received += len(data)
        assert received < 16_000_000, "the whole answer came although nobody read it"
    assert served.client.get("/v1/api/items/1").status_code == 200


def test_answers_that_nobody_takes_are_bounded_together(
    url: str, serve: Serve, connect: Connect
) -> None:
    """Also where all of them were asked for before the first was there."""
    on_its_own(url, "CREATE TABLE big (id INTEGER PRIMARY KEY, text TEXT)")
    on_its_own(url, "INSERT INTO big VALUES (1, hex(zeroblob(2000000)))")
    served = serve(url, server_limits=ServerLimits(max_unsent_bytes=9_000_000, max_readers=1))
    clients = [connect(served, receive_buffer=4096) for _ in range(20)]
    for client in clients:
        client.send(b"GET /v1/api/big/1 HTTP/1.1\r\n" + HOST + b"\r\n")
    first = [client.socket.recv(12) for client in clients]
    assert served.traffic.unsent_bytes < 9_000_000 + 2 * 4_000_000
    assert set(first) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}


def test_a_slow_reader_gets_its_answer(url: str, serve: Serve, connect: Connect) -> None:
    """Whoever takes a part of it now and then is waited for, longer than ``write_seconds``."""
    on_its_own(url, "CREATE TABLE big (id INTEGER PRIMARY KEY, text TEXT)")
    on_its_own(url, "INSERT INTO big VALUES (1, hex(zeroblob(5000000)))")
    served = serve(url, server_limits=ServerLimits(write_seconds=1))
    client = connect(served, receive_buffer=65536)
    client.send(b"GET /v1/api/big/1 HTTP/1.1\r\n" + HOST + b"\r\n")
    received, began = 0, time.monotonic()
    while received < 10_000_000:
        data = client.socket.recv(262144)
        assert data, f"cut off after {received} bytes"
        received += len(data)
        time.sleep(0.03)
    assert time.monotonic() - began > 1.5, "too fast to mean anything"


def test_whatever_comes_leaves_nothing_behind(
    url: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests cut, repeated, flipped and mixed at random: no error of ours, nothing held."""
    rng = random.Random(8)
    served = serve(url, server_limits=ServerLimits(max_head_bytes=2000, head_seconds=5))
    body = b"--b\r\n\r\nGET /v1/api/items/1 HTTP/1.1\r\n\r\n--b--"
    parts = [
        GET + b"\r\n",
        GET + b"Connection: close\r\n\r\n",
        GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
        POST + b"Content-Length: 2\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nT: x\r\n\r\n",
        POST + b"Expect: 100-continue\r\nContent-Length: 500\r\n\r\n" + b" " * 500,
        b"POST /v1/api/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n%b" % (len(body), body),
        b"A: " + b"a" * 1900,
        b"\r\n\r\n",
        b"http://localhost/x",
    ]
    for _ in range(400):
        data = bytearray(b"".join(rng.choices(parts, k=rng.randint(1, 30))))
        for _ in range(rng.choice((0, 0, 1, 3))):
            place = rng.randrange(len(data) + 1)
            data[place : place + rng.randint(0, 9)] = rng.randbytes(rng.randint(0, 3))
        client = Client(served.port)
        with contextlib.suppress(OSError):
            while data:
                size = rng.choice((1, 20, 300, 5000, 100_000))
                client.send(bytes(data[:size]))
                del data[:size]
            if rng.random() < 0.5:
                client.socket.settimeout(0.01)
                client.socket.recv(100_000)
        client.hang_up()
    assert served.client.get("/v1/api/items/1").status_code == 200
    until(lambda: len(served.traffic.connections) == 1 and not served.traffic.running)
    assert (served.traffic.upload_bytes, served.traffic.unsent_bytes) == (0, 0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_hang_up_interrupts_a_plain_request(
    request: pytest.FixtureRequest, kind: str, serve: Serve, connect: Connect
) -> None:
    """The statement of a client that is gone does not run on."""
    url = request.getfixturevalue(f"{kind}_url")
    sleep = {"postgresql": "pg_sleep(60)::text", "mysql": "sleep(60)"}[kind]
    on_its_own(url, f"CREATE VIEW slow AS SELECT {sleep} AS s")
    active = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND strpos(query, 'slow') > 0 AND pid <> pg_backend_pid()"
        " AND datname = current_database()",
        "mysql": "SELECT count(*) FROM information_schema.processlist"
        " WHERE instr(info, 'slow') > 0 AND id <> connection_id() AND db = database()",
    }[kind]
    served = serve(url)
    client = connect(served)
    client.send(b"GET /v1/api/slow HTTP/1.1\r\n" + HOST + b"\r\n")
    until(lambda: served.rows(active) == [(1,)])
    client.hang_up()
    until(lambda: served.rows(active) == [(0,)])
    until(lambda: not served.traffic.running)
