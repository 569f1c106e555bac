"""What an app commits in a test is undone at its end, in a server's database, by each driver."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.testing.shops import DRIVERS, cases
from tests.testing.suites import ServerProject

# Of two drivers that differ little, one is for each run of the tests.
prove = pytest.mark.prove
SYNC_DRIVERS = [
    "postgresql+psycopg",
    pytest.param("postgresql+psycopg2", marks=prove),
    pytest.param("mysql+pymysql", marks=prove),
    "mysql+mysqldb",
]
ASYNC_DRIVERS = [
    pytest.param("postgresql+psycopg", marks=prove),
    "postgresql+asyncpg",
    "mysql+aiomysql",
    pytest.param("mysql+asyncmy", marks=prove),
]


@pytest.fixture
def project(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, driver: str
) -> ServerProject:
    fixture = "postgresql_url" if driver.startswith("postgresql") else "mysql_url"
    url = sa.make_url(request.getfixturevalue(fixture)).set(drivername=driver)
    return ServerProject(pytester, url.render_as_string(hide_password=False))


SERVERS = [driver for driver, name in DRIVERS.items() if not name.startswith("sqlite")]
# Where tests say by marks that they are coroutines.
STRICT = ("asyncpg", "aiomysql")


FEW = ("psycopg", "asyncpg", "mysqlclient", "aiomysql")


@pytest.mark.parametrize(
    ("name", "every"),
    [
        *(pytest.param(name, False, id=name) for name in FEW),
        *(pytest.param(name, True, id=f"{name}-all", marks=prove) for name in SERVERS),
    ],
)
def test_apps_and_clients(
    name: str, every: bool, pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """In threads and on the event loop, by each framework's clients."""
    url = request.getfixturevalue(
        "postgresql_url" if DRIVERS[name].startswith("postgresql") else "mysql_url"
    )
    chosen = [one for one in cases() if one.driver == name and (every or not one.is_proved)]
    mode = "strict" if name in STRICT else "auto"
    ServerProject(pytester, url).check(chosen, mode, with_control=every)


TOGETHER = """
import asyncio
import pytest
import httpx
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool
from fastapi import FastAPI, HTTPException
from atomicbatch.asgi import AtomicBatch
from atomicbatch.testing import batch_of, call, read_answer
from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction

engine = create_async_engine("{url}", poolclass=NullPool)
app = FastAPI()

async def add(product):
    async with AsyncSession(engine) as session:
        await session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {{"one": product}})
        await session.commit()

async def every():
    async with AsyncSession(engine) as session:
        return list(await session.scalars(sa.text("SELECT product FROM orders ORDER BY product")))

@app.post("/orders/{{product}}")
async def order(product: str):
    await add(product)
    if product == "bad":
        raise HTTPException(409)

@pytest.fixture(scope="module")
def seeds():
    # On a loop that has ended long before the tests have theirs.
    asyncio.run(add("a seed"))

async def send(client, *products):
    request = batch_of(*(call("POST", f"/orders/{{product}}") for product in products))
    response = await client.post("/v1/api/batch", content=request.body, headers=request.headers)
    return read_answer(response.headers, response.content)

@pytest.mark.parametrize("adapter", [DriverTransaction, SQLAlchemyTransaction])
async def test_batches(seeds, adapter):
    transport = httpx.ASGITransport(AtomicBatch(app, transaction=adapter()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await send(client, "b", "c")
        assert answer.committed, answer
        assert not (await send(client, "d", "bad")).committed
        assert (await client.post("/orders/e")).status_code == 200
        with pytest.raises(Exception, match="(?i)duplicate"):
            await client.post("/orders/e")
        assert (await send(client, "f")).committed
        assert await every() == ["a seed", "b", "c", "e", "f"]
        assert stored() == []

async def test_at_the_same_time(seeds):
    await asyncio.gather(*(add(f"n{{n}}") for n in range(12)))
    assert len(await every()) == 13
    assert stored() == []
"""


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_loops_tasks_and_batches(project: ServerProject, driver: str) -> None:
    """
    A fixture's event loop may have ended; tasks stand in line; batches are savepoints.
    """
    project.write(test_shop=TOGETHER.format(url=project.url))
    project.run().assert_outcomes(passed=3)
    assert project.stored() == []


