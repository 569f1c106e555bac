"""Memo: what was worked out before, by the bytes it was worked out from, within bounds."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Memo(dict[Key, Value]):
    """
    A dictionary that starts anew when it is full.

    So what is different each time makes it useless, and never large. Threads may share it: what it
    says of a key depends on the key alone, and no matter who has put it there.

    Only ``keep`` adds to it. Looking up is the dictionary's own, as that has to be fast.

    Args:
        most_entries: How many it holds.
        most_bytes: How long a key may be; longer ones are not remembered.
    """

    __slots__ = ("_most_bytes", "_most_entries")

    def __init__(self, most_entries: int, most_bytes: int) -> None:
        super().__init__()
        self._most_entries = most_entries
        self._most_bytes = most_bytes

    def keep(self, key: Key, value: Value, size: int) -> Value:
        """
        Remember a value, unless its key is too long; return it.

        Args:
            key: What the value was worked out from.
            value: What it comes to.
            size: Bytes of the key.
        """
        if size <= self._most_bytes:
            if len(self) >= self._most_entries:
                self.clear()
            self[key] = value
        return value
