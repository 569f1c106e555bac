"""The part of the plugin that asks for all of its fixtures: ``atomicbatch_rollback = true``."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _atomicbatch_session(rolled_back_session: None) -> None:
    pass


@pytest.fixture(scope="package", autouse=True)
def _atomicbatch_package(rolled_back_package: None) -> None:
    pass


@pytest.fixture(scope="module", autouse=True)
def _atomicbatch_module(rolled_back_module: None) -> None:
    pass


@pytest.fixture(scope="class", autouse=True)
def _atomicbatch_class(rolled_back_class: None) -> None:
    pass


@pytest.fixture(autouse=True)
def _atomicbatch_function(rolled_back: None) -> None:
    pass
