"""What one SQL statement can mean for the transaction around it: Family, Kind, Statement."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Family(Enum):
    """Databases that share the SQL for transactions."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    MYSQL = "mysql"
    """MariaDB and MySQL."""


class Kind(Enum):
    """What a statement does."""

    READ = "read"
    """It changes nothing: there is nothing to undo, and no rollback can undo it."""
    HOLD = "hold"
    """It takes a lock or makes a setting. No other session's rollback may undo that."""
    WRITE = "write"
    """It changes data, or may do so."""
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    ROLLBACK_TO = "rollback to savepoint"
    RELEASE = "release savepoint"
    ISOLATION = "set isolation level"
    REFUSED = "refused"
    """It cannot be part of a batch; ``Statement.refusal`` says why and what to do instead."""


CHANGES_DATA = (Kind.READ, Kind.HOLD, Kind.WRITE)
"""The kinds that read or change data, or hold it."""


class Statement(NamedTuple):
    """What one statement means."""

    kind: Kind
    refusal: str = ""
    """REFUSED: what the handler does, and what to do instead."""

    # Control of the transaction.
    savepoint: str = ""
    """SAVEPOINT, ROLLBACK_TO, RELEASE: its name, in lower case and without quotes."""
    level: str = ""
    """BEGIN, ISOLATION: the isolation level that is asked for; empty: none."""
    read_only: bool = False
    """BEGIN, ISOLATION: the transaction is to be READ ONLY."""
    chains: bool = False
    """COMMIT, ROLLBACK: AND CHAIN, another transaction begins with the same options."""

    # What has to be done, or checked, around a statement that reads or writes.
    is_dml: bool = False
    """It begins with INSERT, UPDATE, DELETE or REPLACE, before which Python's sqlite3 begins a
    transaction."""
    calls: bool = False
    """CALL: a stored procedure runs, which may commit (MySQL)."""
    excludes: bool = False
    """It takes a lock that is to keep other sessions out (SKIP LOCKED, NOWAIT, advisory locks)."""
    sets_foreign_keys: bool = False
    """PRAGMA foreign_keys, which SQLite ignores inside a transaction."""

    settings: tuple[str, ...] = ()
    """The names of the settings that it makes; ``?`` where a parameter gives the name."""
    lasting: bool = False
    """The settings outlive the transaction (SET), unlike those of SET LOCAL."""
    lasting_unknown: bool = False
    """A parameter or an expression decides whether they do; ``lasting`` is then a guess."""

    @property
    def is_ordinary(self) -> bool:
        """It reads or writes, and nothing has to be done or checked around it."""
        special = self.calls or self.excludes or self.settings or self.sets_foreign_keys
        return self.kind in CHANGES_DATA and not special


CONTROL = frozenset(
    {Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.ROLLBACK_TO, Kind.RELEASE}
)
"""The kinds that begin, end or divide a transaction."""


def refused(why: str) -> Statement:
    """Make the statement that is refused."""
    return Statement(Kind.REFUSED, why)
