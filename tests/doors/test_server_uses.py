"""Which adapter stands for a connection."""

from __future__ import annotations

from typing import Any

from atomicbatch.doors.server_uses import use_of
from atomicbatch.guard import Allowed
from atomicbatch.guard.watch import Watch


class Joined:
    """What the block of an adapter gives that joins."""

    def use_of(self, connection: Any, *, executes: bool) -> None:
        """Nothing stands for a connection of sqlite3's."""

    def server_use_of(self, connection: Any, kind: Any, *, executes: bool) -> Any:
        """What stands for a connection."""
        return (connection, kind, executes)


def watch_on(joined: Any) -> Watch:
    watch = Watch(Allowed())
    watch.joined = joined
    return watch


def test_the_adapter_says_what_stands_for_a_connection() -> None:
    kind: Any = "kind"
    found: Any = use_of(watch_on(Joined()), "connection", kind, executes=True)
    assert found == ("connection", "kind", True)


def test_a_connection_stands_for_itself_where_nobody_joins_it() -> None:
    kind: Any = "kind"
    assert use_of(watch_on(object()), "connection", kind, executes=True) is None
    over = watch_on(Joined())
    over.end(undone=False)
    assert use_of(over, "connection", kind, executes=True) is None
