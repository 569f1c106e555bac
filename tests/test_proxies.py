"""The proxy between client and server does what tests rely on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.proxies import At, Fault, Proxy, flipped, proxied


class Echo:
    """A server that answers each piece of what it gets by itself, and remembers all of it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.got = b""
        self.threads: list[threading.Thread] = []
        self.acceptor = threading.Thread(target=self._accept)
        self.acceptor.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                thread = threading.Thread(target=self._answer, args=(connection,))
                thread.start()
                self.threads.append(thread)

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                self.got += data
                connection.sendall(data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in (self.acceptor, *self.threads):
            thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), 5)
    connection.settimeout(5)
    return connection


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    answer = b""
    while len(answer) < len(data):
        piece = connection.recv(len(data) - len(answer))
        if not piece:
            break
        answer += piece
    return answer


def test_it_forwards_faithfully(proxy: Proxy) -> None:
    """Both ways, more than any buffer holds, and its end."""
    with connect(proxy) as connection:
        big = bytes(range(256)) * 4096
        sender = threading.Thread(target=connection.sendall, args=(big,))
        sender.start()
        answer = b""
        while len(answer) < len(big):
            answer += connection.recv(65536)
        sender.join()
        assert answer == big
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert proxy.connections == 1


def test_it_stops_and_goes_on(proxy: Proxy) -> None:
    """Nothing is lost while it has stopped, and a new connection is not answered meanwhile."""
    with connect(proxy) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.stop()
        connection.sendall(b"two")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(3)
        with connect(proxy) as second:
            second.sendall(b"three")
            second.settimeout(0.2)
            with pytest.raises(TimeoutError):
                second.recv(5)
            proxy.resume()
            second.settimeout(5)
            connection.settimeout(5)
            assert connection.recv(3) == b"two"
            assert second.recv(5) == b"three"


@pytest.mark.parametrize("at", At)
def test_when_stops_before_the_request_or_before_the_answer(
    proxy: Proxy, echo: Echo, at: At
) -> None:
    """The bytes that are waited for may come in pieces; the server has them or has not."""
    with connect(proxy) as connection:
        proxy.when(b"COMMIT", Fault.STOP, at=at)
        assert ask(connection, b"COM") == b"COM"
        assert not proxy.happened.is_set()
        connection.sendall(b"MIT;")
        assert proxy.happened.wait(5)
        assert echo.got == (b"COM" if at is At.REQUEST else b"COMMIT;")
        proxy.resume()
        assert connection.recv(4) == b"MIT;"


@pytest.mark.parametrize("at", At)
@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET])
def test_when_ends_the_connection(proxy: Proxy, echo: Echo, fault: Fault, at: At) -> None:
    """A dropped connection ends, a reset one is an error; other connections go on."""
    with connect(proxy) as connection, connect(proxy) as other:
        assert ask(other, b"here") == b"here"
        proxy.when(b"COMMIT", fault, at=at)
        connection.sendall(b"COMMIT")
        if fault is Fault.RESET:
            with pytest.raises(ConnectionResetError):
                connection.recv(6)
        else:
            assert connection.recv(6) == b""
        assert echo.got == (b"here" if at is At.REQUEST else b"hereCOMMIT")
        assert ask(other, b"here") == b"here"


def test_it_garbles_one_answer(proxy: Proxy) -> None:
    """Once, on the spot or when given bytes are sent, in the way that is given."""
    with connect(proxy) as connection:
        proxy.garble()
        assert ask(connection, b"abc") == flipped(b"abc")
        assert ask(connection, b"abc") == b"abc"
        proxy.when(b"COMMIT", Fault.GARBLE, at=At.ANSWER, garble=bytes.lower)
        assert ask(connection, b"COMMIT") == b"commit"
        assert ask(connection, b"COMMIT") == b"COMMIT"


def test_it_delays_answers(proxy: Proxy) -> None:
    """Until it is told to resume."""
    with connect(proxy) as connection:
        proxy.delay(0.2)
        started = time.monotonic()
        assert ask(connection, b"abc") == b"abc"
        assert time.monotonic() - started >= 0.2
        proxy.delay(60)
        proxy.resume()
        assert ask(connection, b"abc") == b"abc"


def test_it_ends_what_there_is(proxy: Proxy) -> None:
    """Dropped or reset, all at once; new connections are taken."""
    with connect(proxy) as connection, connect(proxy) as other:
        assert ask(connection, b"abc") == ask(other, b"abc") == b"abc"
        proxy.drop()
        assert connection.recv(1) == other.recv(1) == b""
    with connect(proxy) as connection:
        assert ask(connection, b"abc") == b"abc"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_new_connections_are_refused_or_not_answered(proxy: Proxy) -> None:
    """Those that there are go on."""
    with connect(proxy) as connection:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert ask(connection, b"abc") == b"abc"
        proxy.resume()
        proxy.silence()
        with connect(proxy) as silent:
            silent.sendall(b"abc")
            silent.settimeout(0.2)
            with pytest.raises(TimeoutError):
                silent.recv(1)
        assert ask(connection, b"abc") == b"abc"


def test_a_database_is_reached_through_it(postgresql_url: str) -> None:
    """The URL that ``proxied`` gives leads to the same database."""
    with proxied(postgresql_url) as (proxy, url):
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS x")
        assert proxy.connections == 1
    with psycopg.connect(postgresql_url) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
