"""A database of each kind for the tests of this folder, and the one of a library."""

from __future__ import annotations

import gc
import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.transactions.drivers.files import File, Store
from tests.transactions.drivers.libraries import Library
from tests.transactions.drivers.servers import MariaDB, PostgreSQL, made

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def stores(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Store]]:
    """A database of each kind, made when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def store_on(on: str) -> Store:
            if on == "sqlite":
                folder = request.getfixturevalue("tmp_path_factory").mktemp("drivers")
                return File(folder / "shop.sqlite")
            server = request.getfixturevalue(f"{on}_server")
            kind = MariaDB if on == "mariadb" else PostgreSQL
            # There is a fixture of this name in tests/testing as well.
            name = f"drivers_{request.getfixturevalue('worker_name')}_{next(_numbers)}"
            return stack.enter_context(made(kind, server, name))

        yield store_on
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture
def store(library: Library, stores: Callable[[str], Store]) -> Store:
    """The database of the library that is tried, with its seed."""
    # The doors look for connections from before; what is there before a test has none.
    gc.collect()
    gc.freeze()
    found = stores(library.on)
    found.reset()
    return found
