"""The batch's own connection is opened as the app's: by TLS, and through PgBouncer."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest

from tests import databases
from tests.certificates import Authority
from tests.doors.in_batches import batch_of, run_batch
from tests.endpoints.asking import Answer

PASSWORD = "of the key"  # of a key that is made for the test
WHO = "SELECT session_user || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
INSERT = "INSERT INTO t VALUES (1)"


def _rows(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute("SELECT n FROM t")]


def _by_sync(connect: Callable[[], Any], query: str, *, fails: bool = False) -> Answer:
    """A batch of two calls by one connection of the app's."""
    with closing(connect()) as connection:
        connection.autocommit = True
        cursor = connection.cursor()

        def insert() -> None:
            cursor.execute(INSERT)

        def ask() -> Any:
            cursor.execute(query)
            if fails:
                raise RuntimeError
            return cursor.fetchone()[0]

        return run_batch(insert, ask)


def _by_asyncpg(connect: Callable[[], Any], query: str, *, fails: bool = False) -> Answer:
    async def go() -> Answer:
        connection = await connect()

        async def insert() -> None:
            await connection.execute(INSERT)

        async def ask() -> Any:
            if fails:
                raise RuntimeError
            return await connection.fetchval(query)

        try:
            return await batch_of(insert, ask)
        finally:
            await connection.close()

    return asyncio.run(go())


# TLS --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server that lets in whoever has a certificate; and the folder that they are in."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    authority.issue("clerk", password=PASSWORD)
    authority.issue("plain")
    certificate, key = authority.issue("server")

    def prepare(data: Path) -> list[str]:
        owner = data.stat()
        for path in (certificate, key, authority.certificate):
            target = data / path.name
            shutil.copy(path, target)
            target.chmod(0o600)
            os.chown(target, owner.st_uid, owner.st_gid)
        hba = "local all all trust\nhost all postgres all trust\nhostssl all all all cert\n"
        (data / "pg_hba.conf").write_text(hba)
        names = {"cert": certificate, "key": key, "ca": authority.certificate}
        return ["ssl=on", *(f"ssl_{name}_file={path.name}" for name, path in names.items())]

    with databases.postgresql(prepare=prepare) as server:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            for role in ("clerk", "plain"):
                connection.execute(f"CREATE ROLE {role} LOGIN")
            connection.execute("CREATE TABLE t (n int)")
            connection.execute("GRANT ALL ON t TO public")
        yield f"{server}/postgres", folder


def _dsn(url: str, folder: Path) -> str:
    given = f"sslcert={folder}/clerk.crt&sslkey={folder}/clerk.key&sslpassword={PASSWORD}"
    given = given.replace(" ", "%20")
    verified = f"sslmode=verify-full&sslrootcert={folder}/authority.crt"
    return f"{url.replace('postgres@', 'clerk@')}?{verified}&{given}"


def _context(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "authority.crt"))
    context.load_cert_chain(folder / "clerk.crt", folder / "clerk.key", PASSWORD)
    return context


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "asyncpg-dsn"])
def test_the_wire_has_the_apps_certificates(driver: str, secured: tuple[str, Path]) -> None:
    url, folder = secured
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE t")
    dsn = _dsn(url, folder)
    if driver == "asyncpg":
        plain = url.replace("postgres@", "clerk@")
        answer = _by_asyncpg(lambda: asyncpg.connect(plain, ssl=_context(folder)), WHO)
    elif driver == "asyncpg-dsn":
        answer = _by_asyncpg(lambda: asyncpg.connect(dsn), WHO)
    else:
        module: Any = psycopg if driver == "psycopg" else psycopg2
        answer = _by_sync(lambda: module.connect(dsn), WHO)
    assert (answer.outcome, answer.replies[1].body) == ("committed", b'"clerk true"')
    assert _rows(url) == [1]


# PgBouncer ----------------------------------------------------------------------------------------


MODES = pytest.mark.parametrize("pooled_url", ["session", "transaction"], indirect=True)


@MODES
def test_a_batch_through_pgbouncer(pooled_url: str, postgresql_url: str) -> None:
    """It is stored, or all of it is undone."""
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("CREATE TABLE t (n int)")
    ways: dict[str, tuple[Any, Callable[[], Any]]] = {
        "psycopg": (_by_sync, lambda: psycopg.connect(pooled_url, prepare_threshold=None)),
        "psycopg2": (_by_sync, lambda: psycopg2.connect(pooled_url)),
        "asyncpg": (_by_asyncpg, lambda: asyncpg.connect(pooled_url, statement_cache_size=0)),
    }
    for number, (name, (run, connect)) in enumerate(ways.items(), 1):
        assert run(connect, "SELECT count(*) FROM t").outcome == "committed", name
        assert run(connect, "SELECT 1", fails=True).outcome.startswith("rolled-back"), name
        assert _rows(postgresql_url) == [1] * number, name


@MODES
def test_a_database_is_the_same_through_pgbouncer(pooled_url: str, postgresql_url: str) -> None:
    """Two connections share the batch's transaction, one of which goes past it."""
    urls = pooled_url, postgresql_url
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("CREATE TABLE t (n int)")
    connections = [psycopg.connect(url, autocommit=True, prepare_threshold=None) for url in urls]
    one, other = connections

    def insert() -> None:
        one.execute(INSERT)

    def ask() -> Any:
        return [number for (number,) in other.execute("SELECT n FROM t")]

    try:
        answer = run_batch(insert, ask)
    finally:
        for connection in connections:
            connection.close()
    assert (answer.outcome, answer.replies[1].body) == ("committed", b"[1]")
