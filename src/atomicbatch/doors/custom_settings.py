"""
Custom settings of PostgreSQL's (``shop.tenant``): the names that the doors have seen.

Row level security often hangs on them. No list of the server's has them, so that a connection can
only be asked for one by its name. Doors therefore note the names, never the values, when an app
makes such settings outside of batches: as its pools open connections, or on connections that it
keeps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from atomicbatch.sql.custom_settings import MOST_CHARACTERS, custom_settings_in
from atomicbatch.sql.lexing import text_of

MOST_NAMES: Final = 200
"""How many names of a process are kept: a connection is asked for each, once in a batch."""
_MOST_LENGTH = 200


class Names:
    """
    The names that a process has seen; several threads may note some at a time.

    Attributes:
        are_too_many: Not all of them are kept.
    """

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self.are_too_many = False

    def __iter__(self) -> Any:
        return iter(sorted(self._names))

    def add(self, names: Iterable[str]) -> None:
        """Keep some more."""
        known = self._names.union(names)
        if len(known) > MOST_NAMES or max(map(len, known), default=0) > _MOST_LENGTH:
            self.are_too_many = True
        else:
            self._names = known


seen: Final = Names()


def note_custom(query: Any, parameters: Any = None) -> None:
    """
    Note the names of custom settings that a statement makes; a door calls it with each statement.

    Args:
        query: In whatever form a driver of PostgreSQL's takes it.
        parameters: What goes with it.
    """
    if query.__class__ is not str:
        query = _beginning_of(query)
    if names := custom_settings_in(query, parameters):
        seen.add(names)


def _beginning_of(query: Any) -> str:
    if isinstance(query, bytes):
        query = query[: 2 * MOST_CHARACTERS]
    elif not isinstance(query, str):
        # psycopg's and psycopg2's compositions of SQL: to write a long one takes its time.
        first = next(iter(query), "") if hasattr(query, "__iter__") else query
        if "set" not in text_of(first).lower():
            return ""
    return text_of(query)
