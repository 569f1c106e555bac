"""
Shops: small apps of each framework, each with two tests of its own, for suites that we run.

A test stores a product, reads it back by the app, and looks by a connection of its own: nothing is
stored. Each expects to find no rows, so that without the plugin the second one fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

DRIVERS = {
    "sqlite3": "sqlite",
    "aiosqlite": "sqlite+aiosqlite",
    "psycopg": "postgresql+psycopg",
    "psycopg-async": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
    "asyncpg": "postgresql+asyncpg",
    "pymysql": "mysql+pymysql",
    "mysqlclient": "mysql+mysqldb",
    "aiomysql": "mysql+aiomysql",
    "asyncmy": "mysql+asyncmy",
}
"""What SQLAlchemy calls each driver."""
ASYNC = ("aiosqlite", "psycopg-async", "asyncpg", "aiomysql", "asyncmy")


class Case(NamedTuple):
    """One app and its tests, in one module."""

    of: str
    """What the app is made with."""
    by: str
    """Who calls it."""
    driver: str
    """A key of ``DRIVERS``."""
    text: str
    """The module; ``URL`` stands for its database's."""
    is_proved: bool = False
    """Another case says nearly the same: it runs with the long variants of tests."""


# Tests -------------------------------------------------------------------------------------------

TESTS = """
def test_one(shop):
    shop.add("one")
    assert shop.every() == ["one"]
    assert stored() == []

def test_two(shop):
    shop.add("two")
    assert shop.every() == ["two"]
    assert stored() == []
"""
ASYNC_TESTS = (
    TESTS.replace("def test", "async def test")
    .replace("shop.", "await shop.")
    .replace("assert await shop.every()", "assert (await shop.every())")
)
UNITTEST = """
import unittest

class TestShop(unittest.TestCase):
    def test_one(self):
        add("one")
        self.assertEqual(every(), ["one"])
        self.assertEqual(stored(), [])

    def test_two(self):
        add("two")
        self.assertEqual(every(), ["two"])
        self.assertEqual(stored(), [])
"""
ASYNC_UNITTEST = (
    UNITTEST.replace("TestCase", "IsolatedAsyncioTestCase")
    .replace("def test", "async def test")
    .replace("add(", "await add(")
    .replace("every()", "await every()")
)

# Libraries: add() and every(), ``def`` or ``async def`` ------------------------------------------

RAW = """
import sqlite3
from contextlib import closing

def add(product):
    with closing(sqlite3.connect("shop.sqlite")) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (?)", (product,))

def every():
    with closing(sqlite3.connect("shop.sqlite")) as connection:
        return [product for product, in connection.execute("SELECT product FROM orders")]
"""
SQLALCHEMY = """
import sqlalchemy as sa
from sqlalchemy.orm import Session

engine = sa.create_engine("URL")

def add(product):
    with Session(engine) as session:
        session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {"one": product})
        session.commit()

def every():
    with Session(engine) as session:
        return list(session.scalars(sa.text("SELECT product FROM orders ORDER BY product")))
"""
ASYNC_SQLALCHEMY = """
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

engine = create_async_engine("URL", poolclass=NullPool)

async def add(product):
    async with AsyncSession(engine) as session:
        await session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {"one": product})
        await session.commit()

async def every():
    async with AsyncSession(engine) as session:
        return list(await session.scalars(sa.text("SELECT product FROM orders ORDER BY product")))
"""
PEEWEE = """
import peewee

database = peewee.SqliteDatabase("shop.sqlite")

class Order(peewee.Model):
    product = peewee.TextField(primary_key=True)

    class Meta:
        database = database
        table_name = "orders"

def add(product):
    with database.connection_context():
        Order.create(product=product)

def every():
    with database.connection_context():
        return [order.product for order in Order.select()]
"""


# Frameworks --------------------------------------------------------------------------------------

