"""What an app commits in a test is undone at its end, whatever the app and its client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.suites import ASYNC, SYNC, Project

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "tests-that-never-clean-up.md"


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    return Project(pytester)


# Apps and clients --------------------------------------------------------------------------------

FASTAPI = """
import pytest
from contextlib import closing
from fastapi import FastAPI
from fastapi.testclient import TestClient

{imports}
app = FastAPI()

@app.post("/orders")
{keyword} add(product: str):
{add}

@app.get("/orders")
{keyword} every() -> list[str]:
{every}

class Shop:
    def __init__(self, client):
        self.client = client

    def add(self, product):
        assert self.client.post("/orders", params={{"product": product}}).status_code == 200

    def every(self):
        return self.client.get("/orders").json()

@pytest.fixture({scope})
def shop():
    with TestClient(app) as client:
        yield Shop(client)
"""
SQLITE3 = {
    "imports": "import sqlite3",
    "keyword": "def",
    "add": """
    with closing(sqlite3.connect("shop.sqlite")) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (?)", (product,))
""",
    "every": """
    with closing(sqlite3.connect("shop.sqlite")) as connection:
        return [product for product, in connection.execute("SELECT product FROM orders")]
""",
}
SQLALCHEMY = {
    "imports": """
import sqlalchemy as sa
from sqlalchemy.orm import Session
engine = sa.create_engine("sqlite:///shop.sqlite")
""",
    "keyword": "def",
    "add": """
    with Session(engine) as session:
        session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {"one": product})
        session.commit()
""",
    "every": """
    with Session(engine) as session:
        return list(session.scalars(sa.text("SELECT product FROM orders")))
""",
}
ASYNC_SQLALCHEMY = {
    "imports": """
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool
engine = create_async_engine("sqlite+aiosqlite:///shop.sqlite", poolclass=NullPool)
""",
    "keyword": "async def",
    "add": """
    async with AsyncSession(engine) as session:
        await session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {"one": product})
        await session.commit()
""",
    "every": """
    async with AsyncSession(engine) as session:
        return list(await session.scalars(sa.text("SELECT product FROM orders")))
""",
}
PEEWEE = {
    "imports": """
import peewee
database = peewee.SqliteDatabase("shop.sqlite")

class Order(peewee.Model):
    product = peewee.TextField(primary_key=True)

    class Meta:
        database = database
        table_name = "orders"
""",
    "keyword": "def",
    "add": """
    with database.connection_context():
        Order.create(product=product)
""",
    "every": """
    with database.connection_context():
        return [order.product for order in Order.select()]
""",
}
LIBRARIES = {
    "sqlite3": SQLITE3,
    "sqlite3 on the loop": {**SQLITE3, "keyword": "async def"},
    "sqlalchemy": SQLALCHEMY,
    "sqlalchemy on the loop": {**SQLALCHEMY, "keyword": "async def"},
    "async sqlalchemy": ASYNC_SQLALCHEMY,
    "peewee": PEEWEE,
}


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("scope", ["", 'scope="module"'], ids=["for each test", "for the module"])
def test_fastapi(project: Project, library: dict[str, str], scope: str) -> None:
    """By a test client, whose event loop runs in a thread of its own, perhaps since long."""
    project.check(
        shop=FASTAPI.format(scope=scope, **library), test_shop="from shop import shop\n" + SYNC
    )


HTTPX = """
import httpx
import pytest
{more}
from shop import app

class Shop:
    def __init__(self, client):
        self.client = client

    async def add(self, product):
        assert (await self.client.post("/orders", params={{"product": product}})).status_code == 200

    async def every(self):
        return (await self.client.get("/orders")).json()

@{fixture}
async def shop():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Shop(client)
"""
RUNNERS = {
    "pytest-asyncio": {"more": "import pytest_asyncio", "fixture": "pytest_asyncio.fixture"},
    "pytest-asyncio, one loop": {
        "more": "import pytest_asyncio\npytestmark = pytest.mark.asyncio(loop_scope='module')",
        "fixture": "pytest_asyncio.fixture(scope='module', loop_scope='module')",
    },
    "anyio": {
        "more": "pytestmark = pytest.mark.anyio\n"
        "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'",
        "fixture": "pytest.fixture",
    },
}


@pytest.mark.parametrize("library", ["sqlite3 on the loop", "sqlalchemy", "async sqlalchemy"])
@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_httpx(project: Project, library: str, runner: dict[str, str]) -> None:
    """By an async client, on the event loop of the tests."""
    shop = FASTAPI.format(scope="", **LIBRARIES[library])
    project.check(shop=shop, test_shop=HTTPX.format(**runner) + ASYNC)


FLASK = """
import pytest
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///" + __file__.replace("shop.py", "shop.sqlite")
db = SQLAlchemy(app)

