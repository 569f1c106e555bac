"""Serve: options -> a running server, in one process or several."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence
from functools import partial

from atomicbatch.limits import Limits, ServerLimits
from atomicbatch.server.database.opening import ServeError, database_url, open_database
from atomicbatch.server.http.hosts import Hosts, is_loopback
from atomicbatch.server.http.listening import allow_open_files, listen, shown_address
from atomicbatch.server.http.running import STOP_SECONDS
from atomicbatch.server.http.supervisor import StartError, Supervisor
from atomicbatch.server.http.workers import Settings, make_server, run_worker

__all__ = ["ServeError", "database_url", "open_database", "serve"]


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
        workers: The number of processes.
        read_only: Only reading calls are served.
        allow_anonymous: Anybody who reaches the address may do everything.
        allowed_hosts: More hosts that requests may name, see ``Hosts``.
        limits: Bounds on a batch; None: the default ones.
        server_limits: Bounds on what each process holds for its clients; None: the default ones.
        drain_seconds: How long requests under way may take when it is told to stop.
        quiet: No access log.

    Returns:
        The exit status: 0, or 1 if something was cut off.

    Raises:
        ServeError: The database, the address or an option cannot be used.
        KeyboardInterrupt: It was told to stop before it served.
    """
    limits, server_limits = limits or Limits(), server_limits or ServerLimits()
    if limits.max_body_bytes > server_limits.max_upload_bytes:
        raise ServeError("max_upload_bytes must be at least max_body_bytes, or no body fits")
    if not (allow_anonymous or is_loopback(host)):
        raise _open_to_all(host)
    url = database_url(database)
    # Opened here first, so that a mistake is told once, in words, before any process is started.
    opened = open_database(url, read_only=read_only, limits=server_limits, note=_note)
    with listen(host, port) as listener:
        bound: str = listener.getsockname()[0]
        if not (allow_anonymous or is_loopback(bound)):
            raise _open_to_all(f"{host}, which is {bound}")
        settings = Settings(
            url=url,
            read_only=read_only,
            limits=limits,
            server_limits=server_limits,
            address=shown_address(host, listener),
            hosts=_hosts(host, bound, allowed_hosts),
            drain_seconds=drain_seconds,
            quiet=quiet,
        )
        allow_open_files(server_limits.max_connections)
        if workers == 1:
            ready = partial(_announce, settings.address)
            return make_server(settings, opened, listener, ready).run()
        opened.close()
        return _supervise(workers, settings, listener)


def _hosts(named: str, bound: str, allowed: Sequence[str]) -> Hosts:
    try:
        return Hosts(bound if bound in ("0.0.0.0", "::") else named, allowed)  # noqa: S104
    except ValueError as error:
        raise ServeError(f"--allowed-host: {error}") from None


def _supervise(count: int, settings: Settings, listener: socket.socket) -> int:
    supervisor = Supervisor(
        count,
        run_worker,
        (settings, listener),
        ready=partial(_announce, settings.address),
        stop_seconds=settings.drain_seconds + STOP_SECONDS,
    )
    try:
        status = supervisor.run()
    except StartError as error:
        raise ServeError(str(error)) from error
    if status < 0:
        raise KeyboardInterrupt
    return status


def _open_to_all(host: str) -> ServeError:
    return ServeError(
        f"refusing to listen on {host}: anybody who reaches it could read and change the "
        "database without signing in. Listen on 127.0.0.1, or add --allow-anonymous."
    )


def _announce(address: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"atomicbatch is serving on {address}", flush=True)


def _note(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"Note: {text}", file=sys.stderr, flush=True)
