"""The part of the plugin that asks for its fixtures: ``atomicbatch_rollback = true``."""

from __future__ import annotations

import pytest


def _ask(request: pytest.FixtureRequest, name: str) -> None:
    if request.scope in request.config.getini("atomicbatch_rollback_scopes"):
        request.getfixturevalue(name)


@pytest.fixture(scope="session", autouse=True)
def _atomicbatch_session(request: pytest.FixtureRequest) -> None:
    _ask(request, "rolled_back_session")


@pytest.fixture(scope="package", autouse=True)
def _atomicbatch_package(request: pytest.FixtureRequest) -> None:
    _ask(request, "rolled_back_package")


@pytest.fixture(scope="module", autouse=True)
def _atomicbatch_module(request: pytest.FixtureRequest) -> None:
    _ask(request, "rolled_back_module")


@pytest.fixture(scope="class", autouse=True)
def _atomicbatch_class(request: pytest.FixtureRequest) -> None:
    _ask(request, "rolled_back_class")


@pytest.fixture(autouse=True)
def _atomicbatch_function(request: pytest.FixtureRequest) -> None:
    _ask(request, "rolled_back")
