"""Databases are told apart by where they are, however that is written; names are no places."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomicbatch.guard.places import Allowed, of_file, of_server, of_url
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("postgresql://u:p@LOCALHOST/shop", "postgresql+asyncpg://v@127.0.0.1:5432/shop"),
        ("postgres://[::1]/shop", "postgresql:///shop?host=/var/run/postgresql"),
        ("mysql://db.example/shop", "mariadb+aiomysql://u@db.example:3306/shop"),
        ("sqlite:////tmp/a/../b.db", "sqlite+aiosqlite:////tmp/b.db?timeout=3"),
        ("postgresql://me@localhost", "postgresql://localhost/me"),
    ],
)
def test_one_database_by_two_urls(url: str, same: str) -> None:
    """Drivers, users, passwords, default ports and names of this machine make no difference."""
    assert of_url(url) == of_url(same)


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("postgresql://localhost/shop", "postgresql://localhost/other"),
        ("postgresql://localhost/shop", "postgresql://localhost:5433/shop"),
        ("postgresql://localhost/shop", "postgresql://db.example/shop"),
        ("postgresql://localhost:3306/shop", "mysql://localhost/shop"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/b.db"),
    ],
)
def test_two_databases(url: str, other: str) -> None:
    """Host, port, database and kind do."""
    assert of_url(url) != of_url(other)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are the same by any path that leads to them."""
    file = tmp_path / "a b.db"
    file.touch()
    (tmp_path / "link.db").symlink_to(file)
    monkeypatch.chdir(tmp_path)
    ways = [
        str(file),
        bytes(file),
        file,
        "a b.db",
        "./a b.db",
        "link.db",
        f"file:{tmp_path}/a%20b.db?mode=rw",
        f"file://{tmp_path}/a%20b.db",
    ]
    assert {of_file(way) for way in ways} == {of_file(file)}
    monkeypatch.chdir("/")
    assert of_file("a b.db", str(tmp_path)) == of_file(file)
    assert {of_file(name).database for name in ("", ":memory:", "file:x?mode=memory")} == {""}


def test_what_is_allowed() -> None:
    """Files, databases and libraries are told apart by how they are written."""
    allowed = Allowed(
        [
            Path("cache"),
            "log.db",
            "mysql://db/shop",
            "host=/run/postgresql dbname='audit log'",
            "Peewee",
            object(),
        ]
    )
    assert allowed.libraries == {"peewee"}
    assert allowed.allows((), of_file("./cache"))
    assert allowed.allows((), of_file("log.db"))
    assert allowed.allows((), of_server("mysql", "db", None, b"shop"))
    assert allowed.allows((), of_server("postgresql", b"127.0.0.1", "5432", "audit log"))
    assert allowed.allows(("sqlite3", "peewee"), None)
    assert not allowed.allows(("sqlite3",), None)
    assert not allowed.allows(("sqlite3",), of_file("peewee"))
    assert not Allowed().allows((), of_file(""))
    with pytest.raises(TypeError, match=r"\('peewee',\)"):
        SQLAlchemyTransaction(outside="peewee")
    with pytest.raises(ValueError, match="redis://"):
        SQLAlchemyTransaction(outside=["redis://localhost"])
    with pytest.raises(ValueError, match="redis://"):
        Allowed(["redis://localhost"])
