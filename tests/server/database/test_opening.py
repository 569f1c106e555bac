"""Starting: whatever cannot be served is told in one line that says what to do, and status 2."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pymysql
import pytest
import sqlalchemy as sa

from tests.cli.running import run
from tests.server.processes import serving
from tests.server.served import make_shop, on_its_own

pytestmark = pytest.mark.slow


def as_anybody() -> None:
    """Root without the right to pass by permissions (capabilities 1 and 2): as other users are."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


ANYBODY = as_anybody if os.geteuid() == 0 else None


def mistake(*arguments: str, preexec: Callable[[], None] | None = None) -> str:
    """Start a server that cannot be; the one line that it says."""
    serve = ["serve", "--port", "0", *arguments]
    if preexec is None:
        status, printed, told = run(*serve)
    else:
        done = subprocess.run(
            [sys.executable, "-m", "atomicbatch", *serve],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=preexec,
        )
        status, printed, told = done.returncode, done.stdout, done.stderr
    assert (status, printed) == (2, ""), told
    lines = [line for line in told.splitlines() if not line.startswith(("Usage:", "Try "))]
    assert len([line for line in lines if line]) == 1, told
    return told


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The shop as a file that is not in WAL mode, in a folder of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "shop.sqlite"
    make_shop_at(path)
    return path


def make_shop_at(path: Path) -> None:
    sqlite3.connect(path).close()
    path.touch()
    make_shop(f"sqlite:///{path}")


def test_what_is_no_database_file(tmp_path: Path) -> None:
    """A directory, a pipe, nothing, text, an encrypted or a damaged file: each is told apart."""
    assert f"{tmp_path} is a directory" in mistake(str(tmp_path))
    assert "there is no file" in mistake(str(tmp_path / "none"))
    assert "there is no file" in mistake(f"sqlite:///{tmp_path}/none")
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in mistake(str(tmp_path / "pipe"))
    for content in (b"text", os.urandom(8192)):
        (tmp_path / "other").write_bytes(content)
        assert "is not an SQLite database, or it is encrypted" in mistake(str(tmp_path / "other"))
    make_shop_at(tmp_path / "damaged")
    sound = (tmp_path / "damaged").read_bytes()
    (tmp_path / "damaged").write_bytes(sound[:100] + os.urandom(len(sound) - 100))
    assert "is damaged" in mistake(str(tmp_path / "damaged"))
    assert "No" in mistake("x" * 300) or "File name too long" in mistake("x" * 300)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot read" in mistake(str(tmp_path / "loop"))
    assert "takes no options" in mistake(f"sqlite:///{tmp_path}/damaged?mode=ro")


def test_an_unreadable_file(shop: Path) -> None:
    """No permission for the file, or for its folder."""
    shop.chmod(0)
    told = mistake(str(shop), preexec=ANYBODY)
    assert f"cannot read {shop}: Permission denied" in told
    shop.chmod(0o644)
    shop.parent.chmod(0)
    try:
        assert f"cannot read {shop}: Permission denied" in mistake(str(shop), preexec=ANYBODY)
    finally:
        shop.parent.chmod(0o755)


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("what", ["file", "folder", "both"])
def test_a_database_that_cannot_be_written(shop: Path, what: str, wal: bool) -> None:
    """It is told at start, with --read-only as the way out; and that serves it, or says why not."""
    if wal:
        with contextlib.closing(sqlite3.connect(shop)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    if what != "folder":
        shop.chmod(0o444)
    if what != "file":
        shop.parent.chmod(0o555)
    try:
        told = mistake(str(shop), preexec=ANYBODY)
        culprit = shop.parent if what == "folder" else shop
        assert f"{culprit} cannot be written" in told
        assert "--read-only" in told
        if wal and what != "file":
            told = mistake(str(shop), "--read-only", preexec=ANYBODY)
            assert "WAL mode" in told
            assert "journal_mode=DELETE" in told
            return
        with serving(
            str(shop), "--read-only", folder=shop.parent.parent, preexec_fn=ANYBODY
        ) as process:
            assert httpx.get(f"{process.address}/v1/api/items/1").status_code == 200
            written = httpx.post(f"{process.address}/v1/api/items", json={"sku": "a", "name": "a"})
            assert written.status_code == 405
    finally:
        shop.parent.chmod(0o755)


def test_a_locked_file(shop: Path) -> None:
    """Another program that does not let go is named as the reason."""
    with contextlib.closing(sqlite3.connect(shop, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "is locked by another program" in mistake(str(shop))


def test_an_empty_database_is_told(tmp_path: Path, postgresql_url: str) -> None:
    """It is served, since tables can be made later, with a note for those who expected some."""
    path = tmp_path / "empty.sqlite"
    path.touch()
    for database in (str(path), postgresql_url):
        with serving(database, folder=tmp_path) as process:
            assert httpx.get(f"{process.address}/").status_code == 200
            assert "has no tables" in process.log()


def test_names_of_files_are_taken_as_they_are(tmp_path: Path) -> None:
    """Characters that mean something in URLs mean nothing in file names."""
    path = tmp_path / "a%20b?c=d#e@f:g.sqlite"
    make = sqlite3.connect(path)
    make.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    make.close()
    with serving(str(path), folder=tmp_path) as process:
        assert httpx.get(f"{process.address}/v1/api/t").json() == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "mysql://root@127.0.0.1:1",
            "the URL names no database: write mysql://root@127.0.0.1:1/NAME",
        ),
        ("mariadb://root@127.0.0.1:1/", "the URL names no database"),
        ("mysql://root:secret@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://root:secret@127.0.0.1:1/x", "refused"),
        ("mysql://root:secret@no-such-host.invalid/x", "no-such-host.invalid"),
        ("postgresql://root:secret@no-such-host.invalid/x", "no-such-host.invalid"),
        ("postgresql://root:secret@127.0.0.1:1/x?nonsense=1", "nonsense"),
        ("mysql://root:secret@127.0.0.1:1/x?nonsense=1", "option 'nonsense' is not known"),
        ("mysql://root:secret@127.0.0.1:99999/x", "cannot open"),
        ("postgresql://root:secret@127.0.0.1:99999/x", "cannot open"),
        ("postgresql://root:secret@127.0.0.1:x/x", "neither a file name nor a database URL"),
        ("redis://127.0.0.1/0", "not served: use SQLite, PostgreSQL or MariaDB"),
        ("postgresql:/shop", "there is no file postgresql:/shop"),
        ("sqlite:///", "in-memory"),
    ],
)
def test_urls_that_lead_nowhere(url: str, told: str) -> None:
    """One line, without the password."""
    line = mistake(url)
    assert told in line
    assert "secret" not in line


