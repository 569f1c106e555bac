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


GATEWAYS = ("wsgi", "asgi", "asgi with sync middleware")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """
    Run a test behind each gateway.

    Behind the last one, calls are made as behind the second and run as behind the first. So only
    tests of what is between do that always, by ``pytest.mark.every_gateway``.
    """
    if "project" not in metafunc.fixturenames:
        return
    always = metafunc.definition.get_closest_marker("every_gateway") is not None
    marks = [] if always else [pytest.mark.prove]
    params = [*GATEWAYS[:2], pytest.param(GATEWAYS[2], marks=marks)]
    metafunc.parametrize("project", params, indirect=True)


@pytest.fixture
def project(request: pytest.FixtureRequest, database: str) -> Iterator[Project]:
    """The project behind each gateway, with empty tables."""
    with Project.behind(request.param, database) as made:
        made.empty()
        yield made
