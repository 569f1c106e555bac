"""Why a server could not be connected to, as each driver tells it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import psycopg2
import pymysql
import pytest
from sqlalchemy.exc import DBAPIError

from atomicbatch.drivers.openings import opening, reason_of
from atomicbatch.errors import BusyError, NotBatchableError
from tests.databases import free_port

FULL = "the server allows no more connections"
FORBIDDEN = "the server does not let it log in"
NOBODY = "no server answers at its address"


def by_asyncpg(url: str) -> None:
    asyncio.run(asyncpg.connect(url))


def by_pymysql(url: str) -> None:
    parts = urlsplit(url)
    user, password = parts.username, parts.password or ""
    pymysql.connect(host=parts.hostname, port=parts.port or 0, user=user, password=password)


DRIVERS: dict[str, Callable[[str], Any]] = {
    "psycopg": psycopg.connect,
    "psycopg2": psycopg2.connect,
    "asyncpg": by_asyncpg,
    "pymysql": by_pymysql,
}
OF_POSTGRESQL = tuple(DRIVERS)[:3]


def failed(driver: str, url: str) -> Exception:
    with pytest.raises(Exception, match=r".") as caught:
        DRIVERS[driver](url)
    error: Exception = caught.value
    return error


@pytest.fixture
def forbidden(postgresql_url: str, worker_name: str) -> Iterator[Callable[[str], str]]:
    """Make an URL whose role is what is said."""
    role = f"barred_{worker_name}"
    with psycopg.connect(postgresql_url, autocommit=True) as connection:

        def make(what: str) -> str:
            connection.execute(f"CREATE ROLE {role} {what}")
            return postgresql_url.replace("postgres@", f"{role}@")

        yield make
        connection.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("what", "reason"), [("NOLOGIN", FORBIDDEN), ("LOGIN CONNECTION LIMIT 0", FULL)]
)
def test_a_role_that_may_not_connect(
    what: str, reason: str, forbidden: Callable[[str], str]
) -> None:
    url = forbidden(what)
    for driver in OF_POSTGRESQL:
        error = failed(driver, url)
        assert reason_of(error).startswith(f"{reason} ({type(error).__name__}")


@pytest.mark.parametrize("driver", DRIVERS)
def test_nobody_is_there(driver: str) -> None:
    scheme = "mysql" if driver == "pymysql" else "postgresql"
    error = failed(driver, f"{scheme}://u@127.0.0.1:{free_port()}/nothing")
    assert reason_of(error).startswith(f"{NOBODY} (")


def test_a_wrong_password(mysql_url: str) -> None:
    error = failed("pymysql", mysql_url.replace("secret", "wrong"))
    assert reason_of(error) == f"{FORBIDDEN} (OperationalError 1045)"


def test_the_reason_is_seen_through_sqlalchemys_errors() -> None:
    error = DBAPIError("SELECT", {}, pymysql.OperationalError(1040, "Too many connections"))
    assert reason_of(error) == f"{FULL} (OperationalError 1040)"


def test_anything_else_is_named_by_its_kind() -> None:
    """The text may have a password in it."""
    assert reason_of(psycopg.OperationalError('role "secret" is odd')) == "OperationalError"
    assert reason_of(TimeoutError()) == "the server did not answer in time (TimeoutError)"
    assert reason_of(ValueError("secret")) == "ValueError"


def test_a_connection_that_cannot_be_opened_is_no_conflict() -> None:
    """A conflict runs the batch again, at once; nothing has been begun that could be lost."""
    told = r"could not be opened within 0\.\d\d seconds: no server"
    with pytest.raises(BusyError, match=told), opening():
        raise ConnectionRefusedError
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorname = "SQLITE_BUSY"
    for passed in (NotBatchableError("no such database"), busy):
        with pytest.raises(type(passed)) as caught, opening():
            raise passed
        assert caught.value is passed
