"""Serve: options -> a running server; sockets, processes, signals."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

import sqlalchemy as sa
import uvicorn
from sqlalchemy import exc

from atomicbatch.limits import Limits
from atomicbatch.server.app import Application
from atomicbatch.server.database import Database
from atomicbatch.server.hosts import Hosts, is_loopback
from atomicbatch.server.workers import run_workers

_log = logging.getLogger("atomicbatch.server")


class ServeError(Exception):
    """The server cannot be started as it was asked to; the message is for the person who did."""


def serve(
    database: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    read_only: bool = False,
    allow_anonymous: bool = False,
    allowed_hosts: Sequence[str] = (),
    limits: Limits | None = None,
) -> None:
    """
    Serve ``database`` until SIGTERM or SIGINT; print one line with the address once it answers.

    Args:
        database: The name of an SQLite file, or a URL: sqlite, postgresql, mysql or mariadb.
        host: The address to listen on; anything but loopback needs ``allow_anonymous``.
        port: 0 takes a free one.
        workers: Processes.
        read_only: Only reading calls are served.
        allow_anonymous: Anybody who reaches the address may do everything.
        allowed_hosts: More hosts that requests may name, see ``Hosts``.
        limits: Bounds on a batch, where they are not to be the default ones.

    Raises:
        ServeError: The database, the address or an option cannot be used.
    """
    if not allow_anonymous and not is_loopback(host):
        raise ServeError(
            f"refusing to listen on {host}: anybody who reaches it could read and change the "
            "database without signing in. Listen on 127.0.0.1, or say --allow-anonymous."
        )
    url = database_url(database)
    # Opened here first: a mistake is then told once, in words, before any process is started.
    opened = open_database(url, read_only=read_only)
    with _listen(host, port) as listener:
        address = _address(host, listener)
        try:
            hosts = Hosts(_listening(host, listener), allowed_hosts)
        except ValueError as error:
            raise ServeError(f"--allowed-host {error}") from None
        if workers == 1:
            application = Application(opened, limits=limits, address=address, hosts=hosts)
            _run(application, listener, partial(_announce, address))
            return
        opened.close()
        try:
            run_workers(
                workers,
                _work,
                (url, read_only, limits, address, hosts, listener),
                ready=partial(_announce, address),
            )
        except RuntimeError as error:
            raise ServeError(str(error)) from error


def _work(
    url: sa.URL,
    read_only: bool,
    limits: Limits | None,
    address: str,
    hosts: Hosts,
    listener: socket.socket,
    up: Connection,
) -> None:
    """One worker process."""
    database = open_database(url, read_only=read_only)
    application = Application(database, limits=limits, address=address, hosts=hosts)
    _run(application, listener, partial(up.send, True))


def _run(application: Application, listener: socket.socket, ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        application,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here looks at the client's address
        timeout_keep_alive=75,
    )
    _Server(config, application, ready).run(sockets=[listener])


def database_url(database: str) -> sa.URL:
    """
    What the user named -> an SQLAlchemy URL with our driver.

    Raises:
        ServeError: It is no URL of a database we serve, or no file.
    """
    if "://" not in database:
        database = f"sqlite:///{database}"
    try:
        url = sa.make_url(database)
    except (exc.ArgumentError, ValueError):
        raise ServeError("the database is neither a file name nor a database URL") from None
    name = url.get_backend_name()
    if name == "sqlite":
        return _sqlite_url(url)
    drivers = {
        "postgresql": "postgresql+psycopg",
        "postgres": "postgresql+psycopg",
        "mysql": "mysql+pymysql",
        "mariadb": "mariadb+pymysql",
    }
    if name not in drivers:
        raise ServeError(f"{name} databases are not served: use SQLite, PostgreSQL or MariaDB")
    return url.set(drivername=drivers[name])


def _sqlite_url(url: sa.URL) -> sa.URL:
    if not url.database or url.database == ":memory:":
        raise ServeError("an in-memory database would be gone with the server: name a file")
    path = Path(url.database)
    if not path.is_file():
        raise ServeError(f"there is no file {url.database}; 'atomicbatch sample FILE' makes one")
    with path.open("rb") as file:
        start = file.read(16)
    if start and start != b"SQLite format 3\0":
        raise ServeError(f"{url.database} is no SQLite database")
    return url.set(drivername="sqlite")


def open_database(url: sa.URL, *, read_only: bool) -> Database:
    """
    Open a database and read its tables.

    Raises:
        ServeError: It cannot be reached or read.
    """
    try:
        database = Database(url, read_only=read_only)
    except (exc.SQLAlchemyError, ValueError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        shown = url.render_as_string(hide_password=True)
        raise ServeError(f"cannot open {shown}: {reason}") from error
    if database.schema.tables.pop("batch", None) is not None:
        _log.warning("the table 'batch' is not served: its path is that of the batch endpoint")
    return database


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ServeError(f"cannot listen on {host} port {port}: {error}") from error
    listener.set_inheritable(True)
    return listener


def _listening(host: str, listener: socket.socket) -> str:
    """What was listened on: a name as it was given, or every address of the machine."""
    bound: str = listener.getsockname()[0]
    return bound if bound in ("0.0.0.0", "::") else host  # noqa: S104 - only compared


def _address(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _announce(address: str) -> None:
    print(f"atomicbatch is serving on {address}", flush=True)


class _Server(uvicorn.Server):
    """
    uvicorn, which on SIGTERM first lets the application drain.

    uvicorn alone closes its listening socket at once. We keep it open while batches are in
    flight, so that new requests get a 503 that says what happened, not a refused connection.
    """

    def __init__(
        self, config: uvicorn.Config, application: Application, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._application = application
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None or self._application.draining:
            super().handle_exit(sig, frame)  # not up yet, or told twice
            return
        self._application.draining = True
        self._loop.call_soon_threadsafe(self._start_drain)

    def _start_drain(self) -> None:
        self._drain = asyncio.ensure_future(self._exit_when_idle())

    async def _exit_when_idle(self) -> None:
        while self._application.in_flight:
            await asyncio.sleep(0.01)
        # Not by way of uvicorn's handle_exit, which raises the signal again at the end: a clean
        # stop ends with exit status 0.
        self.should_exit = True
