"""Advice: what to do instead of what is refused, in the words of whoever has made the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Advice(NamedTuple):
    """
    The parts of messages that differ by who reads them: for some it is an argument, or a setting.

    Attributes:
        use_own: How to write so that it is part of the batch.
        allow: How to leave a library or a database alone; ``{name}`` stands for it.
        give_other: How to leave one of two databases alone.
        set_level: How to give batches an isolation level; ``{level}`` stands for it.
        set_foreign_keys: How to have SQLite's foreign keys checked alike by all connections.
        watched_since: What comes before a connection that is watched is opened.
        watch_first: How to see to that.
        joins_since: What comes before a connection that takes part is opened.
        join_first: How to see to that.
        instead: What is said in place of a refusal of ``sql/refusals.py``.
    """

    use_own: str = "use the batch's own connections (those of an SQLAlchemy engine, say)"
    allow: str = 'allow it by name: outside=("{name}",)'
    give_other: str = "give the other as outside=..."
    set_level: str = 'give the transaction isolation_level="{level}"'
    set_foreign_keys: str = "set it alike on all, when they are opened"
    watched_since: str = "AtomicBatch was made"
    watch_first: str = "make AtomicBatch first"
    joins_since: str = "DriverTransaction was imported"
    join_first: str = "import it first"
    instead: Mapping[str, str] = {}

    def refusal(self, text: str) -> str:
        """Say a refusal of ``sql/refusals.py``."""
        return self.instead.get(text, text)


ARGUMENTS = Advice()
"""For whoever makes an adapter in Python code."""
