"""Hooks: where Django's database layer has to know of a batch; see also test_patterns.py."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorWrapper
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from atomicbatch import patches
from atomicbatch.django import hooks
from atomicbatch.django.drivers import unwrapped
from atomicbatch.doors.openers import opener_of
from tests.django.asking import Project
from tests.django.shop.models import Item

ran: list[Any] = []


def _later(word: Any) -> None:
    ran.append((word, threading.get_ident(), [item.name for item in Item.objects.all()]))


@csrf_exempt
def later(request: Any) -> HttpResponse:
    """Write, and do something after COMMIT."""
    name = request.body.decode()
    with transaction.atomic():
        Item.objects.create(name=name)
        transaction.on_commit(lambda: _later(name))
    return HttpResponse(str(threading.get_ident()))


@csrf_exempt
def broken(_: Any) -> HttpResponse:
    """What is to happen after COMMIT fails."""
    transaction.on_commit(lambda: ran.append(1 // 0))
    return HttpResponse()


@csrf_exempt
def conflict(_: Any) -> HttpResponse:
    return HttpResponse(status=409)


@csrf_exempt
def closing(_: Any) -> HttpResponse:
    """Close the connection, with rows that are not committed yet."""
    with transaction.atomic():
        Item.objects.create(name="lost")
        connection.close()
    return HttpResponse()


class Urls:
    urlpatterns = (
        path("later", later),
        path("broken", broken),
        path("conflict", conflict),
        path("closing", closing),
    )


@pytest.fixture
def shop(project: Project) -> Iterator[Project]:
    """The project with the views of this file."""
    ran.clear()
    with Project.behind(project.gateway, project.database, ROOT_URLCONF=Urls) as made:
        yield made
    ran.clear()


@contextmanager
def opened() -> Iterator[list[Any]]:
    """Connections that Django opens."""
    found: list[Any] = []

    def note(connection: Any, **_: Any) -> None:
        found.append(connection.connection)

    connection_created.connect(note)
    try:
        yield found
    finally:
        connection_created.disconnect(note)


@pytest.mark.every_gateway
def test_functions_wait_for_the_batch_in_order(shop: Project) -> None:
    """They run when all is stored, in the order of the calls, in the thread of the handlers."""
    answer = shop.batch("POST /later a", "POST /later b")
    assert answer.outcome == "committed"
    assert [(word, names) for word, _, names in ran] == [("a", ["a", "b"]), ("b", ["a", "b"])]
    threads = {int(reply.body) for reply in answer.replies}
    assert {thread for _, thread, _ in ran} == threads


def test_functions_of_a_batch_that_fails_are_dropped(shop: Project) -> None:
    assert "rolled-back" in shop.batch("POST /later a", "POST /conflict ").outcome
    assert ran == []
    # Nor do they wait for the next one on the same connection.
    assert shop.plain("POST /later b").status == 200
    assert [word for word, *_ in ran] == ["b"]


def test_a_function_that_fails_is_logged(shop: Project, caplog: Any) -> None:
    """The rest runs, and the replies are what they were: everything is stored."""
    with caplog.at_level(logging.ERROR, "atomicbatch"):
        answer = shop.batch("POST /broken ", "POST /later a")
    assert (answer.outcome, answer.statuses) == ("committed", [200, 200])
    assert [word for word, *_ in ran] == ["a"]
    assert "a function that was deferred until after COMMIT failed" in caplog.text


@pytest.mark.every_gateway
def test_a_batch_opens_one_connection(shop: Project) -> None:
    """Though CONN_MAX_AGE=0 closes one after each request; and then it is closed as well."""
    with opened() as found:
        assert shop.batch(*(f"POST /later {name}" for name in "abcde")).outcome == "committed"
    assert len(found) == 1
    with pytest.raises(Exception, match="closed database"):
        found[0].execute("SELECT 1")


def test_health_is_checked_once(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CONN_HEALTH_CHECKS each request asks a connection that it finds; a batch is one."""
    asked: list[int] = []
    monkeypatch.setitem(connection.settings_dict, "CONN_HEALTH_CHECKS", True)
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)

    def is_usable(_: Any) -> bool:
        asked.append(1)
        return True

    monkeypatch.setattr(type(connections["default"]), "is_usable", is_usable)
    connection.close()
    if shop.gateway == "wsgi":  # elsewhere each request has a thread, and a connection, of its own
        assert shop.plain("POST /later a").status == 200
        assert asked == []
    assert shop.batch("POST /later b", "POST /later c", "POST /later d").outcome == "committed"
    assert len(asked) == (shop.gateway == "wsgi")
    connection.close()


def test_rows_that_are_lost_by_closing_are_refused(shop: Project) -> None:
    answer = shop.batch("POST /closing ")
    assert "rolled-back; failed=1" in answer.outcome
    assert b"a handler closes its connection inside atomic()" in answer.replies[0].body
    assert shop.rows() == []


@pytest.mark.usefixtures("database")
def test_the_batchs_own_connection_is_opened_by_django() -> None:
    """With all that Django sets up, and from no pool."""
    connection.ensure_connection()
    opener = opener_of(connection.connection)
    assert opener is not None
    with opened() as found:
        other = opener()
    assert other is found[0]
    assert other is not connection.connection
    assert other.execute("SELECT md5('a')").fetchone() == ("0cc175b9c0f1b6a831c399e269772661",)
    other.close()
    connection.close()


@pytest.mark.usefixtures("database")
def test_an_opener_keeps_no_connection_alive() -> None:
    """Under ASGI the wrappers of a thread that ends are dropped, and the connection is to go."""
    twin = connection.copy()
    twin.connect()
    driven = weakref.ref(twin.connection)
    del twin
    gc.collect()
    assert driven() is None


def test_proxies_are_looked_through() -> None:
    """OpenTelemetry puts them around connections; doors know the connections themselves."""

    class Proxy:
        __wrapped__ = connection

    assert unwrapped(Proxy()) is connection
    assert unwrapped(connection) is connection


def test_outside_of_batches_django_is_as_it_was() -> None:
    """What is changed is on the list of changes, and passes everything on."""
    names = [change.name for change in patches.changes() if change.owner is BaseDatabaseWrapper]
    assert sorted(names) == sorted(hooks._CHANGES)
    names = [change.name for change in patches.changes() if change.owner is CursorWrapper]
    assert sorted(names) == sorted(hooks._CHANGES_OF_CURSORS)
    called: list[str] = []
    transaction.on_commit(lambda: called.append("at once"))
    assert called == ["at once"]
    with pytest.raises(ZeroDivisionError):
        transaction.on_commit(lambda: called.append(str(1 // 0)))
    with pytest.raises(TypeError, match="must be a callable"):
        transaction.on_commit("not a function")


def test_hooks_can_be_put_in_while_django_is_being_imported() -> None:
    """As the pytest plugin does: nothing of ours then needs what Django has not defined yet."""
    program = """
import importlib, sys
from atomicbatch import patches
patches.when_imported("django.db", lambda _: importlib.import_module("atomicbatch.django"))
import django.core.checks
from django.db.backends.base.base import BaseDatabaseWrapper
assert "atomicbatch.django" in sys.modules
assert "atomicbatch.django.middleware" not in sys.modules
changed = {change.owner for change in patches.changes()}
assert BaseDatabaseWrapper in changed
import sqlite3
assert sqlite3 in changed
from atomicbatch.django import BatchMiddleware
assert BatchMiddleware.__module__ == "atomicbatch.django.middleware"
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
