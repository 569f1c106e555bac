"""Listening: the socket that clients connect to."""

from __future__ import annotations

import contextlib
import errno
import socket

from atomicbatch.server.database.opening import ServeError


def listen(host: str, port: int) -> socket.socket:
    """
    A socket that listens on ``host``; port 0 takes a free one.

    Raises:
        ServeError: It cannot be listened on.
    """
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


def allow_open_files(connections: int) -> None:
    """Raise the limit on open files if it would be reached before ``max_connections`` is."""
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


def shown_address(host: str, listener: socket.socket) -> str:
    """The URL of the server, for people and for the examples on its pages."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"
