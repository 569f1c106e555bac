"""What fixtures store lasts as long as their scope; batches in tests; what is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.testing.suites import Project

SHOP = """
import sqlite3
from contextlib import closing

def add(product):
    with closing(sqlite3.connect("shop.sqlite")) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (?)", (product,))

def every():
    with closing(sqlite3.connect("shop.sqlite")) as connection:
        return [product for product, in connection.execute("SELECT product FROM orders")]
"""
HEAD = "import pytest\nfrom shop import add, every\n"


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    project = Project(pytester)
    project.write(shop=SHOP)
    return project


# Scopes ------------------------------------------------------------------------------------------


def test_each_scope(project: Project) -> None:
    """What fixtures of each scope store is there for the tests of that scope, and no longer."""
    project.write(
        conftest=HEAD
        + """
@pytest.fixture(scope="session")
def of_session():
    add("session")

@pytest.fixture(scope="module")
def of_module(of_session):
    add("module")

@pytest.fixture(scope="class")
def of_class(of_module):
    add("class")

@pytest.fixture
def of_test(of_module):
    add("test")
""",
        test_one=HEAD
        + """
def test_function(of_test):
    add("x")
    assert every() == ["session", "module", "test", "x"]

class TestClass:
    def test_one(self, of_class):
        add("x")
        assert every() == ["session", "module", "class", "x"]

    def test_two(self, of_class, of_test):
        assert every() == ["session", "module", "class", "test"]

def test_after(of_module):
    assert every() == ["session", "module"]
""",
        test_two=HEAD
        + """
def test_other_module():
    assert every() == ["session"]
    assert stored() == []
""",
    )
    project.run().assert_outcomes(passed=5)
    assert project.stored() == []


def test_fixtures_clean_up_inside(project: Project) -> None:
    """What a fixture undoes by itself at its end is undone inside of the transaction."""
    project.write(
        test_one=HEAD
        + """
import sqlite3

@pytest.fixture(scope="module", autouse=True)
def own():
    add("own")
    yield
    with sqlite3.connect("shop.sqlite") as connection:
        connection.execute("DELETE FROM orders")
    connection.close()

def test_one():
    assert every() == ["before", "own"]

def test_two():
    assert every() == ["before", "own"]
""",
    )
    with closing(sqlite3.Connection(str(project.path))) as connection:
        connection.execute("INSERT INTO orders VALUES ('before')")
        connection.commit()
    project.run().assert_outcomes(passed=2)
    assert project.stored() == ["before"]


def test_by_name(project: Project) -> None:
    """Without the setting, only who asks is rolled back."""
    project.write(
        test_one=HEAD
        + """
@pytest.fixture(scope="module")
def kept():
    add("kept")

@pytest.fixture(scope="module")
def undone(kept, rolled_back_module):
    add("undone")

def test_one(undone, rolled_back):
    add("x")
    assert (every(), stored()) == (["kept", "undone", "x"], ["kept"])

@pytest.mark.usefixtures("rolled_back")
def test_two(undone):
    assert every() == ["kept", "undone"]

def test_three():
    add("for the module")
    assert every() == ["kept", "undone", "for the module"]
""",
        test_two=HEAD
        + """
def test_after():
    assert every() == ["kept"]
    add("for good")
""",
    )
    project.run(rolled_back=None).assert_outcomes(passed=4)
    assert project.stored() == ["kept", "for good"]


def test_only_some_scopes(project: Project) -> None:
    """What fixtures of other scopes store stays."""
    project.write(
        test_one=HEAD
        + """
@pytest.fixture(scope="module")
def kept():
    add("kept")

@pytest.mark.parametrize("n", range(2))
def test_one(kept, n):
    add("x")
    assert every() == ["kept", "x"]