class Order(db.Model):
    __tablename__ = "orders"
    product = db.Column(db.Text, primary_key=True)

@app.post("/orders")
def add():
    db.session.add(Order(product=request.args["product"]))
    db.session.commit()
    return ""

@app.get("/orders")
def every():
    return [order.product for order in Order.query]

class Shop:
    def __init__(self, client):
        self.client = client

    def add(self, product):
        assert self.client.post(f"/orders?product={product}").status_code == 200

    def every(self):
        return self.client.get("/orders").json

@pytest.fixture
def shop():
    yield Shop(app.test_client())
    with app.app_context():
        db.engine.dispose()
"""
LITESTAR = """
import pytest
import sqlite3
from contextlib import closing
from litestar import Litestar, get, post
from litestar.params import QueryParameter
from litestar.testing import TestClient
from typing import Annotated

@post("/orders", sync_to_thread=True)
def add(product: Annotated[str, QueryParameter()]) -> None:
    with closing(sqlite3.connect("shop.sqlite")) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (?)", (product,))

@get("/orders", sync_to_thread=False)
def every() -> list[str]:
    with closing(sqlite3.connect("shop.sqlite")) as connection:
        return [product for product, in connection.execute("SELECT product FROM orders")]

class Shop:
    def __init__(self, client):
        self.client = client

    def add(self, product):
        assert self.client.post("/orders", params={"product": product}).status_code == 201

    def every(self):
        return self.client.get("/orders").json()

@pytest.fixture
def shop():
    with TestClient(Litestar([add, every])) as client:
        yield Shop(client)
"""
DJANGO = """
import django
import pytest
from django.conf import settings
from django.db import connection, models, transaction
from django.http import HttpResponse, JsonResponse
from django.urls import path

if not settings.configured:
    settings.configure(ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
settings.ROOT_URLCONF = "shop"
settings.DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": __file__.replace("shop.py", "shop.sqlite"),
    "CONN_MAX_AGE": CONN_MAX_AGE, "OPTIONS": {},
}}
django.setup()
django.db.connections.close_all()
django.db.connections.__dict__.pop("settings", None)
django.db.connections.settings = django.db.connections.configure_settings(settings.DATABASES)
if hasattr(django.db.connections._connections, "default"):
    delattr(django.db.connections._connections, "default")
django.urls.clear_url_caches()
django.apps.apps.all_models.pop("shop", None)
told = []

class Order(models.Model):
    product = models.TextField(primary_key=True)

    class Meta:
        app_label = "shop"
        managed = False
        db_table = "orders"

@transaction.atomic
def orders(request):
    if request.method == "POST":
        with transaction.atomic():
            Order.objects.create(product=request.GET["product"])
        transaction.on_commit(lambda: told.append(request.GET["product"]))
        return HttpResponse()
    return JsonResponse([order.product for order in Order.objects.all()], safe=False)

urlpatterns = [path("orders", orders)]

from django.test import Client

class Shop:
    def add(self, product):
        assert Client().post(f"/orders?product={product}").status_code == 200
        assert told[-1] == product

    def every(self):
        return Client().get("/orders").json()

@pytest.fixture
def shop():
    yield Shop()
    connection.close()
"""
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


@pytest.mark.parametrize(
    "shop",
    [
        FLASK,
        LITESTAR,
        THREADS,
        KEPT,
        DJANGO.replace("CONN_MAX_AGE,", "0,"),
        DJANGO.replace("CONN_MAX_AGE,", "60,"),
    ],
    ids=["flask", "litestar", "threads", "kept sessions", "django", "django, connections kept"],
)
def test_other_apps(project: Project, shop: str) -> None:
    """Flask's and Litestar's clients; threads from before; sessions that are never closed."""
    project.check(shop=shop, test_shop="from shop import shop\n" + SYNC)


def test_the_page(project: Project) -> None:
    """The app and the tests on the page are what they are said to be."""
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)\n```", PAGE.read_text("utf-8"), re.DOTALL)
    files = dict(blocks)
    project.write(shop=files["shop"], test_shop=files["test_shop"])
    project.run().assert_outcomes(passed=2)
    assert project.stored() == []
    project.run(rolled_back=False).assert_outcomes(passed=1, failed=1)
    assert project.stored() == ["tea", "coffee", "cocoa"]
