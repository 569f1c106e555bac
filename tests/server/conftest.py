"""Fixtures: a database served by a real server on a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from atomicbatch.limits import Limits, ServerLimits
from atomicbatch.server.http.access_log import AccessLog
from atomicbatch.server.http.app import Application
from atomicbatch.server.http.running import Server
from atomicbatch.server.http.serve import database_url as server_url
from atomicbatch.server.http.serve import open_database
from atomicbatch.server.http.traffic import Traffic
from atomicbatch.server.principal import Identify, anonymous
from tests.server.every_type import POSTGRESQL_NEEDS, cases_of
from tests.server.served import Served, make_shop, on_its_own

Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a database: ``serve(url, limits=..., read_only=..., server_limits=..., log=...)``."""
    started: list[tuple[Served, threading.Thread]] = []

    def start(
        url: str,
        *,
        limits: Limits | None = None,
        read_only: bool = False,
        server_limits: ServerLimits | None = None,
        log: AccessLog | None = None,
        identify: Identify = anonymous,
    ) -> Served:
        database = open_database(server_url(url), read_only=read_only, limits=server_limits)
        ready = threading.Event()
        listener = socket.create_server(("127.0.0.1", 0))
        traffic = Traffic(server_limits or ServerLimits(), log)
        server = Server(
            Application(
                database, limits=limits, check_room=traffic.check_unsent, identify=identify
            ),
            listener,
            traffic,
            drain_seconds=20,
            ready=ready.set,
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        assert ready.wait(20), "the server did not start"
        served = Served(url, server, traffic, listener.getsockname()[1])
        started.append((served, thread))
        return served

    yield start
    for served, thread in started:
        served.client.close()
        served.server.stop()
        thread.join(25)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def shop(database_url: str, serve: Serve) -> Served:
    """The shop, served, on each kind of database."""
    make_shop(database_url)
    return serve(database_url)


@pytest.fixture
def everything(database_url: str, serve: Serve) -> Any:
    """A table for each type, with a row for each value; and the server."""
    kind = "postgresql" if "postgresql" in database_url else database_url.partition(":")[0]
    tables: dict[str, dict[int, str]] = {}
    names: dict[str, str] = {}
    statements = []
    for type_, value in cases_of(kind):
        table = names.setdefault(type_, f"t{len(names)}")
        rows = tables.setdefault(table, {})
        if not rows:
            statements.append(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v {type_})")
        rows[len(rows) + 1] = f"{type_}: {value}"
        statements.append(f"INSERT INTO {table} VALUES ({len(rows)}, {value})")
    if kind == "postgresql":
        on_its_own(database_url, *POSTGRESQL_NEEDS)
    engine = sa.create_engine(server_url(database_url), poolclass=sa.NullPool)
    with closing(engine.raw_connection()) as own:
        cursor = own.cursor()
        if kind == "mysql":
            cursor.execute("SET sql_mode = '', time_zone = '+00:00'")
        for statement in statements:
            cursor.execute(statement)
        own.commit()
    return tables, serve(database_url)
