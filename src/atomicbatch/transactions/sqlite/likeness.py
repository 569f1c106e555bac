"""
Likeness: what the batch's own connection takes over from the app's connection in use.

Python functions, collations and hooks, pragmas, the text factory, extensions. Connections of one
batch may differ in them. The batch's own connection then changes with each that is used.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from atomicbatch.advice import ARGUMENTS, Advice
from atomicbatch.doors.sqlite_origins import Origin
from atomicbatch.transactions.sqlite.built_in import can_be_put_back, is_built_in, put_back
from atomicbatch.transactions.sqlite.pragmas import FIXED, LIKE, SWITCHED, State

_OURS = (sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_TRANSACTION)
Made = dict[tuple[str, str, int], tuple[Any, ...]]


class Likeness:
    """
    What the batch's own connection is like.

    Args:
        connection: The batch's own.
        state: Its pragmas.
        advice: What to do instead of what is refused.
    """

    def __init__(
        self, connection: sqlite3.Connection, state: State, advice: Advice = ARGUMENTS
    ) -> None:
        self._advice = advice
        self._connection = connection
        self._state = state
        self._made: Made = {}
        # Whose events have been done again, and how many of them.
        self._done: dict[int, int] = {}

    def become(self, owner: sqlite3.Connection, origin: Origin, state: State) -> str:
        """
        Become like a connection of the app's.

        Returns:
            Why it cannot, or an empty text.
        """
        for name in FIXED:
            if state[name] != self._state[name]:
                return (
                    f"handlers use connections that differ in PRAGMA {name}, which SQLite ignores "
                    f"inside a transaction; {self._advice.set_foreign_keys}"
                )
        if not self._replay(origin):
            return "a connection's extension could not be loaded again"
        if origin.made != self._made and (why := self._make(origin.made)):
            return why
        for name in (*SWITCHED, LIKE):
            if state[name] != self._state[name]:
                self._run(f"PRAGMA {name}={state[name]}")
                self._state[name] = state[name]
        connection = self._connection
        if connection.text_factory is not owner.text_factory:
            connection.text_factory = owner.text_factory
        return ""

    def drop_hooks(self) -> None:
        """Take the app's hooks away: what is sent from now on is the batch's own."""
        for key in [key for key in self._made if key[0] == "hook"]:
            _take_away(self._connection, key, self._made.pop(key)[0])

    def _run(self, text: str) -> None:
        sqlite3.Cursor(self._connection).execute(text)

    def _replay(self, origin: Origin) -> bool:
        done = self._done.get(id(origin), 0)
        for method, args, options in origin.events[done:]:
            try:
                getattr(sqlite3.Connection, method)(self._connection, *args, **options)
            except sqlite3.Error:
                return False
        self._done[id(origin)] = len(origin.events)
        return True

    def _make(self, wanted: Made) -> str:
        left = {key for key, made in self._made.items() if key not in wanted}
        functions = {key for key in left if key[0] == "function"}
        built_in = {key for key in functions if is_built_in(self._connection, key[1])}
        if not all(can_be_put_back(name) for _, name, _ in built_in):
            return (
                "one connection replaces a built-in SQL function by a Python function, and another "
                "connection does not; register it on all of them, or give it another name"
            )
        # Other functions stay: a statement that calls them was wrong without them.
        kept = {key: self._made[key] for key in functions - built_in}
        try:
            for _, name, count in built_in:
                put_back(self._connection, name, count)
            for key in left - functions:
                _take_away(self._connection, key, self._made[key][0])
            for key, made in wanted.items():
                if self._made.get(key) != made:
                    _make(self._connection, key, made)
        except sqlite3.Error:
            return (
                "handlers use connections with different functions of one name while rows of one "
                "are still being fetched; fetch them all first"
            )
        self._made = kept | wanted
        return ""


def _make(connection: sqlite3.Connection, key: tuple[str, str, int], made: tuple[Any, ...]) -> None:
    method = getattr(sqlite3.Connection, made[0])
    if key[0] == "hook":
        hook = _past_ours(made[1]) if made[0] == "set_authorizer" else made[1]
        method(connection, hook, *made[2])
    elif key[0] == "collation":
        method(connection, made[1], made[3])
    else:
        method(connection, *made[1:4], **made[4])


def _past_ours(authorizer: Any) -> Any:
    """Do not ask an app's authorizer about our savepoints; a handler's own are never sent."""

    def authorize(action: int, *about: Any) -> Any:
        return sqlite3.SQLITE_OK if action in _OURS else authorizer(action, *about)

    return authorize


def _take_away(connection: sqlite3.Connection, key: tuple[str, str, int], method: str) -> None:
    kind, name, _ = key
    if kind == "hook":
        more = (1,) if method == "set_progress_handler" else ()
        getattr(sqlite3.Connection, method)(connection, None, *more)
    else:
        connection.create_collation(name, None)
