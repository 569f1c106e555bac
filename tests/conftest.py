"""Fixtures for all tests: a fresh database of each kind."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NoReturn

import pymysql
import pytest
import sqlalchemy as sa
from hypothesis import settings

from tests import databases, servers
from tests.emptied import EmptiedDatabases
from tests.scratch import move_to_memory

pytest_plugins = ["tests.stores", "pytester"]
# Here, before any test imports them.
pytest.register_assert_rewrite("tests.endpoints", "tests.transactions.sqlalchemy.oracle")

# PyMySQL and HTTP clients read all certificates of the machine each time they connect, which takes
# longer than most tests. This one is nobody's. Processes that tests start have it too.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("nobody.pem"))

move_to_memory()

# For properties that say no number themselves; "make prove" runs them with the other profile.
settings.register_profile("each-time", max_examples=60)
settings.register_profile("prove", max_examples=500)
settings.load_profile("each-time")

_SHARED = pytest.StashKey[servers.SharedServers]()
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Start the database servers that the workers share, where there will be workers."""
    controls = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if controls and not config.option.collectonly:
        config.stash[_SHARED] = servers.SharedServers()
        config.stash[_SHARED].start()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where they are."""
    if _SHARED in node.config.stash:
        node.workerinput["servers"] = str(node.config.stash[_SHARED].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SHARED in config.stash:
        config.stash[_SHARED].stop()


def pytest_collection_finish() -> None:
    """Who collects garbage does not look at modules and tests each time, which takes 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _forget_connections_from_before() -> Iterator[None]:
    """What one test has opened before the doors were in does not make the next one's replies."""
    yield
    watch = sys.modules.get("atomicbatch.guard.watch")
    earlier = sys.modules.get("atomicbatch.doors.earlier")
    if watch is not None and watch.unwatched:
        watch.unwatched.clear()
    if earlier is not None and earlier.unseen:
        earlier.unseen.clear()


@contextlib.contextmanager
def _server(config: pytest.Config, kind: str, *, alone: bool = False) -> Iterator[str]:
    shared = getattr(config, "workerinput", {}).get("servers")
    with contextlib.ExitStack() as stack:
        try:
            if shared is not None and not alone:
                url = servers.shared_url(Path(shared), kind)
            else:
                url = stack.enter_context(servers.KINDS[kind]())
        except databases.MissingServerError as error:
            _do_without(error)
        yield url


def _do_without(error: databases.MissingServerError) -> NoReturn:
    # In CI a database that is not tested is a failure.
    if os.environ.get("CI"):
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


@pytest.fixture
def pooled_url(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[str]:
    """
    The database of ``postgresql_url``, through PgBouncer, which has a few connections to it.

    A parameter says its mode: ``transaction``, or ``session``, in which a client keeps one.
    """
    server, _, name = postgresql_url.rpartition("/")
    with ExitStack() as stack:
        try:
            mode = getattr(request, "param", "transaction")
            connections = 2 if mode == "transaction" else 4
            bouncer = databases.pgbouncer(server, connections=connections, mode=mode)
            url = stack.enter_context(bouncer)
        except databases.MissingServerError as error:
            _do_without(error)
        yield f"{url}/{name}"


@pytest.fixture(scope="session")
def postgresql_server(pytestconfig: pytest.Config) -> Iterator[str]:
    """The PostgreSQL server of this run; all workers share it."""
    with _server(pytestconfig, "postgresql") as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_server(pytestconfig: pytest.Config) -> Iterator[str]:
    """The MariaDB server of this run; all workers share it."""
    with _server(pytestconfig, "mariadb") as url:
        yield url


@pytest.fixture(scope="session")
def worker_name(pytestconfig: pytest.Config) -> str:
    """The name of this worker, which the names of its databases begin with."""
    return str(getattr(pytestconfig, "workerinput", {}).get("workerid", "test"))


@pytest.fixture(scope="session")
def _emptied(postgresql_server: str, worker_name: str) -> Iterator[EmptiedDatabases]:
    with closing(EmptiedDatabases(postgresql_server, f"{worker_name}_")) as emptied:
        yield emptied


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    """An empty SQLite file."""
    path = tmp_path / "test.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return path


@pytest.fixture
def postgresql_url(postgresql_server: str, _emptied: EmptiedDatabases) -> Iterator[str]:
    """An empty PostgreSQL database."""
    name = _emptied.take()
    yield f"{postgresql_server}/{name}"
    _emptied.give_back(name)


@pytest.fixture
def mysql_url(mariadb_server: str, worker_name: str) -> str:
    """An empty MariaDB database."""
    return _mysql_database(mariadb_server, f"{worker_name}_{next(_numbers)}")


@pytest.fixture(scope="session")
def _mariadb_alone(pytestconfig: pytest.Config) -> Iterator[str]:
    with _server(pytestconfig, "mariadb", alone=True) as url:
        yield url


@pytest.fixture
def mysql_url_alone(_mariadb_alone: str) -> str:
    """
    An empty database of a MariaDB server that no other test uses at the same time.

    A test may change the server, and puts back what it has changed.
    """
    return _mysql_database(_mariadb_alone, f"alone_{next(_numbers)}")


def _mysql_database(server: str, name: str) -> str:
    url = sa.make_url(server)
    with (
        closing(
            pymysql.connect(
                host=url.host or "",
                port=url.port or 0,
                user=url.username,
                password=url.password or "",
                ssl_disabled=True,
            )
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    return f"{server}/{name}"


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind in turn, as ``atomicbatch serve`` takes it."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