"""
    )
    project.run(scopes="function").assert_outcomes(passed=2)
    assert project.stored() == ["kept"]


def test_what_comes_before(project: Project) -> None:
    """What is set up before anything is rolled back stays, until it ends by itself."""
    project.write(
        conftest=HEAD
        + """
import sqlite3

@pytest.fixture(scope="session")
def migrated():
    with sqlite3.connect("shop.sqlite") as connection:
        connection.execute("CREATE TEMP TABLE other (n)")
        connection.execute("INSERT INTO orders VALUES ('migrated')")
    yield
    with sqlite3.connect("shop.sqlite") as connection:
        connection.execute("INSERT INTO orders VALUES ('ended')")
""",
        test_one=HEAD
        + """
@pytest.mark.parametrize("n", range(2))
def test_one(n):
    add("x")
    assert (every(), stored()) == (["migrated", "x"], ["migrated"])
""",
    )
    project.run(before="migrated").assert_outcomes(passed=2)
    assert project.stored() == ["migrated", "ended"]


def test_what_comes_before_must_be_there(project: Project) -> None:
    """A name that no fixture has is an error of each test, and says so."""
    project.write(test_one="def test_one():\n    pass\n")
    result = project.run(before="wrong")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UsageError: atomicbatch_before names the fixture 'wrong'*"])


def test_scopes_must_be_known(project: Project) -> None:
    """A scope that does not exist would be one more whose rows stay: nothing is run."""
    project.write(test_one=HEAD + "def test_one():\n    add('x')\n")
    result = project.run(scopes="modul function")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*atomicbatch_rollback_scopes: there is no scope modul; those*"])
    assert project.stored() == []


def test_too_early(project: Project) -> None:
    """A fixture that stores for longer what would be undone with a module's data is refused."""
    project.write(
        test_one=HEAD
        + """
@pytest.fixture(scope="session")
def late():
    add("late")

@pytest.fixture(scope="module")
def of_module():
    add("module")

def test_one(of_module):
    assert every() == ["module"]

def test_two(of_module, late):
    pass
"""
    )
    result = project.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*NotRolledBackError: *stores something for longer than*"])
    assert project.stored() == []


def test_a_fixture_for_longer_comes_first_if_nothing_was_stored(project: Project) -> None:
    """A module that has stored nothing is in nobody's way."""
    project.write(
        conftest=HEAD
        + """
@pytest.fixture(scope="session")
def late():
    add("late")

@pytest.fixture(scope="module")
def of_module():
    return every()
""",
        test_one=HEAD
        + """
def test_one(of_module):
    add("x")

def test_two(of_module, late):
    assert every() == ["late"]
""",
        test_two=HEAD
        + """
def test_three(late):
    assert every() == ["late"]
""",
    )
    project.run().assert_outcomes(passed=3)
    assert project.stored() == []


# Batches -----------------------------------------------------------------------------------------

BATCHES = """
import sqlalchemy as sa
from sqlalchemy.orm import Session
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from atomicbatch import on_commit
from atomicbatch.asgi import AtomicBatch
from atomicbatch.testing import batch_of, call, read_answer
from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

engine = sa.create_engine("sqlite:///shop.sqlite")
app = FastAPI()
told = []

@app.post("/orders/{{product}}")
{keyword} order(product: str):
    with Session(engine) as session:
        session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {{"one": product}})
        session.commit()
    on_commit(told.append, product)
    if product == "bad":
        raise HTTPException(409)

client = TestClient(AtomicBatch(app, transaction={transaction}()))

def send(*products):
    request = batch_of(*(call("POST", f"/orders/{{product}}") for product in products))
    response = client.post("/v1/api/batch", content=request.body, headers=request.headers)
    return read_answer(response.headers, response.content)

def test_batches():
    add("before")
    assert client.post("/orders/plain").status_code == 200
    answer = send("one", "two")
    assert answer.committed, answer
    assert every() == ["before", "plain", "one", "two"]
    assert not send("three", "bad").committed
    assert every() == ["before", "plain", "one", "two"]
    assert told == ["plain", "one", "two"]
    assert send("three", "four").committed
    assert every() == ["before", "plain", "one", "two", "three", "four"]
    assert stored() == []

def test_none_is_left():
    assert every() == []
    assert send("one").committed
"""


