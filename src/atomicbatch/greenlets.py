"""
Greenlets: whether gevent makes greenlets of threads, and what then stops all of them at once.

Greenlets share one thread. Whoever waits inside of C code, where gevent does not see it, keeps all
others from running. If that is a statement that waits for a batch's lock, the batch never goes on
either, and gevent's clock stands still with it.
"""

from __future__ import annotations

import sys
from typing import Any

from atomicbatch.errors import NotBatchableError


def _is_patched(module: str) -> bool:
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched(module))


_came_first = not _is_patched("threading")


def are_threads() -> bool:
    """Tell whether threads are greenlets."""
    return _is_patched("threading")


def real_thread() -> int:
    """Identify the system's thread in which this greenlet runs; 0: threads are no greenlets."""
    if not are_threads():
        return 0
    monkey: Any = sys.modules["gevent.monkey"]
    ident: int = monkey.get_original("_thread", "get_ident")()
    return ident


def check() -> None:
    """
    See whether batches can run beside gevent.

    Raises:
        NotBatchableError: They would wait for each other for ever.
    """
    if are_threads():
        if _came_first:
            raise NotBatchableError(
                "gevent.monkey.patch_all() was called after atomicbatch was imported, so that a "
                "lock of a batch would stop all greenlets; call it first, before any other import "
                "(under gunicorn: without --preload)"
            )
    elif _is_patched("socket"):
        raise NotBatchableError(
            "gevent has patched sockets but not threads, so that a lock of a batch would stop all "
            "greenlets; call gevent.monkey.patch_all() without thread=False"
        )
    if are_threads() and not sys.modules["gevent"].config.track_greenlet_tree:
        raise NotBatchableError(
            "gevent does not keep track of who starts a greenlet, so that a batch could not follow "
            "its calls into greenlets; leave GEVENT_TRACK_GREENLET_TREE as it is"
        )


def why_not(driver: str) -> str:
    """
    Say why a driver cannot take part beside greenlets; empty: it can.

    Args:
        driver: Its name, as its door has it: "psycopg2", "MySQLdb"; or "pysqlite" for an engine of
            SQLAlchemy's on SQLite, which has no door.
    """
    if not are_threads():
        return ""
    if driver == "pysqlite":
        return (
            "a handler uses an SQLite engine under gevent: while it waits for the file, no other "
            "greenlet runs, and a batch whose lock it waits for does not end; give "
            "DriverTransaction() in place of SQLAlchemyTransaction(), which lets it wait"
        )
    if driver == "MySQLdb":
        return (
            "a handler uses mysqlclient under gevent: while it waits for the database, no other "
            "greenlet runs, and a batch whose lock it waits for never ends; use PyMySQL"
        )
    if driver == "psycopg2" and not _waits_for_others(sys.modules.get("psycopg2.extensions")):
        return (
            "a handler uses psycopg2 under gevent: while it waits for the database, no other "
            "greenlet runs, and a batch whose lock it waits for never ends; call "
            "psycogreen.gevent.patch_psycopg() when the app starts, or use psycopg"
        )
    return ""


def _waits_for_others(extensions: Any) -> bool:
    return extensions is not None and extensions.get_wait_callback() is not None
