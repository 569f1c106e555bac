"""
Sides: what we know of one ``Protocol`` of asyncpg's, the app's or the batch's own.

It is kept on the protocol itself, which is all that asyncpg's statements know of a connection::

    the app's connection              the batch's own (the wire)
      Protocol -> Home                  Protocol -> Abroad
        born: prepared in a batch,        known: which statements are prepared here
        and not yet at home

asyncpg gives each statement a name that no other connection of the process uses. So a statement of
the app's can be prepared on the wire once more under its own name, and the other way round:
asyncpg's caches, and those of libraries above it, go on to be right on both sides.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from weakref import ref

ATTRIBUTE = "_atomicbatch"
"""The attribute of a protocol."""


class Home:
    """
    The side of a connection of the app's.

    Args:
        connection: The app's.

    Attributes:
        born: Statements that were prepared in a batch and not yet here, by name.
        is_busy: A statement of the app's runs in the batch.
        portals: The cursors that are open in its transaction in the batch.
        settings: What it has set in the batch by SET, and not reset.
        clean_at: How many queries it had sent when it was last reset in a batch.
        skips_reset: It is being given back with nothing to reset.
    """

    __slots__ = (
        "_connection",
        "born",
        "clean_at",
        "is_busy",
        "portals",
        "settings",
        "skips_reset",
    )

    def __init__(self, connection: Any) -> None:
        self._connection = ref(connection)
        self.born: dict[str, Any] = {}
        self.is_busy = False
        self.clean_at: int | None = None
        self.skips_reset = False
        self.portals: set[str] = set()
        self.settings: set[str] = set()

    @property
    def connection(self) -> Any:
        """The app's; None once it is gone."""
        return self._connection()

    def lacks(self, state: Any) -> bool:
        """Tell whether a statement has to be prepared here before it is used."""
        return self.born.get(state.name) is state

    def has(self, name: str) -> bool:  # noqa: ARG002
        """Tell whether a name is taken."""
        return False

    def note_prepared(self, state: Any, home: Any) -> None:  # noqa: ARG002
        """A statement has been prepared here."""
        self.born.pop(state.name, None)


class Abroad:
    """
    The side of the batch's own connection.

    Attributes:
        known: The statements that are prepared here, by name, with the protocol of the app's
            connection that each is of.
        ahead: SQL of ours that goes ahead of what is sent next.
        sends_ahead: Its transport can do that.
    """

    __slots__ = ("_user", "ahead", "known", "sends_ahead")
    born: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.known: dict[str, tuple[Any, Any]] = {}
        self._user: Any = None
        self.ahead: tuple[str, ...] = ()
        self.sends_ahead = False

    def lacks(self, state: Any) -> bool:
        """Tell whether a statement has to be prepared here before it is used."""
        return self.known.get(state.name, (None,))[0] is not state

    def has(self, name: str) -> bool:
        """Tell whether a name is taken."""
        return name in self.known

    def may_take(self, name: str, home: Any) -> bool:
        """
        Tell whether a new statement may take a name from another one: an app may give names.

        Of two open statements of one connection, the server refuses the second.
        """
        own = getattr(home, ATTRIBUTE).born.get(name)
        return own is None or own.closed

    def note_prepared(self, state: Any, home: Any) -> None:
        """A statement has been prepared here."""
        self.known[state.name] = state, home

    @property
    def user(self) -> Any:
        """The app's connection whose statement runs, or ran last; None: it is gone."""
        return None if self._user is None else self._user()

    def note_user(self, connection: Any) -> None:
        """The app's connection has something to run."""
        self._user = ref(connection)

    def take_ahead(self) -> tuple[str, ...]:
        """Give what is to go ahead, which is then sent."""
        ahead, self.ahead = self.ahead, ()
        return ahead


Side: TypeAlias = Home | Abroad


def side_of(protocol: Any) -> Side | None:
    """Give a protocol's side; None: it is not connected yet."""
    side: Side | None = getattr(protocol, ATTRIBUTE, None)
    if side is None and (connection := _owner_of(protocol)) is not None:
        side = Home(connection)
        setattr(protocol, ATTRIBUTE, side)
    return side


def note_wire(protocol: Any) -> Abroad:
    """Take note that a protocol is that of a batch's own connection."""
    side = getattr(protocol, ATTRIBUTE, None)
    if not isinstance(side, Abroad):
        side = Abroad()
        setattr(protocol, ATTRIBUTE, side)
    return side


def note_portal(home: Any, protocol: Any, name: str) -> None:
    """Take note of a cursor that is open in the server, on the wire."""
    if name and protocol is not home:
        getattr(home, ATTRIBUTE).portals.add(name)


def noting(found: Callable[..., Any]) -> Callable[..., Any]:
    """Around ``Protocol.set_connection``: asyncpg keeps the connection where only C sees it."""

    def set_connection(self: Any, connection: Any) -> Any:
        if getattr(self, ATTRIBUTE, None) is None:
            setattr(self, ATTRIBUTE, Home(connection))
        return found(self, connection)

    return set_connection


def _owner_of(protocol: Any) -> Any:
    """Find a connection from before the doors; it takes milliseconds, once a connection."""
    for one in gc.get_referrers(protocol):
        if hasattr(type(one), "_process_log_message"):
            return one
    return None
