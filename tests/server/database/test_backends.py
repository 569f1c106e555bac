"""Backends: what the drivers' connections are opened with."""

from __future__ import annotations

import socket

import pytest
import sqlalchemy as sa

from atomicbatch.server.database.backends import backend_for
from atomicbatch.server.http.serve import database_url as server_url


def with_options(url: str, **options: str) -> sa.URL:
    return server_url(url).update_query_dict(options)


def test_options_of_a_mysql_url_are_kept(mysql_url: str) -> None:
    """client_flag too, beside the flag that we need; and SQLAlchemy is asked for them once."""
    from pymysql.constants import CLIENT

    url = with_options(mysql_url, client_flag=str(CLIENT.IGNORE_SPACE), read_timeout="17")
    backend = backend_for(url, read_only=False)
    raw = backend.connect(reader=False)
    try:
        assert raw.client_flag & CLIENT.IGNORE_SPACE
        assert raw.client_flag & CLIENT.FOUND_ROWS
        assert raw._read_timeout == 17
        assert raw._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    finally:
        backend.close(raw)


def test_options_of_a_postgresql_url_are_kept(postgresql_url: str) -> None:
    """What the URL says of waiting outranks what we say."""
    url = with_options(postgresql_url, application_name="mine", keepalives_idle="77")
    backend = backend_for(url, read_only=False)
    raw = backend.connect(reader=False)
    try:
        given = raw.info.get_parameters()
        assert given["application_name"] == "mine"
        assert given["keepalives_idle"] == "77"
        assert given["keepalives_count"] == "4"
        assert given["connect_timeout"] == "5"
    finally:
        backend.close(raw)


@pytest.mark.parametrize("database", ["postgresql", "mysql"])
def test_the_kernel_notices_a_host_that_is_gone(
    database: str, request: pytest.FixtureRequest
) -> None:
    """After the same time whatever the driver is, also while data of ours is not acknowledged."""
    backend = backend_for(server_url(request.getfixturevalue(f"{database}_url")), read_only=False)
    raw = backend.connect(reader=False)
    try:
        own = backend.socket(raw)
        assert own is not None
        with own:
            assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            wanted = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
            wanted["TCP_USER_TIMEOUT"] = 30_000  # milliseconds; the others are seconds
            known = {name: getattr(socket, name) for name in wanted if hasattr(socket, name)}
            found = {
                name: own.getsockopt(socket.IPPROTO_TCP, option) for name, option in known.items()
            }
        assert found == {name: wanted[name] for name in known}
    finally:
        backend.close(raw)


@pytest.mark.parametrize("database", ["postgresql", "mysql"])
def test_connecting_makes_no_engine(
    database: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a connection nor an interruption asks SQLAlchemy for anything."""
    url = server_url(request.getfixturevalue(f"{database}_url"))
    backend = backend_for(url, read_only=False)

    def no_engine(*_: object, **__: object) -> None:
        raise AssertionError("an engine was made")

    monkeypatch.setattr(sa, "create_engine", no_engine)
    monkeypatch.setattr(sa.URL, "get_dialect", no_engine)
    raw = backend.connect(reader=False)
    backend.interrupt(raw)
    backend.close(raw)


def test_a_connection_that_has_read_a_long_row(postgresql_url: str) -> None:
    """libpq never gives back what a long row took: such a connection is not kept."""
    backend = backend_for(server_url(postgresql_url), read_only=False)
    raw = backend.connect(reader=False)
    try:
        short, long = "SELECT repeat('x', 1000)", "SELECT repeat('x', 6000000)"
        assert backend.one(raw, short, (), 10**8) == ("x" * 1000,)
        assert not backend.is_worn(raw)
        assert backend.one(raw, long, (), 10**8) == ("x" * 6_000_000,)
        assert backend.is_worn(raw)
    finally:
        backend.close(raw)
