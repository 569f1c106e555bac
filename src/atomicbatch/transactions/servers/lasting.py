"""
Lasting: what calls set on a connection of the app's beyond their transactions (PostgreSQL).

In a batch a handler's SET works on the batch's own connection, and ends with it. Alone it would
stay on the app's connection, when its transaction has committed: for the next call that uses it,
and for requests after the batch. So it is made there as well; and the next call of the batch asks
for it, since whoever keeps the connection may have reset it meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from atomicbatch.transactions.servers.introduction import make_settings, quoted

_QUERY = (
    "SELECT json_object_agg(name, current_setting(name, true))::text"
    " FROM unnest(ARRAY[{names}]) AS name"
)


class Lasting:
    """The names of what the calls of one attempt have set so, for each connection of the app's."""

    def __init__(self) -> None:
        # By identity, with a reference that tells whose it still is.
        self._names: dict[int, tuple[Callable[[], Any], set[str]]] = {}

    def note(self, owner: Callable[[], Any], names: Iterable[str]) -> None:
        """
        Take note of names.

        Args:
            owner: Gives the connection, or None once it is gone.
            names: Of settings.
        """
        self._names.setdefault(id(owner()), (owner, set()))[1].update(names)

    def query(self, connection: Any) -> str:
        """Write what asks a connection for what they are now; empty: nothing is known of it."""
        owner, names = self._names.get(id(connection), (None, None))
        if owner is None or not names or owner() is not connection:
            return ""
        listed = ", ".join(map(quoted, sorted(names)))
        return _QUERY.format(names=listed)


def told(answer: str) -> dict[str, str]:
    """Read the answer to such a query; one that is not there any more is empty."""
    return {name: value or "" for name, value in json.loads(answer).items()}


def making(now: Mapping[str, str], before: Mapping[str, str]) -> str:
    """Write what gives a connection the settings that it has not yet; empty: it has them all."""
    changes = [(name, value) for name, value in now.items() if before.get(name) != value]
    return make_settings(changes) if changes else ""
