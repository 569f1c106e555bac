"""Fixtures: a database served by a real server on a real socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from atomicbatch.limits import Limits
from atomicbatch.server.app import Application
from atomicbatch.server.serve import database_url as server_url
from atomicbatch.server.serve import open_database
from tests.server.served import Served, make_shop

Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a database: ``serve(url, limits=..., read_only=...)``."""
    started: list[tuple[Served, threading.Thread]] = []

    def start(url: str, *, limits: Limits | None = None, read_only: bool = False) -> Served:
        database = open_database(server_url(url), read_only=read_only)
        config = uvicorn.Config(
            Application(database, limits=limits), lifespan="on", log_level="warning", port=0
        )
        server = uvicorn.Server(config)
        ready = threading.Event()
        startup = server.startup

        async def announce(sockets: Any = None) -> None:
            await startup(sockets)
            ready.set()

        server.startup = announce  # type: ignore[method-assign]
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        assert ready.wait(20), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        served = Served(url, server, port)
        started.append((served, thread))
        return served

    yield start
    for served, thread in started:
        served.client.close()
        served.server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def shop(database_url: str, serve: Serve) -> Served:
    """The shop, served, on each kind of database."""
    make_shop(database_url)
    return serve(database_url)
