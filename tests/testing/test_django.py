"""pytest-django, and Django's own test cases, with tests that are rolled back, on each database."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.databases import WITH_MYSQLCLIENT

SETTINGS = """
{before}
SECRET_KEY = "x"
USE_TZ = True
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["atomicbatch.django", "shop"]
MIDDLEWARE = ["atomicbatch.django.BatchMiddleware"]
STATIC_URL = "static/"
DATABASES = {{"default": {database!r}}}
"""
MODELS = """
from django.db import models

class Order(models.Model):
    product = models.CharField(max_length=40, unique=True)
"""
URLS = """
from django.db import IntegrityError, transaction
from django.http import HttpResponse, JsonResponse
from django.urls import path
from shop.models import Order

told = []

def orders(request):
    if request.method == "POST":
        product = request.GET["product"]
        try:
            with transaction.atomic():
                Order.objects.create(product=product)
                transaction.on_commit(lambda: told.append(product))
        except IntegrityError:
            return HttpResponse(status=409)
        return HttpResponse(status=201)
    every = [order.product for order in Order.objects.order_by("product")]
    return JsonResponse(every, safe=False)

async def orders_async(request):
    if request.method == "POST":
        await Order.objects.acreate(product=request.GET["product"])
        return HttpResponse(status=201)
    every = [order.product async for order in Order.objects.order_by("product")]
    return JsonResponse(every, safe=False)

urlpatterns = [path("orders", orders), path("async", orders_async)]
"""
HEAD = """
import pytest
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase
from atomicbatch.guard import aside
from atomicbatch.testing import batch_of, call, read_answer
from shop.models import Order
from shop.urls import told

def add(client, product):
    return client.post(f"/orders?product={product}").status_code

def every(client):
    return client.get("/orders").json()

def send(client, *products):
    request = batch_of(*(call("POST", f"/orders?product={product}") for product in products))
    headers = {"content_type": request.headers["Content-Type"]}
    response = client.post("/v1/api/batch", request.body, **headers)
    return read_answer(response.headers, response.content)

def stored():
    '''What anybody else sees.'''
    with aside():
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute("SELECT product FROM shop_order ORDER BY product")
            found = [product for product, in cursor.fetchall()]
        other.close()
    return found
"""
TESTS = """
import threading
import urllib.request

