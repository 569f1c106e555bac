"""Plays: sessions on a simulated database, whose savepoints the stack decides."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from atomicbatch.join.stack import OverlapError, Stack, Virtual
from atomicbatch.sql.statements import Family, Kind

SESSIONS = 3
"""How many there are in a play."""


class NoSavepointError(Exception):
    """The database knows no savepoint of that name."""


class BrokenError(Exception):
    """The database refuses all statements until a savepoint is rolled back to (PostgreSQL)."""


class Entry(NamedTuple):
    """Something that has been done: a row written, or a lock taken."""

    number: int
    is_write: bool


class Database:
    """One transaction of a database, and its savepoints."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.entries: list[Entry] = []
        self.savepoints: list[tuple[str, int]] = []
        self.broken = False

    def run(self, sql: list[str]) -> None:
        """Run SAVEPOINT, RELEASE SAVEPOINT and ROLLBACK TO SAVEPOINT."""
        for statement in sql:
            verb, _, name = statement.rpartition(" ")
            if self.broken and verb != "ROLLBACK TO SAVEPOINT":
                raise BrokenError(statement)
            if verb == "SAVEPOINT":
                if self.family is Family.MYSQL:
                    self.savepoints = [one for one in self.savepoints if one[0] != name]
                self.savepoints.append((name, len(self.entries)))
                continue
            index = self.find(name)
            if verb == "RELEASE SAVEPOINT":
                del self.savepoints[index:]
            else:
                assert verb == "ROLLBACK TO SAVEPOINT"
                del self.entries[self.savepoints[index][1] :]
                del self.savepoints[index + 1 :]
                self.broken = False

    def find(self, name: str) -> int:
        """Where the newest savepoint of a name is."""
        for index in range(len(self.savepoints) - 1, -1, -1):
            if self.savepoints[index][0] == name:
                return index
        raise NoSavepointError(name)

    def numbers(self, *, writes_only: bool = True) -> list[int]:
        """What is there, in the order of execution."""
        return [entry.number for entry in self.entries if entry.is_write or not writes_only]