SYNC_TOGETHER = """
import pytest
import sqlalchemy as sa
from concurrent.futures import ThreadPoolExecutor
from sqlalchemy.orm import Session
from flask import Flask
from atomicbatch.testing import batch_of, call, read_answer
from atomicbatch.transactions import DriverTransaction
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch

engine = sa.create_engine("{url}", pool_size=20)
app = Flask(__name__)
plain = app.wsgi_app

def add(product):
    with Session(engine) as session:
        session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {{"one": product}})
        session.commit()

def every():
    with Session(engine) as session:
        return list(session.scalars(sa.text("SELECT product FROM orders ORDER BY product")))

@app.post("/orders/<product>")
def order(product):
    add(product)
    return "", 409 if product == "bad" else 200

@pytest.fixture(scope="module")
def seeds():
    add("a seed")

def send(client, *products):
    request = batch_of(*(call("POST", f"/orders/{{product}}") for product in products))
    response = client.post("/v1/api/batch", data=request.body, headers=request.headers)
    return read_answer(response.headers, response.data)

@pytest.mark.parametrize("adapter", [DriverTransaction, SQLAlchemyTransaction])
def test_batches(seeds, adapter):
    app.wsgi_app = AtomicBatch(plain, transaction=adapter())
    client = app.test_client()
    answer = send(client, "b", "c")
    assert answer.committed, answer
    assert not send(client, "d", "bad").committed
    assert client.post("/orders/e").status_code == 200
    assert client.post("/orders/e").status_code == 500
    assert send(client, "f").committed
    assert every() == ["a seed", "b", "c", "e", "f"]
    assert stored() == []

def test_at_the_same_time(seeds):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, [f"n{{n}}" for n in range(24)]))
    assert len(every()) == 25
    assert stored() == []

@pytest.fixture(scope="module")
def kept():
    with Session(engine) as session:
        yield session

@pytest.mark.parametrize("n", range(2))
def test_a_session_that_stays_open(kept, n):
    kept.execute(sa.text("INSERT INTO orders VALUES ('kept')"))
    assert "kept" in every()
    if n:
        kept.commit()
"""


@pytest.mark.parametrize("driver", SYNC_DRIVERS)
def test_threads_sessions_and_batches(project: ServerProject, driver: str) -> None:
    """Threads stand in line, sessions may stay open, batches are savepoints."""
    project.write(test_shop=SYNC_TOGETHER.format(url=project.url))
    project.run().assert_outcomes(passed=5)
    assert project.stored() == []


REFUSED = {
    "postgresql+psycopg": {
        "LISTEN told": "*LISTEN*",
        "PREPARE TRANSACTION 'x'": "*",
    },
    "mysql+pymysql": {
        "CREATE TABLE other (n INTEGER)": "*commit*",
        "LOCK TABLES orders WRITE": "*",
    },
}


@pytest.mark.parametrize(
    ("driver", "sql"), [(driver, sql) for driver, known in REFUSED.items() for sql in known]
)
def test_refused(project: ServerProject, driver: str, sql: str) -> None:
    """What ends the transaction, or is not undone with it, is not sent, and fails the test."""
    project.write(
        test_shop=f"""
import sqlalchemy as sa
engine = sa.create_engine("{project.url}")

def add(product):
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO orders VALUES (:one)"), {{"one": product}})

def test_refused():
    add("x")
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql({sql!r})
    except Exception:
        pass

def test_next():
    add("x")
    engine.dispose()
"""
    )
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    said = REFUSED[driver][sql]
    result.stdout.fnmatch_lines(
        [f"E *NotRolledBackError: {said}(*test_shop.py:* in test_refused)*"]
    )
    assert project.stored() == []


def test_refused_on_another_loop(pytester: pytest.Pytester, postgresql_url: str) -> None:
    """What an async driver may not do is refused on the wires' loop; the line is the app's."""
    project = ServerProject(pytester, postgresql_url)
    url = sa.make_url(postgresql_url).set(drivername="postgresql")
    project.write(
        test_shop=f"""
import asyncio
import asyncpg
import pytest

async def do(*texts):
    connection = await asyncpg.connect({url.render_as_string(hide_password=False)!r})
    for text in texts:
        await connection.execute(text)

@pytest.mark.parametrize("text", ["VACUUM", "BEGIN ISOLATION LEVEL SERIALIZABLE"])
def test_refused(text):
    asyncio.run(do(text, "INSERT INTO orders VALUES ('x')"))
"""
    )
    result = project.run()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            f"E *NotRolledBackError: *: the test or the app {what}; *(*test_shop.py:* in do)"
            for what in ("runs a statement that * refuses inside a transaction", "asks for *")
        ]
    )
    assert project.stored() == []


def test_two_drivers(pytester: pytest.Pytester, postgresql_url: str) -> None:
    """A second driver on one database is refused, rather than waiting for the first for ever."""
    url = sa.make_url(postgresql_url)
    one = url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    project = ServerProject(pytester, one)
    project.write(
        test_shop=f"""
import sqlalchemy as sa

def add(url, product):
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO orders VALUES (:one)"), {{"one": product}})
    engine.dispose()

def test_two():
    add({one!r}, "x")
    add({one.replace("psycopg", "psycopg2")!r}, "x")
"""
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *NotRolledBackError: *use one driver for one database*"])
    assert project.stored() == []


@pytest.mark.parametrize("driver", ["postgresql+pg8000"])
def test_a_driver_without_a_door(project: ServerProject, driver: str) -> None:
    """Nothing of it is stored; the test fails, and says by which driver."""
    project.write(
        test_shop=f"""
import sqlalchemy as sa
engine = sa.create_engine("{project.url}")

def test_refused():
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO orders VALUES ('x')"))
    except Exception:
        pass

def test_read():
    with engine.begin() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM orders")) == 0
    engine.dispose()
"""
    )
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E *NotRolledBackError: *by sqlalchemy (pg8000)*"])
    assert project.stored() == []