@pytest.fixture(scope="module")
def seed(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        Order.objects.create(product="seed")

def shop(client):
    assert (add(client, "x"), add(client, "x")) == (201, 409)
    assert send(client, "y", "z").committed
    assert not send(client, "v", "x").committed
    assert every(client) == ["seed", "x", "y", "z"]
    assert stored() == []

@pytest.mark.parametrize("n", range(2))
def test_db(seed, db, client, n):
    told.clear()
    shop(client)
    assert told == []  # as ever in a TestCase

@pytest.mark.parametrize("n", range(2))
def test_transactional_db(seed, transactional_db, client, n):
    told.clear()
    shop(client)
    assert told == ["x", "y", "z"]

def test_what_a_transactional_test_flushes_is_back(seed, db, client):
    assert every(client) == ["seed"]

@pytest.mark.parametrize("n", range(2))
def test_live_server(seed, live_server, n):
    url = f"{live_server.url}/orders?product=x"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as response:
        assert response.status == 201
    assert Order.objects.count() == 2
    assert stored() == []

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("n", range(2))
async def test_async_client(seed, async_client, n):
    assert (await async_client.post("/async?product=x")).status_code == 201
    assert (await async_client.get("/async")).json() == ["seed", "x"]

@pytest.fixture(scope="module")
def committing(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        yield

def work():
    Order.objects.create(product="by a thread")
    connection.close()

@pytest.mark.parametrize("n", range(2))
def test_without_any_flush(seed, committing, client, n):
    told.clear()
    shop(client)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert Order.objects.count() == 5
    assert told == ["x", "y", "z"]
    assert stored() == []
"""
CLASSES = """
class TestOrders(TestCase):
    @classmethod
    def setUpTestData(cls):
        Order.objects.create(product="of the class")

    def test_one(self):
        with self.captureOnCommitCallbacks(execute=True) as found:
            assert (add(self.client, "x"), add(self.client, "x")) == (201, 409)
        assert len(found) == 1
        assert send(self.client, "y").committed
        assert every(self.client) == ["of the class", "x", "y"]
        assert stored() == []

    def test_two(self):
        with transaction.atomic(durable=True):
            Order.objects.create(product="x")
        assert every(self.client) == ["of the class", "x"]

class Committing(TransactionTestCase):
    def test_one(self):
        told.clear()
        assert (add(self.client, "x"), add(self.client, "x")) == (201, 409)
        assert send(self.client, "y").committed
        assert not send(self.client, "z", "x").committed
        assert every(self.client) == ["x", "y"]
        assert told == ["x", "y"]
        assert stored() == []

    def test_two(self):
        assert add(self.client, "x") == 201
        assert every(self.client) == ["x"]
"""
WITHOUT_MARKS = """
@pytest.mark.parametrize("n", range(2))
def test_without_a_mark(client, n):
    assert connection.settings_dict["NAME"].endswith("test.sqlite")
    assert add(client, "x") == 201
    assert every(client) == ["x"]
    assert stored() == []
"""
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "tests-that-never-clean-up.md"
TRIED = {
    "`db`, `client`": "test_db",
    "`transactional_db`, `client`": "test_transactional_db",
    "`live_server`": "test_live_server",
    "`django_db(transaction=True)`, `async_client`": "test_async_client",
    "`django_db_blocker.unblock()`, threads": "test_without_any_flush",
    "Django's `TestCase`": "TestOrders",
    "Django's `TransactionTestCase`": "Committing",
}
"""What a project may use, and what tries it."""
COUNT = 15
AS_MYSQLDB = (
    "import pymysql\npymysql.version_info = (2, 2, 1, 'final', 0)\npymysql.install_as_MySQLdb()"
)
WITHOUT_PSYCOPG = "import sys\nsys.modules['psycopg'] = None"
prove = pytest.mark.prove
DRIVERS = [
    pytest.param("sqlite3", "", id="sqlite3", marks=prove),
    pytest.param("postgresql", "", id="psycopg"),
    pytest.param("postgresql", WITHOUT_PSYCOPG, id="psycopg2", marks=prove),
    pytest.param("mysql", "" if WITH_MYSQLCLIENT else AS_MYSQLDB, id="mysqlclient"),
    pytest.param("mysql", AS_MYSQLDB, id="pymysql", marks=prove),
]


@pytest.mark.parametrize(("engine", "before"), DRIVERS)
def test_with_pytest_django(
    engine: str, before: str, pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """Its fixtures and Django's test cases work as ever, and nobody else sees what they store."""
    database = database_of(engine, pytester, request)
    make(pytester, before, database)
    run(pytester, "true").assert_outcomes(passed=COUNT)


@pytest.mark.prove
def test_without_the_plugin(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """Tests flush the seed, and others see what they store: the same tests fail."""
    make(pytester, "", database_of("sqlite3", pytester, request))
    without = run(pytester, "false").parseoutcomes()
    assert without["failed"] == 11, without


def test_databases_of_tests_without_marks(
    pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """With the how-to's fixture they use the test databases, not those of the settings."""
    make(pytester, "", database_of("sqlite3", pytester, request))
    (pytester.path / "test_classes.py").unlink()
    pytester.makepyfile(test_functions=HEAD + WITHOUT_MARKS)
    blocks = HOW_TO.read_text("utf-8").split("```")
    pytester.makeconftest(*(text[7:] for text in blocks if "setup_databases(" in text))
    run(pytester, "true").assert_outcomes(passed=2)
    assert not (pytester.path / "shop.sqlite").exists()


def make(pytester: pytest.Pytester, before: str, database: dict[str, Any]) -> None:
    pytester.mkpydir("shop")
    (pytester.path / "shop" / "models.py").write_text(MODELS, "utf-8")
    (pytester.path / "shop" / "urls.py").write_text(URLS, "utf-8")
    pytester.makepyfile(
        settings=SETTINGS.format(before=before, database=database),
        test_classes=HEAD + CLASSES,
        test_functions=HEAD + TESTS,
    )


def run(pytester: pytest.Pytester, rolled_back: str) -> pytest.RunResult:
    pytester.makeini(
        f"""
        [pytest]
        DJANGO_SETTINGS_MODULE = settings
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
        atomicbatch_rollback = {rolled_back}
        """
    )
    pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    names = ("atomicbatch.testing.plugin", "pytest_django.plugin", "pytest_asyncio.plugin")
    plugins = [word for name in names for word in ("-p", name)]
    return pytester.runpytest_subprocess(*plugins, "-p", "no:cacheprovider")


def database_of(
    engine: str, pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> dict[str, Any]:
    """What the project's settings say of its database; tests have one beside it."""
    named: dict[str, Any] = {"ENGINE": f"django.db.backends.{engine}"}
    if engine == "sqlite3":
        path = str(pytester.path / "test.sqlite")
        return {**named, "NAME": "shop.sqlite", "TEST": {"NAME": path}}
    server = request.getfixturevalue(
        "postgresql_server" if engine == "postgresql" else "mariadb_server"
    )
    parts, worker = urlsplit(server), request.getfixturevalue("worker_name")
    return {
        **named,
        "NAME": f"django_{worker}",
        "HOST": parts.hostname,
        "PORT": parts.port,
        "USER": parts.username,
        "PASSWORD": parts.password or "",
    }
