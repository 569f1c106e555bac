"""Virtual transactions: what sessions commit stays, what they roll back goes, or OverlapError."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atomicbatch.join.stack import OverlapError, Stack, Virtual
from atomicbatch.sql.statements import Family, Kind
from tests.join.plays import SESSIONS, Database, Entry, NoSavepointError, Play

FAMILIES = list(Family)
LAZY = [Family.SQLITE, Family.MYSQL]


def examples(few: int, many: int) -> pytest.MarkDecorator:
    """How many examples of a property are tried: few, and many in ``make prove``."""
    return pytest.mark.parametrize(
        "examples", [few, pytest.param(many, marks=pytest.mark.prove)], ids=["few", "many"]
    )


def tried(examples: int, check: Callable[..., None]) -> None:
    settings(max_examples=examples, deadline=None)(check)()


# Examples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_reader_left_open(family: Family) -> None:
    """A session that only reads, and is closed last, undoes nothing that another has committed."""
    play = Play(family)
    play.read(0)
    play.write(1)
    play.commit(1)
    play.rollback(0)
    assert play.sent == []
    assert play.database.numbers() == [1]


@pytest.mark.parametrize("family", FAMILIES)
def test_interleaved_commits(family: Family) -> None:
    """Sessions may commit in the order in which they began, and both keep their rows."""
    play = Play(family)
    play.write(0)
    play.write(1)
    play.commit(0)
    play.commit(1)
    play.write(2)
    play.rollback(2)
    assert play.database.numbers() == [1, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_overlapping_writes(family: Family) -> None:
    """A session that wrote cannot be rolled back alone once another has written after it."""
    play = Play(family)
    play.write(0)
    play.write(1)
    play.commit(1)
    with pytest.raises(OverlapError):
        play.rollback(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_nested_rollbacks(family: Family) -> None:
    """Sessions that are rolled back in the reverse order of their writes do not overlap."""
    play = Play(family)
    play.write(0)
    play.write(1)
    play.rollback(1)
    assert play.database.numbers() == [1]
    play.rollback(0)
    assert play.database.numbers() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_lock_kept(family: Family) -> None:
    """A session's rollback must not give up a lock that another has taken after it."""
    play = Play(family)
    play.write(0)
    play.hold(1)
    with pytest.raises(OverlapError):
        play.rollback(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_foreign_work_under_reader(family: Family) -> None:
    """Rolling back a session that took but a lock sends nothing, where others have worked since."""
    play = Play(family)
    play.hold(0)
    play.write(1)
    play.rollback(0)
    assert play.sent == []
    assert play.database.numbers() == [2]


@pytest.mark.parametrize("family", FAMILIES)
def test_same_savepoint_names(family: Family) -> None:
    """Two sessions' savepoints of one name are two: each rolls back to its own."""
    play = Play(family)
    play.write(0)
    play.savepoint(0, "sa_savepoint_1")
    play.write(0)
    play.write(1)
    play.savepoint(1, "sa_savepoint_1")
    play.write(1)
    play.rollback_to(1, "sa_savepoint_1")
    assert play.database.numbers() == [1, 2, 3]
    with pytest.raises(OverlapError):
        play.rollback_to(0, "sa_savepoint_1")


@pytest.mark.parametrize("family", FAMILIES)
def test_foreign_savepoint(family: Family) -> None:
    """A savepoint of another session does not exist for this one."""
    stack = Stack(family)
    one, other = Virtual(), Virtual()
    stack.set_savepoint(one, "a")
    with pytest.raises(KeyError):
        stack.rollback_to(other, "a")
    with pytest.raises(KeyError):
        stack.release(other, "a")


@pytest.mark.parametrize("family", FAMILIES)
def test_same_savepoint_twice(family: Family) -> None:
    """A name set twice means the newer savepoint; only MySQL forgets the older one."""
    stack = Stack(family)
    virtual = Virtual()
    stack.set_savepoint(virtual, "a")
    stack.before(virtual, Kind.WRITE)
    stack.set_savepoint(virtual, "a")
    newer = stack.rollback_to(virtual, "a")
    stack.release(virtual, "a")
    if family is Family.MYSQL:
        with pytest.raises(KeyError):
            stack.rollback_to(virtual, "a")
    else:
        assert newer == ["ROLLBACK TO SAVEPOINT ab_3"]
        assert stack.rollback_to(virtual, "a") == ["ROLLBACK TO SAVEPOINT ab_2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_released_with_later_ones(family: Family) -> None:
    """Releasing a savepoint ends those that the session has set after it."""
    stack = Stack(family)
    virtual = Virtual()
    for name in "abc":
        stack.set_savepoint(virtual, name)
    stack.release(virtual, "b")
    with pytest.raises(KeyError):
        stack.rollback_to(virtual, "c")
    assert stack.rollback_to(virtual, "a") == ["ROLLBACK TO SAVEPOINT ab_2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_release_is_ones_own(family: Family) -> None:
    """Releasing a savepoint leaves alone those that another session has set after it."""
    stack = Stack(family)
    one, other = Virtual(), Virtual()
    stack.set_savepoint(one, "a")
    stack.set_savepoint(other, "a")
    stack.release(one, "a")
    assert stack.rollback_to(other, "a") == ["ROLLBACK TO SAVEPOINT ab_4"]


@pytest.mark.parametrize("family", FAMILIES)
def test_savepoint_kept_by_reader(family: Family) -> None:
    """A reader's own savepoint is still there when it reads again after another's commit."""
    play = Play(family)
    play.savepoint(0, "a")
    play.write(1)
    play.commit(1)
    play.read(0)
    play.release(0, "a")
    play.rollback(0)
    assert play.database.numbers() == [1]


def test_eager_marks() -> None:
    """On PostgreSQL reading sets a savepoint too, since any failing statement breaks everything."""
    stack = Stack(Family.POSTGRESQL)
    virtual = Virtual()
    assert stack.before(virtual, Kind.READ) == ["SAVEPOINT ab_1"]
    assert stack.before(virtual, Kind.WRITE) == []


@pytest.mark.parametrize("family", LAZY)
def test_lazy_marks(family: Family) -> None:
    """Elsewhere the first statement that is not a mere reading sets it."""
    stack = Stack(family)
    virtual = Virtual()
    assert stack.before(virtual, Kind.READ) == []
    assert stack.before(virtual, Kind.HOLD) == ["SAVEPOINT ab_1"]
    assert stack.before(virtual, Kind.WRITE) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_reader_needs_one_mark(family: Family) -> None:
    """A reader's mark is set above what others have done, so that its failure undoes its own."""
    play = Play(family)
    play.read(0)
    play.write(1)
    play.commit(1)
    play.fail_reading(0)
    play.read(2)
    play.check()
    play.rollback(0)
    assert play.database.numbers() == [1]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (Family.SQLITE, ["RELEASE SAVEPOINT ab_1", "SAVEPOINT ab_1"]),
        (Family.POSTGRESQL, ["RELEASE SAVEPOINT ab_1", "SAVEPOINT ab_1"]),
        (Family.MYSQL, ["SAVEPOINT ab_1"]),
    ],
)
def test_moved_mark(family: Family, expected: list[str]) -> None:
    """What is committed is released when the next mark is set; MySQL moves the savepoint."""
    stack = Stack(family)
    first = Virtual()
    stack.before(first, Kind.WRITE)
    assert stack.commit(first) == []
    assert stack.before(Virtual(), Kind.WRITE) == expected


def test_reused_mark() -> None:
    """A mark after which nothing has been done serves the next session as it is."""
    stack = Stack(Family.POSTGRESQL)
    first, second = Virtual(), Virtual()
    assert stack.before(first, Kind.READ) == ["SAVEPOINT ab_1"]
    assert stack.commit(first) == []
    assert stack.before(second, Kind.WRITE) == []
    assert stack.rollback(second) == ["ROLLBACK TO SAVEPOINT ab_1"]
    assert stack.before(Virtual(), Kind.WRITE) == []


def test_depth() -> None:
    """Pairs of sessions that only read leave no savepoints behind, however many come."""
    play = Play(Family.POSTGRESQL)
    for _ in range(100):
        play.read(0)
        play.read(1)
        play.commit(1)
        play.commit(0)
    assert len(play.database.savepoints) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_wrote(family: Family) -> None:
    """Only changes count as the batch's writing: not reading, nor locks, nor savepoints."""
    stack = Stack(family)
    virtual = Virtual()
    stack.before(virtual, Kind.READ)
    stack.before(virtual, Kind.HOLD)
    stack.set_savepoint(virtual, "a")
    assert not stack.wrote
    stack.before(virtual, Kind.WRITE)
    assert stack.wrote


def test_autocommit_wrote() -> None:
    """A change that commits by itself counts, and keeps others from rolling back over it."""
    stack = Stack(Family.SQLITE)
    virtual = Virtual()
    stack.before(virtual, Kind.WRITE)
    stack.note_alone()
    assert stack.wrote
    with pytest.raises(OverlapError):
        stack.rollback(virtual)


def test_abandoned() -> None:
    """A transaction whose statement has failed is undone once, when another has to go on."""
    play = Play(Family.POSTGRESQL)
    play.write(0)
    play.fail_writing(0)
    play.write(1)
    assert play.database.numbers() == [2]
    play.rollback(0)
    assert play.sent == []
    assert play.database.numbers() == [2]


def test_abandoned_too_late() -> None:
    """It cannot be undone once another has changed something since it began."""
    play = Play(Family.POSTGRESQL)
    play.write(0)
    play.write(1)
    play.fail_writing(0)
    with pytest.raises(OverlapError):
        play.write(1)


# Any interleaving --------------------------------------------------------------------------------

Step = Callable[[Play, int], None]


def _named(method: Callable[[Play, int, str], None], name: str) -> Step:
    def step(play: Play, number: int) -> None:
        method(play, number, name)

    step.__name__ = f"{method.__name__}_{name}"
    return step


READING: list[Step] = [Play.read, Play.read, Play.commit, Play.rollback, Play.fail_reading]
WRITING: list[Step] = [
    *READING,
    Play.write,
    Play.write,
    Play.write,
    Play.hold,
    Play.fail_writing,
    *(_named(Play.savepoint, name) for name in "ab"),
    *(_named(Play.release, name) for name in "ab"),
    *(_named(Play.rollback_to, name) for name in "ab"),
]
ENDS = st.lists(st.booleans(), min_size=SESSIONS, max_size=SESSIONS)


def steps(*kinds: st.SearchStrategy[tuple[int, Step]]) -> st.SearchStrategy[list[tuple[int, Step]]]:
    return st.lists(st.one_of(*kinds), max_size=40)


def by(first: int, last: int, kinds: list[Step]) -> st.SearchStrategy[tuple[int, Step]]:
    return st.tuples(st.integers(first, last), st.sampled_from(kinds))


def perform(play: Play, script: list[tuple[int, Step]], ends: list[bool]) -> None:
    for number, step in script:
        step(play, number)
        play.check()
    play.end(commits=ends)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@examples(150, 3000)
def test_any_interleaving(family: Family, examples: int) -> None:
    """Whatever sessions do in turn, what they committed is what is there, or OverlapError says."""

    @given(script=steps(by(0, SESSIONS - 1, [*WRITING, Play.autocommit])), ends=ENDS)
    def check(script: list[tuple[int, Step]], ends: list[bool]) -> None:
        while True:
            play = Play(family)
            steps_done = 0
            try:
                for number, step in script:
                    step(play, number)
                    play.check()
                    steps_done += 1
                play.end(commits=ends)
            except OverlapError:
                if steps_done == len(script):
                    return
                # Once more without this step, for the sake of those behind it.
                script = script[:steps_done] + script[steps_done + 1 :]
            else:
                return

    tried(examples, check)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@examples(100, 2000)
def test_one_after_another(family: Family, examples: int) -> None:
    """Sessions that never overlap in time never conflict, whatever each of them does."""

    @given(
        scripts=st.lists(
            st.tuples(st.lists(st.sampled_from(WRITING), max_size=15), st.booleans()), max_size=6
        )
    )
    def check(scripts: list[tuple[list[Step], bool]]) -> None:
        play = Play(family)
        for number, (script, commit) in enumerate(scripts):
            for step in script:
                step(play, number % SESSIONS)
                play.check()
            (play.commit if commit else play.rollback)(number % SESSIONS)
            play.check()
        play.end(commits=[True] * SESSIONS)

    tried(examples, check)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@examples(100, 2000)
def test_one_writer(family: Family, examples: int) -> None:
    """Sessions that only read never conflict with the one that writes, in whatever order."""

    @example(
        script=[
            (1, Play.read),
            (0, Play.write),
            (1, Play.read),
            (0, Play.write),
            (1, Play.fail_reading),
        ],
        ends=[False, False, False],
    )
    @given(script=steps(by(0, 0, WRITING), by(1, SESSIONS - 1, READING)), ends=ENDS)
    def check(script: list[tuple[int, Step]], ends: list[bool]) -> None:
        perform(Play(family), script, ends)

    tried(examples, check)


@pytest.mark.slow
@examples(50, 1000)
def test_simulation(examples: int) -> None:
    """The database of these tests does with savepoints what a real one does."""
    verbs = st.sampled_from(["", "SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO SAVEPOINT "])
    statements = verbs.flatmap(
        lambda verb: st.sampled_from("abc").map(lambda name: verb and verb + name)
    )

    @given(script=st.lists(statements, max_size=30))
    def check(script: list[str]) -> None:
        simulated = Database(Family.SQLITE)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as real:
            real.execute("CREATE TABLE entries (number INTEGER)")
            real.execute("BEGIN")
            for number, sql in enumerate(script):
                if not sql:
                    real.execute("INSERT INTO entries VALUES (?)", (number,))
                    simulated.entries.append(Entry(number, is_write=True))
                    continue
                try:
                    simulated.run([sql])
                except NoSavepointError:
                    with pytest.raises(sqlite3.OperationalError, match="no such savepoint"):
                        real.execute(sql)
                else:
                    real.execute(sql)
            rows = real.execute("SELECT number FROM entries ORDER BY rowid").fetchall()
            assert simulated.numbers() == [number for (number,) in rows]

    tried(examples, check)
