"""Results of PyMySQL, aiomysql and asyncmy: the wire's answers, as the app's connections read."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from atomicbatch.doors.mysql_sessions import RESULT_READER


def take_answers_away(connection: Any, reader: str) -> None:
    """Let a connection's driver read for itself again."""
    here = vars(connection)
    here.pop(reader, None)
    here.pop(RESULT_READER, None)


def ok_packet(result: Any, status: int) -> bytes:
    """Write the server's answer to a statement without rows."""
    flags = struct.pack("<HH", status & 0xFFFF, result.warning_count & 0xFFFF)
    message = result.message or b""
    if isinstance(message, str):
        message = message.encode()
    return b"\0" + _number(result.affected_rows) + _number(result.insert_id) + flags + message


def _number(value: int | None) -> bytes:
    """A length-encoded integer."""
    value = value or 0
    if value < 0xFB:
        return bytes([value])
    if value < 1 << 16:
        return b"\xfc" + struct.pack("<H", value)
    if value < 1 << 24:
        return b"\xfd" + struct.pack("<I", value)[:3]
    return b"\xfe" + struct.pack("<Q", value)


def nothing(connection: Any, kind: Callable[..., Any]) -> Any:
    """
    Make the result of a statement that was about the transaction only.

    Args:
        connection: The app's.
        kind: The driver's class of results.
    """
    result = kind(connection)
    result.connection = None
    result.affected_rows = result.insert_id = result.warning_count = 0
    result.message, result.has_next = b"", False
    result.server_status = connection.server_status
    return result


# What of a result is told only when its last row has been read.
_AT_END = ("warning_count", "has_next")
_KEPT = ("insert_id", "server_status", "message", "field_count", "description", "fields")


def of_unbuffered_cursor(connection: Any, result: Any, kind: Callable[..., Any]) -> Any:
    """
    Make a result for an unbuffered cursor of one whose rows are here.

    Others need the wire, so that no rows can wait in the server.

    Args:
        connection: The app's.
        result: Read to its end.
        kind: The driver's class of results, with :func:`next_row` and :func:`finish`.
    """
    kept = kind(connection)
    for name in _KEPT:
        setattr(kept, name, getattr(result, name))
    kept.connection = None
    # As the drivers have it: nobody knows how many there are.
    kept.affected_rows = 18446744073709551615
    kept.unbuffered_active = True
    kept._atomicbatch_rows = deque(result.rows)
    kept._atomicbatch_end = {name: getattr(result, name) for name in _AT_END}
    return kept


def kept_class(base: type, next_row: Callable[..., Any], finish: Callable[..., Any]) -> type:
    """Make such a class of a driver's class of results, given its methods to read and to end."""
    members = {"_read_rowdata_packet_unbuffered": next_row, "_finish_unbuffered_query": finish}
    return type(base.__name__, (base,), {"__module__": base.__module__, **members})


def next_row(kept: Any) -> Any:
    """Take the next row of such a result; None: there is none."""
    if not kept.unbuffered_active:
        return None
    rows = kept._atomicbatch_rows
    if not rows:
        finish(kept)
        return None
    row = rows.popleft()
    kept.affected_rows = 1
    kept.rows = (row,)
    return row


def finish(kept: Any) -> None:
    """Drop the rows that are left."""
    if kept.unbuffered_active:
        kept._atomicbatch_rows.clear()
        for name, value in kept._atomicbatch_end.items():
            setattr(kept, name, value)
        kept.unbuffered_active = False
        kept.rows = None


class Reading:
    """
    A block in which a connection reads its answers by others' attributes.

    Args:
        connection: The connection.
        reads_by: The attributes.
    """

    __slots__ = ("_before", "_connection", "_reads_by")

    def __init__(self, connection: Any, reads_by: dict[str, Any]) -> None:
        self._connection, self._reads_by = connection, reads_by
        self._before: dict[str, Any] = {}

    def __enter__(self) -> None:
        connection, before = self._connection, self._before
        for name, value in self._reads_by.items():
            before[name] = getattr(connection, name)
            setattr(connection, name, value)

    def __exit__(self, *error: object) -> None:
        for name, value in self._before.items():
            setattr(self._connection, name, value)