FASTAPI = """
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

app = FastAPI()

@app.post("/orders")
{keyword} order(product: str):
    {wait}add(product)

@app.get("/orders")
{keyword} orders() -> list[str]:
    return {wait}every()
"""
LITESTAR = """
import pytest
from litestar import Litestar, get, post
from litestar.params import QueryParameter
from litestar.testing import AsyncTestClient, TestClient
from typing import Annotated

@post("/orders", status_code=200{threads})
{keyword} order(product: Annotated[str, QueryParameter()]) -> None:
    {wait}add(product)

@get("/orders"{threads})
{keyword} orders() -> list[str]:
    return {wait}every()

app = Litestar([order, orders])
"""
FLASK = """
import pytest
from flask import Flask, request

app = Flask(__name__)

@app.post("/orders")
def order():
    add(request.args["product"])
    return ""

@app.get("/orders")
def orders():
    return every()
"""
FLASK_SQLALCHEMY = """
import pytest
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from pathlib import Path

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{Path('shop.sqlite').absolute()}"
db = SQLAlchemy(app)

class Order(db.Model):
    __tablename__ = "orders"
    product = db.Column(db.Text, primary_key=True)

@app.post("/orders")
def order():
    db.session.add(Order(product=request.args["product"]))
    db.session.commit()
    return ""

@app.get("/orders")
def orders():
    return [order.product for order in Order.query]

@pytest.fixture(autouse=True)
def _disposed():
    yield
    with app.app_context():
        db.engine.dispose()
"""


def fastapi(keyword: str = "def", wait: str = "") -> str:
    """An app of FastAPI."""
    return FASTAPI.format(keyword=keyword, wait=wait)


def litestar(keyword: str = "def", wait: str = "") -> str:
    """An app of Litestar."""
    threads = ", sync_to_thread=True" if keyword == "def" else ""
    return LITESTAR.format(keyword=keyword, wait=wait, threads=threads)


# Clients -----------------------------------------------------------------------------------------

TEST_CLIENT = """
class Shop:
    def __init__(self, client):
        self.client = client

    def add(self, product):
        assert self.client.post("/orders", params={"product": product}).status_code == 200

    def every(self):
        return self.client.get("/orders").json()

@pytest.fixture(SCOPE)
def shop():
    with TestClient(app) as client:
        yield Shop(client)
"""
FLASK_CLIENT = """
class Shop:
    def add(self, product):
        assert app.test_client().post(f"/orders?product={product}").status_code == 200

    def every(self):
        return app.test_client().get("/orders").json

@pytest.fixture
def shop():
    return Shop()
"""
HTTPX = """
import httpx
MORE

class Shop:
    def __init__(self, client):
        self.client = client

    async def add(self, product):
        assert (await self.client.post("/orders", params={"product": product})).status_code == 200

    async def every(self):
        return (await self.client.get("/orders")).json()

@FIXTURE
async def shop():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Shop(client)
"""
ASYNC_TEST_CLIENT = HTTPX.replace(
    """    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
""",
    """    async with AsyncTestClient(app) as client:
""",
)
ASYNCIO = "import pytest_asyncio\npytestmark = pytest.mark.asyncio"
ANYIO = """
pytestmark = pytest.mark.anyio
@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio", {OPTIONS}
"""
RUNNERS = {
    "pytest-asyncio": (ASYNCIO, "pytest_asyncio.fixture"),
    "pytest-asyncio, a loop for the module": (
        f"{ASYNCIO}(loop_scope='module')",
        "pytest_asyncio.fixture(scope='module', loop_scope='module')",
    ),
    "pytest-asyncio, a loop for the session": (
        f"{ASYNCIO}(loop_scope='session')",
        "pytest_asyncio.fixture(scope='session', loop_scope='session')",
    ),
    "anyio": (ANYIO.replace("OPTIONS", ""), "pytest.fixture"),
    "anyio, a loop for the module": (
        ANYIO.replace("OPTIONS", ""),
        "pytest.fixture(scope='module')",
    ),
    "anyio on uvloop": (ANYIO.replace("OPTIONS", "'use_uvloop': True"), "pytest.fixture"),
}
"""Who runs tests that are coroutines."""
FEW_RUNNERS = ("pytest-asyncio, a loop for the session", "anyio")


def by_test_client(scope: str = "") -> str:
    """Starlette's and Litestar's, whose event loop runs in a thread of its own."""
    return TEST_CLIENT.replace("SCOPE", f"scope='{scope}'" if scope else "") + TESTS


def httpx_by(runner: str, client: str = HTTPX) -> str:
    """An async client, on the event loop of the tests."""
    more, fixture = RUNNERS[runner]
    return client.replace("MORE", more).replace("FIXTURE", fixture) + ASYNC_TESTS


NONE = "no framework"

