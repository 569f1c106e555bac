"""
Virtual transactions: what handlers take for transactions, inside the one real transaction.

A handler's session begins, commits and rolls back. Here that becomes savepoints. This is the state
machine that says which. It sends nothing: its methods return the SQL to run.

Independent sessions do not nest. One that reads stays open while another commits, and they may end
in the order in which they began. If each had a savepoint, released and rolled back as it says, a
rollback would undo rows that another session has committed meanwhile. Hence the rules:

- A virtual transaction sets a savepoint, a *mark*, before its first statement that needs one.
- A mark remembers who else has changed something since it was set.
- COMMIT only marks it as done. When the next mark is set, those on top that are done are released
  in the same round trip.
- Rolling back to a mark is right only while nobody else has changed anything since. If somebody
  has, a transaction that has changed nothing has nothing to undo. Anything else cannot be done with
  savepoints: OverlapError. It never guesses.

The stack, while A has set a savepoint of its own and B has begun after it; the top is below::

    ab_0   the root, from right after BEGIN; it fails at the end if the transaction is another one
    ab_1   A's mark, others: {B}        A cannot be rolled back any more, since B has written
    ab_2   A's savepoint "x", others: {B}
    ab_3   B's mark                     B can

A session says ...            and sent is
    a first write             SAVEPOINT ab_N, N being the depth
    COMMIT                    nothing: done
    ROLLBACK                  ROLLBACK TO SAVEPOINT ab_N; the marks above are gone
"""

from __future__ import annotations

from atomicbatch.sql.statements import Family, Kind


class OverlapError(Exception):
    """Two transactions of one call overlap, and the one that rolls back cannot be undone alone."""


class Mark:
    """A savepoint that we have set."""

    __slots__ = ("done", "name", "others", "owner", "used", "user_name")

    def __init__(self, name: str, owner: Virtual, user_name: str) -> None:
        self.name = name
        self.owner = owner
        self.user_name = user_name
        """The name that the handler gave to a savepoint of its own, or empty."""
        self.others: set[Virtual] = set()
        """Who else has changed something since."""
        self.used = False
        """Somebody has changed something since."""
        self.done = False
        """Nobody will roll back to it any more."""


class Virtual:
    """
    One transaction as a handler sees it.

    Attributes:
        wrote: It has changed something, or may have.
        failed: A statement of it has failed since it began.
        aborted: The database would refuse its statements until it is rolled back (PostgreSQL),
            and it has been rolled back already, for others to go on.
    """

    __slots__ = ("aborted", "failed", "mark", "wrote")

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.wrote = False
        self.failed = False
        self.aborted = False


