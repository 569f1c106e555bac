"""What a statement can mean for the transaction around it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Family(Enum):
    """Databases that speak the same SQL about transactions."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    MYSQL = "mysql"


class Kind(Enum):
    """What a statement does."""

    READ = "read"
    """Nothing that would have to be undone, or that another session's rollback could undo."""
    HOLD = "hold"
    """Takes a lock or makes a setting: no data, but nobody else's rollback may undo it."""
    WRITE = "write"
    """Changes data, or may do so."""
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    ROLLBACK_TO = "rollback to savepoint"
    RELEASE = "release savepoint"
    ISOLATION = "set isolation level"
    REFUSED = "refused"
    """Cannot be made part of a batch; ``detail`` says why and what to do."""


class Statement(NamedTuple):
    """How one statement was read."""

    kind: Kind
    detail: str = ""
    """
    A savepoint's name, a transaction's options, why it is refused, what has to be checked.

    After COMMIT and ROLLBACK "chain": another transaction begins with the same options. Of a
    write "dml": it begins with INSERT, UPDATE, DELETE or REPLACE, which is where Python's sqlite3
    begins a transaction.
    """
    settings: tuple[str, ...] = ()
    """The settings that it makes: names, or ``?`` where parameters name them."""
    lasting: bool = False
    """They outlive the transaction (SET), unlike those of SET LOCAL."""
    lasting_unknown: bool = False
    """A parameter, or another expression, says whether they do; ``lasting`` is then a guess."""


CONTROL = frozenset(
    {Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.ROLLBACK_TO, Kind.RELEASE}
)
