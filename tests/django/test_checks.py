"""Checks: what the project is told of its settings, before anybody sends a batch."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.test import override_settings

from atomicbatch.django import BatchMiddleware, checks

BATCH, OTHERS = settings.BATCH, settings.OTHERS
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
GZIP = "django.middleware.gzip.GZipMiddleware"


class Own(BatchMiddleware):
    """A project's own."""


def found(*, deploy: bool = False, **changed: Any) -> list[CheckMessage]:
    """What ``manage.py check`` tells of batches."""
    with override_settings(**changed):
        messages = run_checks(include_deployment_checks=deploy)
    return [one for one in messages if one.id.startswith("atomicbatch.")]


def ids(**changed: Any) -> list[str]:
    return [one.id.removeprefix("atomicbatch.") for one in found(**changed)]


def test_a_project_as_it_should_be() -> None:
    """Nothing is told of it."""
    assert ids() == []


@pytest.mark.parametrize(
    ("middleware", "told"),
    [
        (OTHERS, ["E002"]),
        ([BATCH, BATCH, *OTHERS], ["E003"]),
        ([GZIP, BATCH, *OTHERS], ["W001"]),
        ([SESSIONS, BATCH], ["E004"]),
        (["tests.django.test_checks.Own", *OTHERS], []),
        (["no.such.thing", BATCH], ["W001"]),
    ],
)
def test_the_middleware(middleware: list[str], told: list[str]) -> None:
    """It has to be there, once, and first."""
    assert ids(MIDDLEWARE=middleware) == told


def test_the_setting() -> None:
    """Each mistake in it is an error of its own."""
    mistakes = found(ATOMICBATCH={"PATH": "batch", "LIMIT": {}})
    assert [one.id for one in mistakes] == ["atomicbatch.E001"] * 2
    assert "has no key 'LIMIT'" in mistakes[1].msg


def test_a_driver_that_has_no_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that writes by it is refused; that is told before."""
    monkeypatch.setattr(type(connections["default"]), "Database", ModuleType("oracledb"))
    (told,) = found()
    assert told.id == "atomicbatch.W002"
    assert "(oracledb)" in told.msg


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory&cache=shared"])
def test_a_database_in_memory(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is another one for each thread, or one for all of them at once."""
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", name)
    assert ids() == ["W003"]


def test_a_connection_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a door cannot take part."""
    early = sqlite3.Connection(":memory:")
    monkeypatch.setattr(connections["default"], "connection", early)
    assert ids() == ["W004"]
    early.close()


def test_redirects_that_count_as_success() -> None:
    """They are told where a project is made ready for production."""
    assert ids(deploy=True) == ["W006"]
    assert ids(deploy=True, SECURE_SSL_REDIRECT=True, APPEND_SLASH=False) == ["W005"]
    assert ids(deploy=True, MIDDLEWARE=[BATCH]) == []


def test_without_the_app_the_log_has_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middleware tells it once when it is made, since the checks of Django come earlier."""
    monkeypatch.setattr(checks, "_told", [])
    installed = [name for name in settings.INSTALLED_APPS if name != "atomicbatch.django"]
    with (
        override_settings(MIDDLEWARE=[GZIP, BATCH], INSTALLED_APPS=installed),
        caplog.at_level(logging.WARNING, "atomicbatch"),
    ):
        assert not apps.is_installed("atomicbatch.django")
        WSGIHandler()
        WSGIHandler()
    told = [record.getMessage() for record in caplog.records if record.name == "atomicbatch"]
    assert len(told) == 1
    assert told[0].startswith(f"atomicbatch.W001: {GZIP} comes before BatchMiddleware")


def test_the_app_brings_the_checks() -> None:
    """Also where the middleware is not listed, which is what one of them is about."""
    program = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["atomicbatch.django"], MIDDLEWARE=[], DATABASES={})
django.setup()
from django.core.checks import run_checks
print(*sorted(one.id for one in run_checks()))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "atomicbatch." in ran.stdout
