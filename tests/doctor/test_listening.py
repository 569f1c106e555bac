"""What is read past the transaction is noted; what is written there the guard refuses."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from atomicbatch import NotBatchableError
from atomicbatch.doctor.listening import Listening
from atomicbatch.doctor.watching import Watch
from atomicbatch.doors.sqlite import SQLITE3
from atomicbatch.guard import Allowed


class Joined:
    """What a transaction's block gives: some connections take part."""

    def __init__(self, *connections: object) -> None:
        self._connections = connections

    def takes_part(self, connection: object) -> bool:
        return connection in self._connections


def test_reads_and_writes() -> None:
    """Each database once; nothing of the batch's own connections, and nothing but queries."""
    noting = Watch()
    listening = Listening(Allowed(), noting)
    with closing(sqlite3.connect(":memory:")) as own, closing(sqlite3.connect(":memory:")) as other:
        listening.begun(Joined(own), before={})  # type: ignore[arg-type]
        for sql in ("SELECT 1", "INSERT INTO a VALUES (1)"):
            listening.sends(own, SQLITE3, sql)
        listening.sends(other, SQLITE3, "PRAGMA table_info(a)")
        assert not noting.reads
        for sql in ("SELECT 1", " (\nselect 2)", "WITH a AS (SELECT 1) SELECT * FROM a"):
            listening.sends(other, SQLITE3, sql)
        assert [*noting.reads] == ["a database in memory by sqlite3"]
        with pytest.raises(NotBatchableError, match="a handler writes"):
            listening.sends(other, SQLITE3, "DELETE FROM a")


def test_what_batches_leave_alone() -> None:
    """It is refused all the same, and the batch does not fail for it."""
    noting = Watch()
    listening = Listening(Allowed(("sqlite3",)), noting)
    with closing(sqlite3.connect(":memory:")) as other:
        listening.begun(Joined(), before={})  # type: ignore[arg-type]
        with pytest.raises(PermissionError, match="by sqlite3, which batches leave alone"):
            listening.sends(other, SQLITE3, "DELETE FROM a")
    assert [*noting.outside] == ["a database in memory by sqlite3"]
    listening.check()
