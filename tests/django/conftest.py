"""Fixtures of the Django tests: a project of its own in this process, and its database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from tests.django import ready  # noqa: F401  # before anything else is Django's
from tests.django.asking import Project


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The path of the project's database, with all tables."""
    path = Path(settings.DATABASE)
    path.unlink(missing_ok=True)
    call_command("migrate", run_syncdb=True, verbosity=0)
    yield settings.DATABASE
    connections.close_all()
    path.unlink()


@pytest.fixture(params=["wsgi", "asgi", "asgi with sync middleware"])
def project(request: pytest.FixtureRequest, database: str) -> Iterator[Project]:
    """The project behind each gateway, with empty tables."""
    with Project.behind(request.param, database) as made:
        made.empty()
        yield made
