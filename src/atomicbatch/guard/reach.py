"""Whether an object stands for a driver's connection: a proxy of it, or what holds it."""

from __future__ import annotations

from inspect import isroutine
from typing import Any

# wrapt's proxies (OpenTelemetry, ddtrace), SQLAlchemy's connections and the adapters in between,
# asyncpg's pool, and what people call it in classes of their own.
_NAMES = (
    *("__wrapped__", "connection", "driver_connection", "dbapi_connection", "sync_connection"),
    *("_connection", "_conn", "_con", "conn", "raw", "_raw"),
)
_DEPTH = 5


def reaches(holder: Any, connection: Any, depth: int = _DEPTH) -> bool:
    """
    Tell whether an object is this connection, or leads to it by attributes with usual names.

    It may look at dozens of attributes, so ask only when an alarm is due.
    """
    if holder is connection:
        return True
    if depth == 0 or holder is None or isinstance(holder, str | bytes | int | type):
        return False
    for name in _NAMES:
        try:
            inner = getattr(holder, name, None)
        except Exception:  # noqa: S112  # it is closed, say
            continue
        if inner is holder or inner is None or isroutine(inner):
            continue
        if reaches(inner, connection, depth - 1):
            return True
    return False
