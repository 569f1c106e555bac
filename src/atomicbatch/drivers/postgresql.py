"""PostgreSQL: what is the same for all of its drivers."""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

from atomicbatch.drivers.driver import State
from atomicbatch.errors import BrokenTransactionError, UnknownOutcomeError

# PostgreSQL's protocol, 55.7: message formats.
_CANCEL_REQUEST = 80877102
_SSL_REQUEST = 80877103
# libpq's PQtransactionStatus(): idle, active, in a transaction, in one that has failed, unknown.
_STATES = {0: State.IDLE, 2: State.OPEN, 3: State.ABORTED}


def begin(level: str, *, read_only: bool) -> str:
    """
    Write the statement that begins a transaction.

    Args:
        level: An isolation level, as SQL has it: ``SERIALIZABLE``.
        read_only: It will only read.
    """
    return f"BEGIN ISOLATION LEVEL {level} {'READ ONLY' if read_only else 'READ WRITE'}"


def in_one_text(texts: Sequence[str]) -> str:
    """Several statements as one, which the simple query protocol takes in one round trip."""
    return "; ".join(texts)


def state_of(status: int) -> State:
    """
    Read libpq's word for a transaction's state, which is as of the server's last answer.

    Args:
        status: ``PQtransactionStatus``; 1 while a statement runs, 4 on a connection that is lost.
    """
    return _STATES.get(int(status), State.UNKNOWN)


def check_state(found: State) -> None:
    """
    Refuse to send COMMIT for a transaction that is not open and in order.

    Raises:
        BrokenTransactionError: It is not.
    """
    if found is not State.OPEN:
        raise BrokenTransactionError("the transaction was not in order before COMMIT")


def check_tag(tag: str | None) -> None:
    """
    Read the server's answer to COMMIT. In a failed transaction it is ROLLBACK, and no error.

    Args:
        tag: The command tag.

    Raises:
        BrokenTransactionError: It has rolled back.
        UnknownOutcomeError: It has said something else.
    """
    if tag == "ROLLBACK":
        raise BrokenTransactionError(
            "the database rolled back instead of COMMIT", may_be_stored=False
        )
    if tag != "COMMIT":
        raise UnknownOutcomeError("the database's answer to COMMIT could not be understood")


def drive_cancel(cancel: Any, seconds: float) -> None:
    """
    Drive libpq's cancelling connection (libpq 17) until the server has taken note.

    Args:
        cancel: psycopg's ``PGcancelConn``, started.
        seconds: When to give up.

    Raises:
        TimeoutError: The server did not take the request in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        # psycopg.pq.PollingStatus; no driver is imported here.
        wanted = {1: selectors.EVENT_READ, 2: selectors.EVENT_WRITE}.get(int(cancel.poll()))
        if wanted is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(cancel.socket, wanted)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError("the server does not take the request to cancel")


def request_cancel(address: Any, parameters: Any, pid: int, secret: int, seconds: float) -> None:
    """
    Send a CancelRequest over a socket of our own, as asyncpg does.

    Args:
        address: A host and a port, or the path of a Unix socket.
        parameters: asyncpg's, which say how the session is encrypted.
        pid: The server's number of the session's process.
        secret: What proves that we may stop it.
        seconds: How long each step may take.
    """
    request = struct.pack("!llll", 16, _CANCEL_REQUEST, pid, secret)
    if isinstance(address, str):
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(seconds)
        plain.connect(address)
    else:
        plain = socket.create_connection(address, seconds)
    with plain:
        tls, mode = parameters.ssl, getattr(parameters.sslmode, "name", "")
        if isinstance(address, str) or not tls or mode == "allow":
            _say(plain, request)
            return
        if getattr(getattr(parameters, "ssl_negotiation", None), "name", "") != "direct":
            plain.sendall(struct.pack("!ll", 8, _SSL_REQUEST))
            if plain.recv(1) != b"S":
                # The session itself is not encrypted either, or is not to be had.
                if mode == "prefer":
                    _say(plain, request)
                return
        with tls.wrap_socket(plain, server_hostname=address[0]) as encrypted:
            _say(encrypted, request)


def _say(line: socket.socket, request: bytes) -> None:
    line.sendall(request)
    line.recv(1)  # the server closes it when it has passed the request on
