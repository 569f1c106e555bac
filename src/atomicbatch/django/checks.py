"""
Checks: what of a project's settings keeps batches from working, or would surprise.

``manage.py check`` runs them where ``atomicbatch.django`` is in ``INSTALLED_APPS``. Elsewhere the
middleware writes them to the log, once. The ids are in ``docs/reference/django.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import connections
from django.utils.module_loading import import_string

from atomicbatch.django.drivers import driver_of, has_door
from atomicbatch.django.options import SETTING, problems_of
from atomicbatch.guard.places import of_file

logger = logging.getLogger("atomicbatch")
_OURS = "atomicbatch.django.BatchMiddleware"
# Their connections are made by C: a door has to be there before they are opened.
_C_DRIVERS = ("sqlite3", "psycopg2")
_told: list[bool] = []


@checks.register()
def check_settings(app_configs: Any = None, **_: Any) -> list[checks.CheckMessage]:  # noqa: ARG001
    """Check the setting, the middleware, and the databases."""
    return [*_about_the_setting(), *_about_middleware(), *_about_databases()]


@checks.register(checks.Tags.security, deploy=True)
def check_redirects(app_configs: Any = None, **_: Any) -> list[checks.CheckMessage]:  # noqa: ARG001
    """Check for what answers a write with a redirect: for a batch that is a success."""
    return list(_about_redirects())


def tell_once() -> None:
    """Write to the log what ``manage.py check`` does not tell, since the app is not installed."""
    if _told or apps.is_installed("atomicbatch.django"):
        return
    _told.append(True)
    for message in check_settings():
        logger.log(message.level, "%s: %s", message.id, message.msg)


def _about_the_setting() -> Iterator[checks.CheckMessage]:
    hint = "docs/reference/django.md lists the keys."
    for problem in problems_of():
        yield checks.Error(problem, hint=hint, id="atomicbatch.E001")


def _about_middleware() -> Iterator[checks.CheckMessage]:
    ours = [place for place, path in enumerate(settings.MIDDLEWARE) if _is_ours(path)]
    if not ours:
        yield checks.Error(
            "MIDDLEWARE has no BatchMiddleware, so that there is no batch endpoint",
            hint=f'Put "{_OURS}" first.',
            id="atomicbatch.E002",
        )
        return
    if len(ours) > 1:
        yield checks.Error("MIDDLEWARE has more than one BatchMiddleware", id="atomicbatch.E003")
    for path in settings.MIDDLEWARE[: ours[0]]:
        saves = path.endswith(".SessionMiddleware")
        kind, code = (
            (checks.Error, "atomicbatch.E004") if saves else (checks.Warning, "atomicbatch.W001")
        )
        what = "saves its own session over those of the calls" if saves else "sees no call"
        yield kind(
            f"{path} comes before BatchMiddleware: it handles the batch as a whole, and {what}",
            hint=f'Put "{_OURS}" first.',
            id=code,
        )


def _is_ours(path: str) -> bool:
    """Tell whether a middleware is BatchMiddleware, or a class of the project's made of it."""
    if path == _OURS:
        return True
    try:
        found = import_string(path)
    except ImportError:
        return False  # Django says so itself
    classes = getattr(found, "__mro__", ())
    return any(one.__module__ == "atomicbatch.django.middleware" for one in classes)


def _about_databases() -> Iterator[checks.CheckMessage]:
    for alias in connections:
        connection = connections[alias]
        if not has_door(connection):
            driver = driver_of(connection) or connection.vendor
            yield checks.Warning(
                f"the driver of the database {alias!r} ({driver}) cannot take "
                f"part in a batch: what Django's cursors would write there is refused",
                hint=f'Name it in {SETTING}["OUTSIDE"], if what is written there may stay when '
                f"the batch is rolled back.",
                id="atomicbatch.W002",
            )
        elif connection.vendor == "sqlite" and _is_in_memory(connection.settings_dict["NAME"]):
            yield checks.Warning(
                f"the database {alias!r} is in memory: each thread has one of its own, and all "
                f"requests of a thread share one connection",
                hint="Use a file.",
                id="atomicbatch.W003",
            )
        if _is_early(connection.connection):
            yield checks.Warning(
                f"a connection to the database {alias!r} was opened before atomicbatch was "
                f"imported: it cannot take part in a batch",
                hint='Put "atomicbatch.django" first in INSTALLED_APPS, and open no connection '
                "in the settings.",
                id="atomicbatch.W004",
            )


def _is_in_memory(name: object) -> bool:
    return not of_file(name).database


def _is_early(connection: Any) -> bool:
    return type(connection).__module__.partition(".")[0] in _C_DRIVERS


def _about_redirects() -> Iterator[checks.CheckMessage]:
    stack = settings.MIDDLEWARE
    what = "a call that is answered so has stored nothing, and counts as a success"
    if settings.SECURE_SSL_REDIRECT and any(one.endswith(".SecurityMiddleware") for one in stack):
        yield checks.Warning(
            f"SECURE_SSL_REDIRECT answers the calls of a batch that came by http with 301: {what}",
            hint="Refuse http in front of Django, or let clients send batches to https only.",
            id="atomicbatch.W005",
        )
    if settings.APPEND_SLASH and any(one.endswith(".CommonMiddleware") for one in stack):
        yield checks.Warning(
            f"APPEND_SLASH answers a write without its last slash with 301: {what}",
            hint="Set APPEND_SLASH = False, so that it is a 404; or let clients check that the "
            "statuses are 2xx.",
            id="atomicbatch.W006",
        )