def test_a_database_that_is_not_there_or_not_ours(postgresql_server: str, mysql_url: str) -> None:
    """The database server says no: its own words, in one line."""
    assert 'database "nowhere" does not exist' in mistake(f"{postgresql_server}/nowhere")
    assert 'role "nobody2" does not exist' in mistake(
        postgresql_server.replace("postgres@", "nobody2:secret@") + "/postgres"
    )
    url = sa.make_url(mysql_url)
    root = url.set(database="nowhere")
    assert "Unknown database 'nowhere'" in mistake(root.render_as_string(False))
    on_its_own(mysql_url, "CREATE OR REPLACE USER shy IDENTIFIED BY 'right'")
    wrong = url.set(username="shy", password="wrong").render_as_string(hide_password=False)
    line = mistake(wrong)
    assert "Access denied for user 'shy'" in line
    assert "wrong" not in line


@pytest.fixture
def taken() -> Iterator[int]:
    """A port in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_addresses_that_cannot_be_had(shop: Path, taken: int) -> None:
    """A port in use, a host that is not ours, names that are none."""
    line = mistake(str(shop), "--port", str(taken))
    assert f"port {taken}: it is in use; choose another one with --port" in line
    everywhere = ("--allow-anonymous", "--host")
    assert "Cannot assign" in mistake(str(shop), *everywhere, "192.0.2.1")
    assert "cannot listen" in mistake(str(shop), *everywhere, "no-such-host.invalid")
    assert "cannot listen" in mistake(str(shop), *everywhere, "a..b")
    assert "is not a host" in mistake(str(shop), "--allowed-host", "http://x")
    line = mistake(str(shop), "--limit", "max_body_bytes=999999999")
    assert "max_upload_bytes must be at least max_body_bytes" in line


def test_a_database_server_that_takes_no_writes(mysql_url_alone: str, tmp_path: Path) -> None:
    """It may become a primary while it is served: a note, no refusal."""
    make_shop(mysql_url_alone)
    parsed = sa.make_url(mysql_url_alone)
    with contextlib.closing(
        pymysql.connect(
            host=parsed.host or "",
            port=parsed.port or 0,
            user=parsed.username,
            password=parsed.password or "",
        )
    ) as connection:
        cursor = connection.cursor()
        cursor.execute("SET GLOBAL read_only = 1")
        try:
            with serving(mysql_url_alone, folder=tmp_path) as process:
                assert httpx.get(f"{process.address}/v1/api/items/1").status_code == 200
                assert "takes no writes now" in process.log()
                assert "--read-only" in process.log()
        finally:
            cursor.execute("SET GLOBAL read_only = 0")