@pytest.mark.parametrize(
    ("transaction", "keyword"),
    [
        ("DriverTransaction", "def"),
        ("SQLAlchemyTransaction", "async def"),
        pytest.param("DriverTransaction", "async def", marks=pytest.mark.prove),
        pytest.param("SQLAlchemyTransaction", "def", marks=pytest.mark.prove),
    ],
)
def test_batches(project: Project, transaction: str, keyword: str) -> None:
    """A batch in a test is a savepoint: kept or undone by its own outcome, then by the test's."""
    project.write(test_one=HEAD + BATCHES.format(transaction=transaction, keyword=keyword))
    project.run().assert_outcomes(passed=2)
    assert project.stored() == []


def test_a_batch_that_is_first(project: Project) -> None:
    """A batch is the first to use the database: it is undone with the test all the same."""
    body = BATCHES.format(transaction="DriverTransaction", keyword="def")
    body = body[: body.index("def test_batches")] + (
        'def test_first():\n    assert send("one").committed\n    assert stored() == []\n'
        'def test_fails():\n    assert not send("bad").committed\n    assert every() == []\n'
    )
    project.write(test_one=HEAD + body)
    project.run().assert_outcomes(passed=2)
    assert project.stored() == []


def test_requests_at_the_same_time(project: Project) -> None:
    """Threads and tasks share the connection, and stand in line."""
    project.write(
        test_one=HEAD
        + """
import asyncio
import aiosqlite
from concurrent.futures import ThreadPoolExecutor

def test_threads():
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, map(str, range(40))))
    assert sorted(every(), key=int) == [str(n) for n in range(40)]

async def test_tasks():
    async def add(product):
        async with aiosqlite.connect("shop.sqlite") as connection:
            await connection.execute("INSERT INTO orders VALUES (?)", (product,))
            await connection.commit()
    await asyncio.gather(*(add(str(n)) for n in range(20)))
    assert sorted(every(), key=int) == [str(n) for n in range(20)]
"""
    )
    project.run().assert_outcomes(passed=2)
    assert project.stored() == []


def test_after_commit(project: Project) -> None:
    """What waits for the app's commit runs at the app's commit: of SQLAlchemy, and ours."""
    project.write(
        test_one=HEAD
        + """
import sqlalchemy as sa
from sqlalchemy.orm import Session
from atomicbatch import on_commit

engine = sa.create_engine("sqlite:///shop.sqlite")

def test_one():
    told = []
    with Session(engine) as session:
        sa.event.listen(session, "after_commit", lambda _: told.append("after_commit"))
        session.execute(sa.text("INSERT INTO orders VALUES ('x')"))
        assert told == []
        session.commit()
        assert told == ["after_commit"]
    on_commit(told.append, "on_commit")
    assert told == ["after_commit", "on_commit"]
    engine.dispose()
"""
    )
    project.run().assert_outcomes(passed=1)
    assert project.stored() == []


# What is refused ---------------------------------------------------------------------------------

REFUSED = {
    "attach": (
        """
    with closing(sqlite3.connect("shop.sqlite")) as connection:
        connection.execute("ATTACH 'other.sqlite' AS other")
""",
        "*attaches or detaches a database*(*test_one.py:* in test_refused)*",
    ),
    "begun before": (
        """
    before.execute("INSERT INTO orders VALUES ('x')")
""",
        "*transaction was begun before*(*test_one.py:* in test_refused)*",
    ),
    "past the door": (
        """
    with closing(sqlite3.Connection("shop.sqlite")) as connection:
        connection.create_function("none", 0, int)
    past.execute("INSERT INTO orders VALUES ('x')")
""",
        "*(INSERT) to * by sqlite3, at *test_one.py:* in test_refused: that connection takes no*",
    ),
    "swallowed": (
        """
    with closing(sqlite3.connect("shop.sqlite")) as connection, suppress(Exception):
        connection.execute("CREATE TEMP TABLE other (n)")
""",
        "*makes a temporary table*(*test_one.py:* in test_refused)*",
    ),
}


