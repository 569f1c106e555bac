"""Drivers: a database whose driver has no door is read in a batch, and not written to."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.urls import path

from atomicbatch.django.drivers import driver_of, has_door, place_of
from tests.django.asking import Project
from tests.django.patterns.expected import NOT_DJANGOS
from tests.django.shop.models import Item

ALIAS = "strange"


def view(act: Callable[[Any], object]) -> Callable[[Any], HttpResponse]:
    """Make a view that does something with the strange database, and tells what came of it."""

    def respond(_: Any) -> HttpResponse:
        return HttpResponse(str(act(Item.objects.using(ALIAS))))

    respond.csrf_exempt = True  # type: ignore[attr-defined]  # as the decorator does it
    return respond


def _swallow(items: Any) -> str:
    try:
        items.create(name="swallowed")
    except Exception as error:
        return type(error).__name__
    return "stored"


def _read_in_blocks(items: Any) -> int:
    with transaction.atomic(ALIAS), transaction.atomic(ALIAS):
        return int(items.count())


def _call(_: Any) -> None:
    with connections[ALIAS].cursor() as cursor:
        cursor.callproc("called")


def _many(_: Any) -> None:
    with connections[ALIAS].cursor() as cursor:
        cursor.executemany("INSERT INTO shop_item (name, stock) VALUES (%s, 0)", [("m",), ("n",)])


ACTS: dict[str, Callable[[Any], object]] = {
    "create": lambda items: items.create(name="x"),
    "update": lambda items: items.update(stock=3),
    "swallow": _swallow,
    "call": _call,
    "many": _many,
}


class Urls:
    urlpatterns = (
        *(path(name, view(act)) for name, act in ACTS.items()),
        path("read", view(_read_in_blocks)),
        path("here", view(lambda _: Item.objects.create(name="here"))),
    )


class Strange:
    """The strange database, as another program sees it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def rows(self) -> list[Any]:
        with closing(sqlite3.connect(self.file)) as other:
            return other.execute("SELECT name, stock FROM shop_item ORDER BY name").fetchall()


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Strange]:
    file = tmp_path / "strange.sqlite"
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("CREATE TABLE shop_item (id INTEGER PRIMARY KEY, name TEXT, stock INTEGER)")
        other.execute("INSERT INTO shop_item (name, stock) VALUES ('old', 0)")
    said = {
        **connections.settings["default"],
        "ENGINE": "tests.django.shop.strange",
        "NAME": str(file),
        "OPTIONS": {},
    }
    monkeypatch.setitem(settings.DATABASES, ALIAS, said)
    assert connections.settings is settings.DATABASES
    yield Strange(file)
    if hasattr(connections._connections, ALIAS):
        connections[ALIAS].close()
        del connections[ALIAS]


@pytest.fixture
def shop(project: Project, strange: Strange) -> Iterator[Project]:
    """The project with the views of this file."""
    with Project.behind(project.gateway, project.database, ROOT_URLCONF=Urls) as made:
        yield made


@pytest.mark.parametrize("name", ACTS)
def test_what_is_written_is_refused(shop: Project, strange: Strange, name: str) -> None:
    """Also where the view catches that; and it says how to let it be."""
    answer = shop.batch("POST /here", f"POST /{name}")
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert b"takes no part in the batch" in answer.replies[1].body
    assert rb"name it in ATOMICBATCH[\"OUTSIDE\"]: \"strange\"" in answer.replies[1].body
    assert not NOT_DJANGOS.search(answer.replies[1].body.decode())
    assert (shop.rows(), strange.rows()) == ([], [("old", 0)])
    assert shop.plain(f"POST /{name}").status == 200
    assert strange.rows() != [("old", 0)]


def test_what_reads_is_not(shop: Project) -> None:
    """In blocks of Django's as well."""
    answer = shop.batch("POST /here", "GET /read")
    assert (answer.outcome, answer.replies[1].body) == ("committed", b"1")
    assert shop.rows() == ["here"]


def test_by_its_alias_it_is_left_alone(project: Project, strange: Strange) -> None:
    """What is written there is stored at once, and stays."""
    changed = {"ROOT_URLCONF": Urls, "ATOMICBATCH": {"OUTSIDE": [ALIAS]}}
    with Project.behind(project.gateway, project.database, **changed) as shop:
        answer = shop.batch("POST /here", "POST /create", "GET /nowhere")
    assert answer.outcome == "rolled-back; failed=3; status=404"
    assert b"what it did elsewhere stays" in answer.replies[1].body
    assert (shop.rows(), strange.rows()) == ([], [("old", 0), ("x", 0)])


def test_that_is_told_by_the_checks(strange: Strange) -> None:
    told = [one for one in run_checks() if one.id == "atomicbatch.W002"]
    assert ["(strange)" in one.msg for one in told] == [True]


def test_which_drivers_have_doors(strange: Strange) -> None:
    """They are named by their package."""
    assert (driver_of(connections[ALIAS]), has_door(connections[ALIAS])) == ("strange", False)
    assert (driver_of(connection), has_door(connection)) == ("sqlite3", True)
    assert driver_of(object()) == ""


def test_a_place_is_what_the_settings_say(
    strange: Strange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver of its own does not make a server another one."""
    assert place_of(connection) == ("sqlite", "", 0, str(Path(settings.DATABASE).resolve()))
    other = connections[ALIAS]
    assert place_of(other) == ("strange", "", 0, str(strange.file))
    monkeypatch.setattr(other, "vendor", "mysql")
    monkeypatch.setitem(other.settings_dict, "HOST", "127.0.0.1")
    assert place_of(other) == ("mysql", "localhost", 3306, str(strange.file))