class Stack:
    """
    All virtual transactions of one real transaction.

    Args:
        family: PostgreSQL needs a mark before every statement, since any failing one breaks the
            transaction; elsewhere reading needs none. On MySQL setting a savepoint again moves it.
        prefix: What its savepoints' names begin with. One real transaction that is itself a
            savepoint inside of another needs names of its own.
    """

    __slots__ = ("_eager", "_marks", "_moves", "_prefix", "_root", "wrote")

    def __init__(self, family: Family, prefix: str = "ab") -> None:
        self._eager = family is Family.POSTGRESQL
        self._moves = family is Family.MYSQL
        self._prefix = prefix
        self._root = Mark(f"{prefix}_0", Virtual(), "")
        self._marks = [self._root]
        self.wrote = False

    def after_begin(self) -> list[str]:
        """What to run right after BEGIN."""
        return [f"SAVEPOINT {self._root.name}"]

    def before_commit(self) -> list[str]:
        """
        What to run right before COMMIT.

        It fails if the transaction has been ended behind our back, or is broken: the savepoint
        from its first moment is then gone, or cannot be released.
        """
        return [f"RELEASE SAVEPOINT {self._root.name}"]

    def before_rollback(self) -> list[str]:
        """What to run right before ROLLBACK; it fails if the transaction has ended meanwhile."""
        return [f"ROLLBACK TO SAVEPOINT {self._root.name}"]

    def before(self, virtual: Virtual, kind: Kind) -> list[str]:
        """What to run before a statement of a virtual transaction; told apart are only kinds."""
        sql: list[str] = []
        if self._eager and virtual.mark is not None and virtual.mark.others:
            self._renew(virtual)
        if virtual.mark is None and (self._eager or kind is not Kind.READ):
            sql = self._push(virtual, "")
        if kind is not Kind.READ:
            self._note(virtual)
            if kind is not Kind.HOLD:
                virtual.wrote = self.wrote = True
        return sql

    def note_alone(self) -> None:
        """Take note of a change that commits by itself and cannot fail halfway (AUTOCOMMIT)."""
        self.wrote = True
        self._note(Virtual())

    def set_savepoint(self, virtual: Virtual, user_name: str) -> list[str]:
        """The handler sets a savepoint of its own."""
        sql = self.before(virtual, Kind.HOLD)
        if self._moves:
            for mark in self._marks:
                if mark.owner is virtual and mark.user_name == user_name:
                    mark.done = True
        return sql + self._push(virtual, user_name)

    def release(self, virtual: Virtual, user_name: str) -> list[str]:
        """The handler releases a savepoint of its own; KeyError if it has none of that name."""
        index = self._find(virtual, user_name)
        for mark in self._marks[index:]:
            if mark.owner is virtual:
                mark.done = True
        return []

    def has_own(self, virtual: Virtual) -> bool:
        """Tell whether the handler has set savepoints of its own that it has not released."""
        return any(
            mark.owner is virtual and mark.user_name and not mark.done for mark in self._marks
        )

    def is_shared(self, virtual: Virtual) -> bool:
        """Tell whether another transaction is open, and may hold locks."""
        return any(
            not mark.done and mark.owner is not virtual and mark is not self._root
            for mark in self._marks
        )

    def rollback_to(self, virtual: Virtual, user_name: str) -> list[str]:
        """The handler rolls back to a savepoint of its own; KeyError if it has none such."""
        index = self._find(virtual, user_name)
        mark = self._marks[index]
        if mark.others:
            raise OverlapError
        self._cut(index + 1)
        return [f"ROLLBACK TO SAVEPOINT {mark.name}"]

    def commit(self, virtual: Virtual) -> list[str]:
        """The handler commits."""
        self._finish(virtual)
        return []

    def rollback(self, virtual: Virtual) -> list[str]:
        """
        The handler rolls back.

        Raises:
            OverlapError: It has changed something, and so has somebody else since it began.
        """
        mark = virtual.mark
        if mark is None:
            return []
        if mark.others:
            if virtual.wrote and not virtual.aborted:
                raise OverlapError
            self._finish(virtual)
            return []
        if not mark.used and not virtual.failed:
            self._finish(virtual)
            return []
        sql = self._undo(virtual, mark)
        self._finish(virtual)
        return sql

    def abandon(self, virtual: Virtual) -> list[str]:
        """
        A statement has failed and broken the real transaction (PostgreSQL); others want to go on.

        Raises:
            OverlapError: What others have done since would be undone.
        """
        mark = virtual.mark
        if mark is None or mark.others:
            raise OverlapError
        sql = self._undo(virtual, mark)
        virtual.aborted = True
        return sql

    def _undo(self, virtual: Virtual, mark: Mark) -> list[str]:
        self._cut(self._marks.index(mark) + 1)
        for other in self._marks:
            other.others.discard(virtual)
        mark.used = False
        return [f"ROLLBACK TO SAVEPOINT {mark.name}"]

    def _renew(self, virtual: Virtual) -> None:
        """
        Let a transaction that has only read set its mark anew, above what others have done.

        Else a statement of it that fails could not be undone without undoing theirs.
        """
        own = [mark for mark in self._marks if mark.owner is virtual and not mark.done]
        if not virtual.wrote and own == [virtual.mark]:
            self._finish(virtual)

    def _finish(self, virtual: Virtual) -> None:
        for mark in self._marks:
            if mark.owner is virtual:
                mark.done = True
        virtual.mark = None

    def _cut(self, length: int) -> None:
        """Rolling back has destroyed the marks above; whoever still needs one sets it anew."""
        for mark in self._marks[length:]:
            if mark.owner.mark is mark:
                mark.owner.mark = None
        del self._marks[length:]

    def _note(self, virtual: Virtual) -> None:
        for mark in self._marks:
            mark.used = True
            if mark.owner is not virtual:
                mark.others.add(virtual)

    def _push(self, virtual: Virtual, user_name: str) -> list[str]:
        """
        Set a mark on top, in the place of those on top that are done.

        Say C sets one::

            ab_0  root               ab_0  root               ab_0  root
            ab_1  A's                ab_1  A's                ab_1  A's
            ab_2  B's                ab_2  B's, done, used    ab_2  B's, done, unused
                                     ab_3  B's, done          ab_3  B's, done

            SAVEPOINT ab_3           RELEASE SAVEPOINT ab_2;  nothing: ab_2 is as good
                                     SAVEPOINT ab_2           as new, and now C's

            ab_3  C's                ab_2  C's                ab_2  C's
                                                              ab_3  B's, done

        Names tell the depth, not a number of their own: drivers keep prepared statements by their
        text. MySQL itself releases a savepoint, and those above, when its name is set again.
        """
        marks = self._marks
        depth = self._depth_of_open()
        mark = Mark(f"{self._prefix}_{depth}", virtual, user_name)
        sql: list[str] = []
        if depth == len(marks):
            sql = [f"SAVEPOINT {mark.name}"]
            marks.append(mark)
        elif not marks[depth].used and not marks[depth].others:
            # Nothing has happened since it was set, nor since those above it were.
            marks[depth] = mark
        else:
            if not self._moves:
                sql = [f"RELEASE SAVEPOINT {mark.name}"]
            sql.append(f"SAVEPOINT {mark.name}")
            marks[depth:] = [mark]
        if not user_name:
            virtual.mark = mark
        return sql

    def _depth_of_open(self) -> int:
        """How many marks there are up to the topmost that is not done."""
        depth = len(self._marks)
        while self._marks[depth - 1].done:
            depth -= 1
        return depth

    def _find(self, virtual: Virtual, user_name: str) -> int:
        for index in range(len(self._marks) - 1, 0, -1):
            mark = self._marks[index]
            if mark.owner is virtual and mark.user_name == user_name and not mark.done:
                return index
        raise KeyError(user_name)