class Session:
    """What a handler's session is to the batch, and what it would be with a database of its own."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.virtual = Virtual()
        self.native = Database(family)

    def restart(self) -> None:
        """Its next statement begins another transaction."""
        self.virtual = Virtual()
        self.native = Database(self.family)


class Play:
    """Sessions that share one real transaction, against sessions that have one each."""

    def __init__(self, family: Family, sessions: int = SESSIONS) -> None:
        self.family = family
        self.stack = Stack(family)
        self.database = Database(family)
        self.sessions = [Session(family) for _ in range(sessions)]
        self.committed: set[int] = set()
        self.count = 0
        # Whose statement has broken the real transaction.
        self.suspect: Virtual | None = None
        self.sent: list[str] = []
        self.run(self.stack.after_begin())

    def run(self, sql: list[str]) -> None:
        """Run what the stack says."""
        self.sent = sql
        self.database.run(sql)
        # Else they would pile up, one within the other.
        names = [name for name, _ in self.database.savepoints]
        assert len(set(names)) == len(names)

    def make_way(self, virtual: Virtual) -> None:
        """Mend the transaction that another session's failed statement has broken."""
        if self.suspect is None or self.suspect is virtual:
            return
        if self.database.broken:
            self.run(self.stack.abandon(self.suspect))
        self.suspect = None

    # A handler's statements --------------------------------------------------------------------

    def _statement(self, session: Session, kind: Kind) -> bool:
        """Whether the statement runs; after one that failed, PostgreSQL lets none run."""
        if session.native.broken:
            # Either the database itself refuses it, or the transaction is known to be undone.
            assert session.virtual.aborted or self.database.broken
            return False
        self.make_way(session.virtual)
        self.run(self.stack.before(session.virtual, kind))
        return True

    def _change(self, session: Session, kind: Kind) -> None:
        if self._statement(session, kind):
            self.count += 1
            entry = Entry(self.count, kind is Kind.WRITE)
            self.database.entries.append(entry)
            session.native.entries.append(entry)

    def read(self, number: int) -> None:
        self._statement(self.sessions[number], Kind.READ)

    def write(self, number: int) -> None:
        self._change(self.sessions[number], Kind.WRITE)

    def hold(self, number: int) -> None:
        self._change(self.sessions[number], Kind.HOLD)

    def _fail(self, number: int, kind: Kind) -> None:
        session = self.sessions[number]
        if self._statement(session, kind):
            session.virtual.failed = True
            if self.family is Family.POSTGRESQL:
                self.database.broken = session.native.broken = True
                self.suspect = session.virtual

    def fail_reading(self, number: int) -> None:
        self._fail(number, Kind.READ)

    def fail_writing(self, number: int) -> None:
        self._fail(number, Kind.WRITE)

    def autocommit(self, number: int) -> None:
        """A change that commits by itself, by somebody who has no session here."""
        virtual = Virtual()
        self.make_way(virtual)
        self.count += 1
        if self.family is Family.POSTGRESQL:
            self.run(self.stack.before(virtual, Kind.WRITE))
            self.run(self.stack.commit(virtual))
        else:
            self.stack.note_alone()
        self.database.entries.append(Entry(self.count, is_write=True))
        self.committed.add(self.count)

    # A handler's savepoints --------------------------------------------------------------------

    def savepoint(self, number: int, name: str) -> None:
        session = self.sessions[number]
        if not session.native.broken:
            self.make_way(session.virtual)
            session.native.run([f"SAVEPOINT {name}"])
            self.run(self.stack.set_savepoint(session.virtual, name))

    def release(self, number: int, name: str) -> None:
        session = self.sessions[number]
        if session.native.broken:
            return
        self.make_way(session.virtual)
        try:
            session.native.run([f"RELEASE SAVEPOINT {name}"])
        except NoSavepointError:
            with pytest.raises(KeyError):
                self.stack.release(session.virtual, name)
        else:
            self.run(self.stack.release(session.virtual, name))

    def rollback_to(self, number: int, name: str) -> None:
        session = self.sessions[number]
        if session.virtual.aborted:
            return  # its savepoints are gone with the rest of it: the batch refuses
        self.make_way(session.virtual)
        try:
            session.native.run([f"ROLLBACK TO SAVEPOINT {name}"])
        except NoSavepointError:
            with pytest.raises(KeyError):
                self.stack.rollback_to(session.virtual, name)
        else:
            self.run(self.stack.rollback_to(session.virtual, name))
            if self.suspect is session.virtual:
                self.suspect = None

    # The end of a handler's transaction --------------------------------------------------------

    def commit(self, number: int) -> None:
        session = self.sessions[number]
        if session.native.broken:
            self.rollback(number)  # what COMMIT of a broken transaction is
            return
        self.run(self.stack.commit(session.virtual))
        self.committed.update(session.native.numbers())
        session.restart()

    def rollback(self, number: int) -> None:
        session = self.sessions[number]
        self.make_way(session.virtual)
        self.run(self.stack.rollback(session.virtual))
        if self.suspect is session.virtual:
            if self.database.broken:
                raise OverlapError
            self.suspect = None
        session.restart()

    # What must be true -------------------------------------------------------------------------

    def check(self) -> None:
        """The database holds what each session would hold, had it a database of its own."""
        if self.database.broken:
            return
        kept, held = set(self.committed), set()
        for session in self.sessions:
            if not session.native.broken:
                kept.update(session.native.numbers())
                held.update(session.native.numbers(writes_only=False))
        assert self.database.numbers() == sorted(kept)
        assert held <= set(self.database.numbers(writes_only=False))

    def end(self, *, commits: list[bool]) -> None:
        """End all sessions, and then the real transaction."""
        for number, commit in zip(range(len(self.sessions)), commits, strict=True):
            (self.commit if commit else self.rollback)(number)
            self.check()
        assert self.database.numbers() == sorted(self.committed)
        self.run(self.stack.before_commit())
        assert not self.database.savepoints
