"""Fixtures: a database served by a real server on a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from atomicbatch.limits import Limits, ServerLimits
from atomicbatch.server.access_log import AccessLog
from atomicbatch.server.app import Application
from atomicbatch.server.running import Server
from atomicbatch.server.serve import database_url as server_url
from atomicbatch.server.serve import open_database
from atomicbatch.server.traffic import Traffic
from tests.server.served import Served, make_shop

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
    ) -> Served:
        database = open_database(server_url(url), read_only=read_only, limits=server_limits)
        ready = threading.Event()
        listener = socket.create_server(("127.0.0.1", 0))
        traffic = Traffic(server_limits or ServerLimits(), log)
        server = Server(
            Application(database, limits=limits, check_room=traffic.check_unsent),
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
