"""
The pytest plugin: what an app stores in a test is undone at its end, also what it commits.

Fixtures: ``rolled_back``, and ``rolled_back_class``, ``rolled_back_module``,
``rolled_back_package``, ``rolled_back_session``. With ``atomicbatch_rollback = true`` all tests and
fixtures are rolled back without asking for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from atomicbatch import doors, patches
from atomicbatch.errors import TransactionError
from atomicbatch.guard.watch import unwatched
from atomicbatch.testing import before, commit_hooks, everything

if TYPE_CHECKING:
    from atomicbatch.testing.scopes import Scopes

_SCOPES = pytest.StashKey["Scopes"]()


_EARLY = (
    "connections that were opened before the pytest plugin was loaded are not rolled back: {}; "
    "open them in a fixture, or name the plugin by -p atomicbatch.testing.plugin"
)
_EVERY_SCOPE = ("session", "package", "module", "class", "function")


class NotRolledBackError(Exception):
    """A test, or what it uses, has done something that cannot be undone at its end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings."""
    parser.addini(
        "atomicbatch_rollback",
        "Undo at the end of each test what it has stored, and of what fixtures have stored at the "
        "end of their scope.",
        type="bool",
        default=False,
    )
    parser.addini(
        "atomicbatch_rollback_scopes",
        "Of which scopes; all, if it is left out.",
        type="args",
        default=list(_EVERY_SCOPE),
    )
    parser.addini(
        "atomicbatch_before",
        "Fixtures of the session that are set up before anything is rolled back: what they store "
        "stays.",
        type="args",
        default=[],
    )
    parser.addini(
        "atomicbatch_commit_hooks",
        "Run functions that wait for a commit (atomicbatch's on_commit, and Django's) at the app's "
        "commit; false: leave them out.",
        type="bool",
        default=True,
    )
    parser.addini(
        "atomicbatch_outside",
        "What is stored for good all the same: paths of SQLite files, URLs of databases, names of "
        "libraries or drivers.",
        type="linelist",
        default=[],
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any conftest.py opens a database."""
    _prepare(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Where a conftest.py names this plugin, it is late for that."""
    _prepare(config)


def _prepare(config: pytest.Config) -> None:
    if wrong := {*config.getini("atomicbatch_rollback_scopes")}.difference(_EVERY_SCOPE):
        raise pytest.UsageError(
            f"atomicbatch_rollback_scopes: there is no scope {', '.join(sorted(wrong))}; those of "
            f"fixtures are {', '.join(_EVERY_SCOPE)}"
        )
    doors.install()
    patches.when_imported("django.db", _change_django)
    if not config.getini("atomicbatch_commit_hooks"):
        commit_hooks.leave_out(lambda: _SCOPES in config.stash and bool(_scopes(config).current))
    manager = config.pluginmanager
    name = "atomicbatch-everything"
    if config.getini("atomicbatch_rollback") and not manager.has_plugin(name):
        manager.register(everything, name)


def _change_django(_: ModuleType) -> None:
    # What sets a connection up does not belong to the test, see there.
    from atomicbatch.django import hooks

    hooks.install()


def _scopes(config: pytest.Config) -> Scopes:
    if _SCOPES not in config.stash:
        # Late: who does not use it is spared the imports.
        from atomicbatch.testing.scopes import Scopes

        # pytest-cov stores what it has measured in an SQLite file.
        outside = ("coverage", *config.getini("atomicbatch_outside"))
        config.stash[_SCOPES] = Scopes(outside)
    return config.stash[_SCOPES]


# Fixtures ----------------------------------------------------------------------------------------


def _undone(request: pytest.FixtureRequest) -> Iterator[None]:
    __tracebackhide__ = True
    scopes = _scopes(request.config)
    if not scopes.are_open:
        before.set_up(request, request.config.getini("atomicbatch_before"))
    early = len(unwatched)
    layer = scopes.open(request.scope)
    if names := unwatched[early:]:
        warnings.warn(pytest.PytestWarning(_EARLY.format(", ".join(names))), stacklevel=1)
    yield
    told = scopes.problem()
    scopes.close(layer)
    if layer.problem is not None and layer.problem is not told:
        raise NotRolledBackError(_said(layer.problem)) from layer.problem


@pytest.fixture
def rolled_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the test stores, and fixtures that come after this one, is undone at its end."""
    yield from _undone(request)


@pytest.fixture(scope="class")
def rolled_back_class(request: pytest.FixtureRequest) -> Iterator[None]:
    """What fixtures of the class store that come after this one is undone at its end."""
    yield from _undone(request)


@pytest.fixture(scope="module")
def rolled_back_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """What fixtures of the module store that come after this one is undone at its end."""
    yield from _undone(request)


@pytest.fixture(scope="package")
def rolled_back_package(request: pytest.FixtureRequest) -> Iterator[None]:
    """What fixtures of the package store that come after this one is undone at its end."""
    yield from _undone(request)


@pytest.fixture(scope="session")
def rolled_back_session(request: pytest.FixtureRequest) -> Iterator[None]:
    """What fixtures of the session store that come after this one is undone at its end."""
    yield from _undone(request)


# Hooks -------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """What a fixture stores lasts as long as its scope."""
    __tracebackhide__ = True
    scopes = request.config.stash.get(_SCOPES, None)
    if scopes is None:
        return (yield)
    with scopes.setting_up(fixturedef.scope):
        return (yield from _checked(scopes))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test fails that has done what cannot be undone, also where the app has hidden that."""
    __tracebackhide__ = True
    scopes = item.config.stash.get(_SCOPES, None)
    if scopes is None:
        return (yield)
    return (yield from _checked(scopes))


def _checked(scopes: Scopes) -> Generator[None, Any, Any]:
    __tracebackhide__ = True
    known = scopes.problem()
    try:
        result = yield
    except Exception as error:
        problem = scopes.problem()
        if problem is None or problem is known or isinstance(error, NotRolledBackError):
            raise
        raise NotRolledBackError(_said(problem)) from error
    problem = scopes.problem()
    if problem is not None and problem is not known:
        raise NotRolledBackError(_said(problem)) from problem
    return result


def _said(problem: TransactionError) -> str:
    return f"what was done here could not be rolled back: {problem}"