# All cases ---------------------------------------------------------------------------------------


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _of_sqlite()
    for driver in DRIVERS:
        if driver in ASYNC:
            yield from _of_async_driver(driver)
        elif driver != "sqlite3":
            yield from _of_sync_driver(driver)


def _of_sqlite() -> Iterator[Case]:
    def case(of: str, by: str, text: str) -> Case:
        return Case(of, by, "sqlite3", text)

    for library in (RAW, SQLALCHEMY, PEEWEE):
        for keyword in ("def", "async def"):
            shop = library + fastapi(keyword)
            yield case("FastAPI", "`TestClient`", shop + by_test_client())
            yield case("FastAPI", "`TestClient` of the module", shop + by_test_client("module"))
    for runner in RUNNERS:
        for shop in (RAW + fastapi("async def"), SQLALCHEMY + fastapi()):
            yield case("FastAPI", f"`httpx`, {runner}", shop + httpx_by(runner))
    yield case("Flask", "`test_client()`", FLASK_SQLALCHEMY + FLASK_CLIENT + TESTS)
    yield case("Litestar", "`TestClient`", RAW + litestar() + by_test_client())
    yield case(NONE, "`unittest.TestCase`", RAW + UNITTEST)
    yield case(NONE, "threads from before", THREADS + TESTS)
    yield case(NONE, "sessions that stay open", KEPT + TESTS)


def _of_sync_driver(driver: str) -> Iterator[Case]:
    def case(of: str, by: str, text: str) -> Case:
        return Case(of, by, driver, SQLALCHEMY + text)

    yield case("FastAPI", "`TestClient`", fastapi() + by_test_client())
    yield case("FastAPI", "`TestClient`", fastapi("async def") + by_test_client())
    yield case("FastAPI", "`TestClient` of the module", fastapi() + by_test_client("module"))
    yield case("Flask", "`test_client()`", FLASK + FLASK_CLIENT + TESTS)
    yield case("Litestar", "`TestClient`", litestar() + by_test_client())
    yield case(NONE, "`unittest.TestCase`", UNITTEST)


def _of_async_driver(driver: str) -> Iterator[Case]:
    def case(of: str, by: str, text: str, *, is_proved: bool = False) -> Case:
        return Case(of, by, driver, ASYNC_SQLALCHEMY + text, is_proved)

    shop = fastapi("async def", "await ")
    yield case("FastAPI", "`TestClient`", shop + by_test_client())
    yield case("FastAPI", "`TestClient` of the module", shop + by_test_client("module"))
    for runner in RUNNERS:
        # On one driver each is tried; the others have one loop a test and one for all.
        is_proved = driver != "asyncpg" and runner not in FEW_RUNNERS
        text = shop + httpx_by(runner)
        yield case("FastAPI", f"`httpx`, {runner}", text, is_proved=is_proved)
    shop = litestar("async def", "await ")
    yield case("Litestar", "`TestClient`", shop + by_test_client())
    by_async = httpx_by("pytest-asyncio", ASYNC_TEST_CLIENT)
    yield case("Litestar", "`AsyncTestClient`, pytest-asyncio", shop + by_async)
    yield case(NONE, "`unittest.IsolatedAsyncioTestCase`", ASYNC_UNITTEST)


# Without a framework -----------------------------------------------------------------------------

THREADS = """
import pytest
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import Queue

jobs = Queue()

def work():
    while True:
        product, done = jobs.get()
        with closing(sqlite3.connect("shop.sqlite")) as connection, connection:
            connection.execute("INSERT INTO orders VALUES (?)", (product,))
        done.set()

# Long before any test.
threading.Thread(target=work, daemon=True).start()

class Shop:
    def add(self, product):
        done = threading.Event()
        jobs.put((product, done))
        assert done.wait(30)

    def every(self):
        def read():
            with closing(sqlite3.connect("shop.sqlite")) as connection:
                return [product for product, in connection.execute("SELECT product FROM orders")]
        with ThreadPoolExecutor() as pool:
            return pool.submit(read).result()

@pytest.fixture
def shop():
    return Shop()
"""
KEPT = """
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

engine = sa.create_engine("sqlite:///shop.sqlite")
# From before the first test, and never closed.
session = Session(engine)
other = engine.connect()

class Shop:
    def add(self, product):
        session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {"one": product})
        session.commit()

    def every(self):
        return list(other.execute(sa.text("SELECT product FROM orders")).scalars())

@pytest.fixture
def shop():
    return Shop()
"""
