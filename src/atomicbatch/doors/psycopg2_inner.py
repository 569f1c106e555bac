"""
Inner cursors of psycopg2: they run an app's statements on the batch's own connection.

They are the driver's own cursors, and show what the app's cursor wants: its row factory is called
with the app's cursor, and its type casters come first. A cursor with a name, in the server, is one
that sends DECLARE, FETCH, MOVE and CLOSE itself, as the driver does. The driver's own would refuse
to, since the batch's connection is in autocommit mode for it.
"""

from __future__ import annotations

from typing import Any, NoReturn
from weakref import ref

from atomicbatch.doors.psycopg2_kind import KIND, plain
from atomicbatch.doors.server_uses import Use, use_of
from atomicbatch.guard.watch import watching

_INVALID = "named cursor isn't valid anymore"


class Inner:
    """
    What is put in front of an inner cursor.

    Attributes:
        outer: Refers to the app's cursor, weakly.
        told: What it says instead of what the driver knows, by attribute.
    """

    outer: ref[Any]
    told: dict[str, Any]
    row_factory: Any
    tzinfo_factory: Any

    @property
    def connection(self) -> Any:
        """The app's."""
        outer = self.outer()
        return None if outer is None else outer.connection

    @property
    def rowcount(self) -> int:
        return int(self.told.get("rowcount", _rowcount(self)))

    @property
    def statusmessage(self) -> Any:
        return self.told.get("statusmessage") or _statusmessage(self)

    @property
    def query(self) -> Any:
        return self.told.get("query") or _query(self)

    def get_ready(self, outer: Any) -> None:
        """Take over what the app has set on its cursor, before rows are fetched."""
        if (outer.row_factory is None) is not (self.row_factory is None):
            wanted = outer.row_factory is not None
            self.row_factory = self._make_row if wanted else None
        self.tzinfo_factory = outer.tzinfo_factory

    def _make_row(self, _: Any) -> Any:
        outer = self.outer()
        return outer.row_factory(outer)  # type: ignore[union-attr]  # who fetches has it


def _rowcount(cursor: Any) -> int:
    count: int = vars(plain.cursor)["rowcount"].__get__(cursor)
    return count


def _statusmessage(cursor: Any) -> Any:
    return vars(plain.cursor)["statusmessage"].__get__(cursor)


def _query(cursor: Any) -> Any:
    return vars(plain.cursor)["query"].__get__(cursor)


def inner_of(cursor: Any, connection: Any, kind: type[Inner] = Inner) -> Any:
    """Make the inner cursor of one of the app's, on a connection."""
    inner = plain.in_front(kind, plain.our_cursor)(connection)
    inner.outer, inner.told = ref(cursor), {}
    own = cursor.connection.string_types
    if own or cursor.string_types:
        inner.string_types = {**own, **(cursor.string_types or {})}
    inner.get_ready(cursor)
    return inner


class NamedInner(Inner):
    """
    Stands for a cursor in the server.

    Attributes:
        label: Its name, quoted.
        mark: How many transactions of the app's connection had ended when it was declared.
        itersize: How many rows are fetched at once by whoever iterates.
    """

    label: str
    mark: int

    # Fetching -----------------------------------------------------------------------------------

    def fetchone(self) -> Any:
        self._fetch("FETCH FORWARD 1")
        return plain.cursor.fetchone(self)

    def fetchmany(self, size: int) -> Any:
        self._fetch(f"FETCH FORWARD {size:d}")
        return plain.cursor.fetchall(self)

    def fetchall(self) -> Any:
        self._fetch("FETCH FORWARD ALL")
        return plain.cursor.fetchall(self)

    def __next__(self) -> Any:
        if self.rownumber >= self.rowcount:  # type: ignore[attr-defined]  # the driver's
            outer = self.outer()
            self._fetch(f"FETCH FORWARD {2000 if outer is None else outer.itersize:d}")
        return plain.cursor.__next__(self)

    def scroll(self, value: int, mode: str = "relative") -> None:
        if mode not in ("relative", "absolute"):
            raise plain.error("scroll mode must be 'relative' or 'absolute'")
        self._fetch(f"MOVE {'ABSOLUTE ' if mode == 'absolute' else ''}{value:d}")

    def close(self) -> None:
        outer = self.outer()
        if outer is not None and not outer.closed:
            self._check_valid(outer)
            use = _use_of(self.connection)
            if use is not None and not use.is_broken():
                use.fetch(self._runs(f"CLOSE {self.label}"))
        plain.cursor.close(self)

    def _fetch(self, command: str) -> None:
        outer = self.outer()
        self._check_valid(outer)
        use = _use_of(self.connection)
        if use is None:
            _refuse_invalid()
        use.fetch(self._runs(f"{command} FROM {self.label}"))

    def _runs(self, text: str) -> Any:
        return lambda _: plain.cursor.execute(self, text)

    def _check_valid(self, outer: Any) -> None:
        if outer is None or (not outer.withhold and self.mark != self.connection._atomicbatch_mark):
            _refuse_invalid()


def _use_of(connection: Any) -> Use | None:
    watch = watching.get()
    return None if watch is None else use_of(watch, connection, KIND, executes=False)


def _refuse_invalid() -> NoReturn:
    raise plain.error(_INVALID)


def declaration(cursor: Any, label: str, query: str, *, has_parameters: bool) -> str:
    """Write the statement that declares a cursor of the app's in the server."""
    scrolls = {None: "", True: "SCROLL ", False: "NO SCROLL "}[cursor.scrollable]
    holds = "WITH" if cursor.withhold else "WITHOUT"
    if has_parameters:
        label = label.replace("%", "%%")
    return f"DECLARE {label} {scrolls}CURSOR {holds} HOLD FOR {query}"


class Names:
    """The cursors in the server that are declared on one of the batch's own connections."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[ref[Any], Use]] = {}

    @classmethod
    def of(cls, wire: Any) -> Names:
        """Those of a connection."""
        if not hasattr(wire, "_atomicbatch_names"):
            wire._atomicbatch_names = cls()
        names: Names = wire._atomicbatch_names
        return names

    def take(self, label: str, cursor: Any, use: Use, wire: Any) -> None:
        """
        Take a name; what is left of another cursor, whose transaction is over, is closed.

        Args:
            label: The name, quoted.
            cursor: The app's.
            use: What stands for its connection.
            wire: The batch's own connection.
        """
        other, its_use = self._of.get(label, (None, use))
        if other is not None:
            if _is_open(other(), its_use):
                use.refuse(
                    f"a handler has two cursors of one name ({label}) open in the server; in a "
                    f"batch all connections share one, so give them different names"
                )
            closing = plain.our_cursor(wire)
            closing.execute("SELECT FROM pg_catalog.pg_cursors WHERE name = %s", [cursor.name])
            if closing.rowcount:
                closing.execute(f"CLOSE {label}")
        self._of[label] = ref(cursor), use


def _is_open(cursor: Any, use: Use) -> bool:
    """Tell whether a cursor of the app's may still be fetched from."""
    inner = getattr(cursor, "_atomicbatch", None)
    if cursor is None or cursor.closed or not isinstance(inner, NamedInner):
        return False
    is_of_now = inner.mark == cursor.connection._atomicbatch_mark and use.in_transaction()
    return cursor.withhold or is_of_now
