"""Pragmas: which of them belong to a connection, and what they are on one."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from atomicbatch.doors.sqlite_origins import UNKNOWN
from atomicbatch.sql.kinds import Family
from atomicbatch.sql.lexing import uncommented

FIXED = ("foreign_keys",)
"""SQLite takes no notice of these inside a transaction."""
SWITCHED = (
    "recursive_triggers",
    "ignore_check_constraints",
    "query_only",
    "legacy_alter_table",
    "reverse_unordered_selects",
    "trusted_schema",
    "writable_schema",
)
"""These can be set as the connection in use has them."""
LIKE = "case_sensitive_like"
"""Likewise; but it cannot be asked for."""
# What a connection has for itself and its rows do not depend on.
_OWN = frozenset(
    {
        *(*FIXED, *SWITCHED, LIKE),
        *("analysis_limit", "automatic_index", "busy_timeout", "cache_size", "cache_spill"),
        *("cell_size_check", "checkpoint_fullfsync", "fullfsync", "hard_heap_limit"),
        *("journal_size_limit", "mmap_size", "optimize", "read_uncommitted", "secure_delete"),
        *("soft_heap_limit", "synchronous", "temp_store", "threads", "wal_autocheckpoint"),
        *("compile_options", "collation_list", "database_list", "function_list", "module_list"),
        "wal_checkpoint",
    }
)
_REFUSED = frozenset(
    {
        *("locking_mode", "count_changes", "empty_result_callbacks", "full_column_names"),
        *("short_column_names", "temp_store_directory", "data_store_directory"),
    }
)
_PRAGMA = re.compile(r"\s*PRAGMA\s+(?:\w+\s*\.\s*)?(\w+)\s*([=(])?", re.IGNORECASE)


class Pragma(NamedTuple):
    """One pragma, as a handler says it."""

    name: str
    has_value: bool

    @property
    def is_own(self) -> bool:
        """It belongs to the connection, and says nothing of what is stored."""
        return self.name in _OWN

    @property
    def is_refused(self) -> bool:
        """It would change how all connections of the batch work."""
        return self.has_value and self.name in _REFUSED


@lru_cache(maxsize=512)
def pragma_of(sql: str) -> Pragma | None:
    """Read a statement that is a pragma."""
    found = _PRAGMA.match(uncommented(sql, Family.SQLITE))
    return None if found is None else Pragma(found[1].lower(), bool(found[2]))


State = dict[str, int]


@contextmanager
def past_authorizer(connection: Any) -> Iterator[None]:
    """Do not ask an app's authorizer about what we ask its connection."""
    made = getattr(connection, "_atomicbatch", UNKNOWN).made.get(("hook", "set_authorizer", 0))
    if made is None:
        yield
        return
    sqlite3.Connection.set_authorizer(connection, None)
    try:
        yield
    finally:
        sqlite3.Connection.set_authorizer(connection, made[1])


def state_of(connection: sqlite3.Connection, *, is_read_only: bool) -> State:
    """Ask a connection for the pragmas that matter, in the thread that it belongs to."""
    cursor = sqlite3.Cursor(connection)
    with past_authorizer(connection):
        state = {
            name: int(cursor.execute(f"PRAGMA {name}").fetchone()[0])
            for name in (*FIXED, *SWITCHED)
        }
        state[LIKE] = int(not cursor.execute("SELECT 'a' LIKE 'A'").fetchone()[0])
    if is_read_only:
        state["query_only"] = 1
    return state