@pytest.mark.parametrize(("act", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(project: Project, act: str, said: str) -> None:
    """What cannot be undone fails the test, and says what and where; the next test is as ever."""
    project.write(
        test_one=HEAD
        + f"""
import sqlite3
from contextlib import closing, suppress

before = sqlite3.connect("shop.sqlite")
before.execute("BEGIN")
before.execute("SELECT * FROM orders").fetchall()

class Past(sqlite3.Connection):
    pass

from atomicbatch.doors.sqlite import Connection
past = Connection("shop.sqlite")

def test_refused():
{act}

def test_next():
    add("x")
    assert every() == ["x"]
"""
    )
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"E *NotRolledBackError: {said}"])
    assert project.stored() == []


def test_a_process_that_was_forked(project: Project) -> None:
    """What it writes could not be undone; its parent's test fails."""
    project.write(
        test_one=HEAD
        + """
import os

def test_fork():
    every()
    child = os.fork()
    if child == 0:
        try:
            add("child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *NotRolledBackError: *in another process*"])
    assert project.stored() == []


def test_what_may_stay(project: Project) -> None:
    """What is named in the setting is stored for good."""
    project.write(test_one=HEAD + "def test_one():\n    add('stays')\n")
    project.run(outside=[str(project.path)]).assert_outcomes(passed=1)
    assert project.stored() == ["stays"]


# Databases in memory -----------------------------------------------------------------------------


def test_in_memory(project: Project) -> None:
    """One that is there for all tests is as it was after each; one of a test may be closed."""
    project.write(
        test_one="""
import sqlite3
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool
from fastapi import FastAPI
from fastapi.testclient import TestClient

engine = sa.create_engine(
    "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
)
with engine.begin() as connection:
    connection.execute(sa.text("CREATE TABLE t (n)"))
lazy = sa.create_engine(
    "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
)
app = FastAPI()

@app.post("/")
def add() -> int:
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        return connection.scalar(sa.text("SELECT count(*) FROM t"))

def check():
    with TestClient(app) as client:
        assert client.post("/").json() == 1
        assert client.post("/").json() == 2
    with lazy.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (n)"))
    own = sqlite3.connect(":memory:")
    own.execute("CREATE TABLE t (n)")
    own.commit()
    own.close()

def test_one():
    check()

def test_two():
    check()
"""
    )
    project.run().assert_outcomes(passed=2)
    project.run(rolled_back=False).assert_outcomes(passed=1, failed=1)


# Processes ---------------------------------------------------------------------------------------


@pytest.mark.prove
def test_xdist(project: Project) -> None:
    """Each worker rolls back its own tests."""
    project.write(
        conftest="""
import os
import sqlite3
import shutil
import pytest

@pytest.fixture(autouse=True)
def own(monkeypatch, worker_id, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    connection = sqlite3.connect(folder / "shop.sqlite")
    connection.execute("CREATE TABLE orders (product TEXT UNIQUE)")
    connection.close()
    monkeypatch.chdir(folder)
""",
        test_one=HEAD
        + """
@pytest.mark.parametrize("n", range(4))
def test_one(n):
    add("x")
    assert every() == ["x"]
""",
    )
    project.configure()
    result = project.pytester.runpytest_subprocess(
        "-patomicbatch.testing.plugin", "-ppytest_asyncio.plugin", "-pxdist.plugin", "-n2"
    )
    result.assert_outcomes(passed=4)
    assert project.stored() == []
