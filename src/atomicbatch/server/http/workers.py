"""Workers: one server process, alone or as one of several."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from atomicbatch.limits import Limits, ServerLimits
from atomicbatch.server.database.database import Database
from atomicbatch.server.database.opening import ServeError, open_database
from atomicbatch.server.http.access_log import AccessLog, LineWriter, configure_logging
from atomicbatch.server.http.app import Application
from atomicbatch.server.http.hosts import Hosts
from atomicbatch.server.http.running import CUT_OFF, Server
from atomicbatch.server.http.supervisor import Line
from atomicbatch.server.http.traffic import Traffic

# A worker whose parent is gone ends within a second.
_ORPHAN_DRAIN_SECONDS = 0.4
_ORPHAN_SECONDS = 0.9


@dataclass(frozen=True, slots=True)
class Settings:
    """What each process needs to know; see ``serve`` for each."""

    url: sa.URL
    read_only: bool
    limits: Limits
    server_limits: ServerLimits
    address: str
    hosts: Hosts
    drain_seconds: float
    quiet: bool


def make_server(
    settings: Settings, database: Database, listener: socket.socket, ready: Callable[[], None]
) -> Server:
    """Put a server together; ``ready`` is called once it answers."""
    writer = LineWriter()
    configure_logging(writer)
    traffic = Traffic(settings.server_limits, None if settings.quiet else AccessLog(writer))
    application = Application(
        database,
        limits=settings.limits,
        server_limits=settings.server_limits,
        address=settings.address,
        hosts=settings.hosts,
        check_room=traffic.check_unsent,
    )
    return Server(
        application,
        listener,
        traffic,
        drain_seconds=settings.drain_seconds,
        ready=ready,
        writer=writer,
    )


def run_worker(settings: Settings, listener: socket.socket, line: Line) -> None:
    """Be one of several processes, until told to stop or until the parent is gone."""
    worker = _Worker()
    line.watch_parent(worker.end_orphaned)
    try:
        database = open_database(
            settings.url, read_only=settings.read_only, limits=settings.server_limits
        )
    except ServeError as error:
        line.report_failure(str(error))
        sys.exit(CUT_OFF)
    worker.server = make_server(settings, database, listener, line.report_serving)
    sys.exit(worker.server.run())


class _Worker:
    """
    A worker, as it sees itself.

    Attributes:
        server: None until the database is open.
    """

    server: Server | None = None

    def end_orphaned(self) -> None:
        """Stop within a second: the parent is gone, and nobody would stop us later."""
        if self.server is None:
            os._exit(CUT_OFF)
        threading.Timer(_ORPHAN_SECONDS, os._exit, (CUT_OFF,)).start()
        self.server.stop(drain_seconds=_ORPHAN_DRAIN_SECONDS)
