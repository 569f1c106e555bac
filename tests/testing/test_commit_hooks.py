"""Functions that wait for a commit run in a test, or are left out."""

from __future__ import annotations

import sys

import pytest

SETTINGS = """
SECRET_KEY = "x"
ROOT_URLCONF = "shop"
ALLOWED_HOSTS = ["*"]
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "shop.sqlite",
        "CONN_MAX_AGE": {age},
    }}
}}
"""
SHOP = """
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import path

told = []

def order(request):
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES (%s)", ["tea"])
        transaction.on_commit(lambda: told.append("Django, in a block"))
    transaction.on_commit(lambda: told.append("Django, at once"))
    return HttpResponse()

urlpatterns = [path("", order)]
"""
SUITE = """
import sqlite3
from contextlib import closing

import django
import peewee
import sys

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

django.setup()
from django.db import connection
from django.test import Client
from atomicbatch import on_commit
from shop import told

database = peewee.SqliteDatabase("shop.sqlite")
engine = sa.create_engine("sqlite:///shop.sqlite")
theirs = {"told": told}
exec(compile("def listen(_): told.append('a library')", "/x/site-packages/x.py", "exec"), theirs)

def listens(session):
    told.append("SQLAlchemy")

def by_django(_):
    # A request closes its connection at its end; a client of Django's does not let it.
    assert Client().post("/").status_code == 200

def by_us(_):
    on_commit(told.append, "ours")

def by_peewee(_):
    with database.connection_context():
        with database.atomic():
            database.execute_sql("INSERT INTO orders VALUES ('tea')")
            database.after_commit(lambda: told.append("peewee, in a block"))
        database.after_commit(lambda: told.append("peewee, at once"))

def by_sqlalchemy(session):
    sa.event.listen(session, "after_commit", lambda _: told.append("once"), once=True)
    session.execute(sa.text("INSERT INTO orders VALUES ('tea')"))
    session.commit()

@pytest.fixture(scope="module")
def session():
    with Session(engine) as session:
        sa.event.listen(session, "after_commit", listens)
        sa.event.listen(session, "after_commit", theirs["listen"])
        yield session
        assert sa.event.contains(session, "after_commit", listens)
        sa.event.remove(session, "after_commit", listens)
    engine.dispose()
    connection.close()

ACTS = {
    by_django: ["Django, in a block", "Django, at once"],
    by_us: ["ours"],
    by_peewee: ["peewee, in a block", "peewee, at once"],
    by_sqlalchemy: ["SQLAlchemy", "a library", "once"],
}

@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("n", range(2))
def test_rolled_back(session, rolled_back, act, n):
    told.clear()
    act(session)
    assert told == [told for told in ACTS[act] if RUNS or told == "a library"]
    with closing(sqlite3.Connection("shop.sqlite")) as other:
        assert other.execute("SELECT * FROM orders").fetchall() == []

@pytest.mark.parametrize("act", ACTS)
def test_not_rolled_back(session, act):
    told.clear()
    act(session)
    assert told == ACTS[act]
"""


@pytest.mark.parametrize(
    ("runs", "age"), [pytest.param("true", 0, marks=pytest.mark.prove), ("false", 60)]
)
def test_functions_that_wait_for_a_commit(runs: str, age: int, pytester: pytest.Pytester) -> None:
    """
    By whatever library; where no test is rolled back, they run as ever.

    Libraries' own listeners run. What is to run once is not put off until a later commit.
    """
    pytester.makepyfile(
        settings=SETTINGS.format(age=age),
        shop=SHOP,
        test_shop=SUITE.replace("RUNS", runs.title()),
    )
    pytester.makeini(f"[pytest]\natomicbatch_commit_hooks = {runs}\n")
    make = "import sqlite3; sqlite3.connect('shop.sqlite').execute('CREATE TABLE orders (name)')"
    pytester.run(sys.executable, "-c", make)
    pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester._monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings")
    result = pytester.runpytest_subprocess("-patomicbatch.testing.plugin", "-pno:cacheprovider")
    result.assert_outcomes(passed=12)
