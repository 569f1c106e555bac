"""Before: fixtures that are set up before anything is rolled back: what they store stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

_DJANGO = "django_db_setup"
# By its entry point, or as it was named.
_NAMES = ("django", "pytest_django", "pytest_django.plugin")
# What asks for a database of pytest-django's.
_ASKS = frozenset(
    (_DJANGO, "db", "transactional_db", "live_server", "django_db_reset_sequences", "admin_user")
)


def set_up(request: pytest.FixtureRequest, names: Iterable[str]) -> None:
    """
    Set them up; they end after whoever asks for it.

    Args:
        request: Of the fixture from which on everything is rolled back.
        names: Those that the project's settings name. If tests need the databases of pytest-django,
            its fixture is one of them without that.

    Raises:
        pytest.UsageError: There is no such fixture.
    """
    for name in (*names, *_of_django(request)):
        try:
            request.getfixturevalue(name)
        except pytest.FixtureLookupError as error:
            if error.argname != name:
                raise
            raise pytest.UsageError(
                f"atomicbatch_before names the fixture {name!r}, which this test does not have; "
                f"define it in the topmost conftest.py"
            ) from None


def _of_django(request: pytest.FixtureRequest) -> Iterator[str]:
    """Its databases are created, migrated and dropped: no transaction can undo that."""
    if any(map(request.config.pluginmanager.has_plugin, _NAMES)):
        from pytest_django.lazy_django import django_settings_is_configured

        if django_settings_is_configured() and any(map(_needs_django, request.session.items)):
            yield _DJANGO


def _needs_django(item: Any) -> bool:
    if item.get_closest_marker("django_db") or _ASKS.intersection(item.fixturenames):
        return True
    from django.test import TransactionTestCase

    return issubclass(getattr(item, "cls", None) or object, TransactionTestCase)
