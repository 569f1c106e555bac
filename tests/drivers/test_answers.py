"""Every driver's exceptions are read alike: what the real databases say by way of each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from atomicbatch.drivers import meanings
from atomicbatch.drivers.answers import answer_of, is_drivers
from atomicbatch.drivers.conflicts import is_conflict, is_lost
from tests.databases import OTHER_MYSQL
from tests.drivers.lines import ASYNC_NAMES, SYNC_NAMES, Line, run

Databases = Callable[[str], str]
DRIVERS = SYNC_NAMES | ASYNC_NAMES
# MySQL has no setting by which a snapshot makes one.
WITH_CONFLICTS = [name for name, family in DRIVERS.items() if not OTHER_MYSQL or family != "mysql"]
# A transaction that reads the row, which somebody else then changes.
SNAPSHOT = {
    "sqlite": ["BEGIN"],
    "postgresql": ["BEGIN ISOLATION LEVEL REPEATABLE READ"],
    "mysql": ["SET innodb_snapshot_isolation = ON", "START TRANSACTION WITH CONSISTENT SNAPSHOT"],
}
SESSION = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
END = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


def error_of(line: Line, text: str) -> Exception:
    with pytest.raises(Exception, match=r".") as raised:
        line.send(text)
    return raised.value


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("INSERT INTO item VALUES ('a')", meanings.UNIQUE),
        ("INSERT INTO item VALUES (NULL)", meanings.NOT_NULL),
    ],
    ids=["unique", "not null"],
)
def test_a_refused_row(
    name: str, text: str, meaning: meanings.Meaning, drivers_databases: Databases
) -> None:
    """The database's code is found, and means the same to a call; it is no conflict."""
    family = DRIVERS[name]
    url = drivers_databases(family)
    run(url, "INSERT INTO item VALUES ('a')")
    if family == "sqlite" and meaning is meanings.NOT_NULL:
        text = "INSERT INTO strict VALUES (NULL)"
    with Line(name, url) as line:
        error = error_of(line, text)
    answer = answer_of(error)
    assert answer is not None
    assert answer.family.value == family
    assert answer.verdict.meaning == meaning
    assert is_drivers(error)
    assert not is_conflict(error)
    assert not is_lost(error)


@pytest.mark.parametrize("name", WITH_CONFLICTS)
def test_a_conflict(name: str, drivers_databases: Databases) -> None:
    """Somebody else has changed the row since it was read."""
    url = drivers_databases(DRIVERS[name])
    run(url, "INSERT INTO item VALUES ('a')")
    with Line(name, url) as line:
        line.send(*SNAPSHOT[line.family])
        assert line.ask("SELECT count(*) FROM item") == 1
        run(url, "UPDATE item SET name = 'b'")
        error = error_of(line, "UPDATE item SET name = 'c'")
        assert is_conflict(error, by_driver=True)
        assert not is_lost(error)
        line.rollback()


@pytest.mark.parametrize("name", [name for name in DRIVERS if DRIVERS[name] != "sqlite"])
def test_a_lost_connection(name: str, drivers_databases: Databases) -> None:
    """The server has ended the session."""
    url = drivers_databases(DRIVERS[name])
    with Line(name, url) as line:
        run(url, END[line.family].format(line.ask(SESSION[line.family])))
        error = error_of(line, "DELETE FROM item")
        assert is_lost(error, by_driver=True)
        assert not is_conflict(error)
