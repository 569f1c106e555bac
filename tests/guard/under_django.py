"""
A Django project whose view forks, and the process that it forks hides what it is refused.

``python -m tests.guard.under_django SQLITE POSTGRESQL`` sends batches to it, and prints, for each
database, what they came to. Both (a path, and a URL) have a table ``t``.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections, models, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.endpoints.asking import call
from tests.wsgi.asking import ask

URL = urlsplit(sys.argv[2])
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}
POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": URL.path.strip("/"),
    "HOST": URL.hostname,
    "PORT": URL.port,
    "USER": URL.username,
}

settings.configure(
    DATABASES={"default": SQLITE, "postgresql": POSTGRESQL},
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["atomicbatch.django.BatchMiddleware"],
    INSTALLED_APPS=["atomicbatch.django"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()


class Row(models.Model):  # type: ignore[misc]
    name = models.CharField(max_length=99)

    class Meta:
        app_label = "forks"
        db_table = "t"


def own(request: HttpRequest) -> HttpResponse:
    Row.objects.using(request.GET["using"]).create(name="own")
    return HttpResponse(status=201)


def _child(alias: str, atomic: bool) -> None:
    connections[alias].connect()  # its own, and not its parent's
    with suppress(Exception):
        if atomic:
            with transaction.atomic(alias):
                Row.objects.using(alias).create(name="child")
        else:
            Row.objects.using(alias).create(name="child")


def forks(request: HttpRequest) -> HttpResponse:
    process = multiprocessing.get_context("fork").Process(
        target=_child, args=(request.GET["using"], "atomic" in request.GET)
    )
    process.start()
    process.join()
    return HttpResponse(status=201)


def computes(_: HttpRequest) -> HttpResponse:
    process = multiprocessing.get_context("fork").Process(target=abs, args=(-1,))
    process.start()
    process.join()
    return HttpResponse(str(process.exitcode))


urlpatterns = [path(view.__name__, view) for view in (own, forks, computes)]


def _tried(app: Any, alias: str) -> list[list[str]]:
    told = []
    for paths in (["own", "computes", "own"], ["own", "forks", "own"], ["own", "forks&atomic"]):
        targets = [f"/{one.replace('&', f'?using={alias}&')}" for one in paths]
        targets = [one if "?" in one else f"{one}?using={alias}" for one in targets]
        answer = ask(app, *(call("POST", one) for one in targets))
        why = next((one.body.decode() for one in answer.replies if one.status == 501), "")
        told.append([answer.outcome, why])
    return told


def main() -> None:
    """Send all batches."""
    app: Any = WSGIHandler()
    print(json.dumps([_tried(app, alias) for alias in settings.DATABASES]))


if __name__ == "__main__":
    main()
