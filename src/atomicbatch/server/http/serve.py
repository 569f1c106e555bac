"""Serve: options -> a running server, in one process or several."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from atomicbatch.limits import Limits, ServerLimits
from atomicbatch.server.database.database import Database
from atomicbatch.server.database.opening import ServeError, database_url, open_database
from atomicbatch.server.http.access_log import AccessLog, LineWriter, configure_logging
from atomicbatch.server.http.app import Application
from atomicbatch.server.http.hosts import Hosts, is_loopback
from atomicbatch.server.http.running import CUT_OFF, STOP_SECONDS, Server
from atomicbatch.server.http.traffic import Traffic
from atomicbatch.server.http.workers import Line, StartError, Workers

__all__ = ["ServeError", "database_url", "open_database", "serve"]

# A worker whose parent is gone ends within a second.
_ORPHAN_DRAIN_SECONDS = 0.4
_ORPHAN_SECONDS = 0.9


@dataclass(frozen=True, slots=True)
class _Settings:
    """What each process needs to know."""

    url: sa.URL
    read_only: bool
    limits: Limits
    server_limits: ServerLimits
    address: str
    hosts: Hosts
    drain_seconds: float
    quiet: bool


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
    server_limits: ServerLimits | None = None,
    drain_seconds: float = 30.0,
    quiet: bool = False,
) -> int:
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
        server_limits: Bounds on what each process holds for its clients, likewise.
        drain_seconds: How long requests under way may take when it is told to stop.
        quiet: No access log.

    Returns:
        The exit status: 0, or 1 where something was cut off.

    Raises:
        ServeError: The database, the address or an option cannot be used.
        KeyboardInterrupt: It was told to stop before it served.
    """
    limits, server_limits = limits or Limits(), server_limits or ServerLimits()
    if limits.max_body_bytes > server_limits.max_upload_bytes:
        raise ServeError("max_upload_bytes must be at least max_body_bytes, or no body fits")
    if not allow_anonymous and not is_loopback(host):
        raise _open_to_all(host)
    url = database_url(database)
    # Opened here first: a mistake is then told once, in words, before any process is started.
    opened = open_database(url, read_only=read_only, limits=server_limits, note=_note)
    with _listen(host, port) as listener:
        bound: str = listener.getsockname()[0]
        if not allow_anonymous and not is_loopback(bound):
            raise _open_to_all(f"{host}, which is {bound}")
        try:
            hosts = Hosts(bound if bound in ("0.0.0.0", "::") else host, allowed_hosts)  # noqa: S104
        except ValueError as error:
            raise ServeError(f"--allowed-host: {error}") from None
        settings = _Settings(
            url=url,
            read_only=read_only,
            limits=limits,
            server_limits=server_limits,
            address=_address(host, listener),
            hosts=hosts,
            drain_seconds=drain_seconds,
            quiet=quiet,
        )
        _allow_open_files(server_limits.max_connections)
        if workers == 1:
            return _server(settings, opened, listener, partial(_announce, settings.address)).run()
        opened.close()
        return _serve_with_workers(workers, settings, listener)


def _serve_with_workers(count: int, settings: _Settings, listener: socket.socket) -> int:
    stop_seconds = settings.drain_seconds + STOP_SECONDS
    ready = partial(_announce, settings.address)
    workers = Workers(count, _work, (settings, listener), ready=ready, stop_seconds=stop_seconds)
    try:
        status = workers.run()
    except StartError as error:
        raise ServeError(str(error)) from error
    if status < 0:
        raise KeyboardInterrupt
    return status


def _work(settings: _Settings, listener: socket.socket, line: Line) -> None:
    """One worker process."""
    server: Server | None = None

    def orphaned() -> None:
        if server is None:
            os._exit(CUT_OFF)
        threading.Timer(_ORPHAN_SECONDS, os._exit, (CUT_OFF,)).start()
        server.stop(drain_seconds=_ORPHAN_DRAIN_SECONDS)

    line.watch(orphaned)
    try:
        database = open_database(
            settings.url, read_only=settings.read_only, limits=settings.server_limits
        )
    except ServeError as error:
        line.tell(str(error))
        sys.exit(CUT_OFF)
    server = _server(settings, database, listener, line.tell_up)
    sys.exit(server.run())


def _server(
    settings: _Settings, database: Database, listener: socket.socket, ready: Callable[[], None]
) -> Server:
    writer = LineWriter()
    configure_logging(writer)
    traffic = Traffic(settings.server_limits, None if settings.quiet else AccessLog(writer))
    application = Application(
        database,
        limits=settings.limits,
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


def _open_to_all(host: str) -> ServeError:
    return ServeError(
        f"refusing to listen on {host}: anybody who reaches it could read and change the "
        "database without signing in. Listen on 127.0.0.1, or say --allow-anonymous."
    )


def _listen(host: str, port: int) -> socket.socket:
    where = f"cannot listen on {host} port {port}"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ServeError(f"{where}: {getattr(error, 'strerror', None) or error}") from None
    # A name may have addresses of both kinds; clients try IPv4 if IPv6 does not answer.
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(f"{where}: it is in use; choose another one with --port") from None
        raise ServeError(f"{where}: {error.strerror or error}") from None
    return listener


def _allow_open_files(connections: int) -> None:
    """Raise the limit on open files where it would be reached before ours on connections."""
    try:
        import resource
    except ModuleNotFoundError:  # pragma: no cover - Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 256
    if soft < wanted and soft != resource.RLIM_INFINITY:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _address(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _announce(address: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"atomicbatch is serving on {address}", flush=True)


def _note(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"Note: {text}", file=sys.stderr, flush=True)
