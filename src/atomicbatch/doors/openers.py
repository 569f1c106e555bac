"""Openers: libraries that open the batch's own connection as they open the app's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

_openers: WeakKeyDictionary[Any, Callable[[], Any]] = WeakKeyDictionary()


def note_opener(connection: Any, opener: Callable[[], Any]) -> None:
    """
    Tell how to open another connection like this one, set-up and all.

    Args:
        connection: A driver's connection of the app's. One that cannot be weakly referenced has
            no door, and nothing is noted of it.
        opener: Opens the other one; it may block. It is called outside of the batch.
    """
    with suppress(TypeError):
        _openers[connection] = opener


def opener_of(connection: Any) -> Callable[[], Any] | None:
    """What was told for a connection, or None."""
    try:
        return _openers.get(connection)
    except TypeError:  # it cannot be referenced weakly, so nobody has told anything
        return None
