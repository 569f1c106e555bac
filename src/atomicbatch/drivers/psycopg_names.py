"""Names: which SQL is prepared on one connection to PostgreSQL, and by what name."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

Key: TypeAlias = tuple[bytes, tuple[int, ...]]
"""SQL, and the types (OIDs) of its parameters as they are sent."""

_MOST_NAMES = 100
_MOST_SEEN = 1000


class Names:
    """
    The prepared statements of one connection.

    SQL that is used once is not worth a name: texts of lists differ by their page.
    """

    def __init__(self) -> None:
        self._names: OrderedDict[Key, bytes] = OrderedDict()
        self._seen: dict[Key, None] = {}
        self._count = 0
        self._unclosed: list[bytes] = []

    def find(self, key: Key) -> bytes | None:
        """The name of a statement, which is then the one used last; None: it has none."""
        name = self._names.get(key)
        if name is not None:
            self._names.move_to_end(key)
        return name

    def is_worth_one(self, key: Key) -> bool:
        """Whether it was used before."""
        if key in self._seen:
            return True
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[key] = None
        return False

    @property
    def is_full(self) -> bool:
        """Whether one has to be dropped before another is added."""
        return len(self._names) >= _MOST_NAMES

    def drop_oldest(self) -> list[bytes]:
        """Forget the one that was not used for the longest time; the names to be closed."""
        _, name = self._names.popitem(last=False)
        unclosed, self._unclosed = self._unclosed, []
        return [name, *unclosed]

    def keep_for_later(self, name: bytes) -> None:
        """The server was asked to close it, and has skipped that after an error."""
        self._unclosed.append(name)

    def add(self, key: Key) -> bytes:
        """A new name, never used before on this connection."""
        self._count += 1
        name = self._names[key] = b"atomicbatch_%d" % self._count
        return name

    def forget(self, key: Key) -> None:
        """It could not be prepared."""
        self._names.pop(key, None)
