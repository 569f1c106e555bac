"""Origins: what a connection of sqlite3's was opened by, and what the app has given it since."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote


class Origin:
    """
    What has to be known of a connection to open another one like it.

    Args:
        database: The first argument of ``sqlite3.connect()``.
        folder: The folder that was current then.
        options: The other arguments, by name.
        thread: The thread that has opened it, as threading.get_ident() tells.

    Attributes:
        opened_in: The attempt at a batch inside of which it was opened, if in memory.
        functions: The names of the Python functions registered on it.
        made: Its functions, collations and hooks: what each is made by. The key tells which.
        events: What else was done to it, in order.
        version: Changes when one of the last two does.
    """

    __slots__ = (
        "database",
        "events",
        "folder",
        "functions",
        "made",
        "opened_in",
        "options",
        "thread",
        "version",
    )

    def __init__(
        self, database: Any, folder: str, options: Mapping[str, Any], thread: int | None
    ) -> None:
        self.database = database
        self.folder = folder
        self.options = options
        self.thread = thread if options.get("check_same_thread", True) else None
        self.opened_in: Any = None
        self.functions: frozenset[str] = frozenset()
        self.made: dict[tuple[str, str, int], tuple[Any, ...]] = {}
        self.events: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.version = 0

    @property
    def uri_options(self) -> dict[str, list[str]]:
        """What an URI says after its name. SQLite may be built to take URIs without ``uri=``."""
        if not isinstance(self.database, str) or not self.database.startswith("file:"):
            return {}
        return parse_qs(self.database.partition("?")[2].partition("#")[0])

    @property
    def shared_memory(self) -> str:
        """Name the database in memory that other connections can share; empty: it is no such."""
        if self.uri_options.get("cache", [""])[-1] != "shared":
            return ""
        return unquote(re.split(r"[?#]", self.database.removeprefix("file:"))[0])

    def note_function(
        self, method: str, name: str, count: int, function: Any, options: dict[str, Any]
    ) -> None:
        """Note a Python function or collation."""
        kind = "collation" if method == "create_collation" else "function"
        key = (kind, name.lower(), count)
        self.version += 1
        if function is None and kind == "collation":
            self.made.pop(key, None)
            return
        self.made[key] = (method, name, count, function, options)
        if kind == "function":
            self.functions |= {name}

    def note_hook(self, method: str, hook: Any, *more: Any) -> None:
        """Note a function that is called for each statement; None for none any more."""
        self.version += 1
        key = ("hook", method, 0)
        if hook is None:
            self.made.pop(key, None)
        else:
            self.made[key] = (method, hook, more)

    def note_event(self, method: str, *args: Any, **options: Any) -> None:
        """Note something that has to be done again on a connection that is to be like it."""
        self.version += 1
        self.events.append((method, args, options))


class _Unknown(Origin):
    """Of a connection that was opened by its class, not by ``connect()``; it is not joined."""

    def note_function(self, *_: Any) -> None:
        pass

    def note_hook(self, *_: Any) -> None:
        pass

    def note_event(self, *_: Any, **__: Any) -> None:
        pass


UNKNOWN = _Unknown("", "", {}, None)
