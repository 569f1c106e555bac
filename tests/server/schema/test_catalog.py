"""The schema of what is served changes while it is served: answers follow it, or say no."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from atomicbatch.model import Batch
from atomicbatch.server.database.database import Database
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.http.serve import database_url as server_url
from atomicbatch.server.schema.catalog import Catalog
from tests.server.conftest import Serve
from tests.server.http.test_serve import running
from tests.server.rows.test_api import problem
from tests.server.served import Served, call, make_shop, on_its_own, seen


@pytest.fixture
def notes(database_url: str, serve: Serve) -> Served:
    """A table of notes with a row, served; both threads' connections have been used."""
    on_its_own(
        database_url,
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, txt VARCHAR(20), extra VARCHAR(20))",
        "INSERT INTO notes VALUES (1, 'one', 'x')",
    )
    served = serve(database_url)
    assert served.request("GET", "/v1/api/notes").json() == [{"id": 1, "txt": "one", "extra": "x"}]
    for _ in range(7):  # psycopg prepares a statement when it has seen it five times
        assert served.request("GET", "/v1/api/notes/1").is_success
        assert served.request("PATCH", "/v1/api/notes/1", {"txt": "one"}).is_success
    return served


def test_a_column_that_was_renamed_is_not_read_as_a_text(notes: Served) -> None:
    """The old name is refused wherever it can stand, and the new one is served."""
    on_its_own(notes.url, "ALTER TABLE notes RENAME COLUMN txt TO body")
    expected = {"id": 1, "body": "one", "extra": "x"}
    assert notes.request("GET", "/v1/api/notes/1").json() == expected
    for query in ("txt=eq.txt", "select=txt", "order=txt", "and=(txt.like.t*)"):
        refused = notes.request("GET", f"/v1/api/notes?{query}")
        assert "txt" in problem(refused, 400, "invalid-query")["detail"], query
        refused = notes.request("PATCH", f"/v1/api/notes?txt=eq.txt&{query}", {"extra": "y"})
        problem(refused, 400, "invalid-query")
    problem(notes.request("POST", "/v1/api/notes", {"txt": "n"}), 400, "unknown-column")
    problem(notes.request("DELETE", "/v1/api/notes?txt=neq.x"), 400, "invalid-query")
    assert notes.request("PATCH", "/v1/api/notes/1", {"body": "two"}).json()["body"] == "two"
    assert notes.rows("SELECT body, extra FROM notes") == [("two", "x")]


def test_every_kind_of_call_finds_out_first(notes: Served) -> None:
    """Whichever call comes first after a change runs with the new schema, in a batch too."""
    steps: list[tuple[str, str, str, Any, int]] = [
        ("ALTER TABLE notes RENAME COLUMN txt TO t1", "POST", "/v1/api/notes", {"t1": "a"}, 201),
        ("ALTER TABLE notes RENAME COLUMN t1 TO t2", "PATCH", "/v1/api/notes/1", {"t2": "b"}, 200),
        ("ALTER TABLE notes RENAME COLUMN t2 TO t3", "PUT", "/v1/api/notes/1", {"t3": "c"}, 200),
        ("ALTER TABLE notes RENAME COLUMN t3 TO t4", "GET", "/v1/api/notes?t4=eq.c", None, 200),
        ("ALTER TABLE notes ADD COLUMN t5 INTEGER", "PATCH", "/v1/api/notes/1", {"t5": 5}, 200),
        ("ALTER TABLE notes DROP COLUMN extra", "GET", "/v1/api/notes/1", None, 200),
        ("CREATE TABLE more (id INTEGER PRIMARY KEY)", "GET", "/v1/api/more", None, 200),
        ("ALTER TABLE notes RENAME TO notes2", "GET", "/v1/api/notes2/1", None, 200),
    ]
    for number, (change, method, target, body, status) in enumerate(steps):
        on_its_own(notes.url, change)
        body = {"id": 10 + number, **body} if method == "POST" else body
        response, replies = notes.batch(call(method, target, body))
        assert replies[0].status == status, (change, replies[0].body, response.headers)
    assert notes.rows("SELECT t4, t5 FROM notes2 WHERE id = 1") == [("c", 5)]
    assert notes.request("GET", "/v1/api/notes2/1").json() == {"id": 1, "t4": "c", "t5": 5}
    problem(notes.request("GET", "/v1/api/notes/1"), 404, "not-found")


def test_a_table_that_became_a_view_takes_no_rows(notes: Served) -> None:
    """A create is 405 at once, not a 201 for a row that is nowhere."""
    on_its_own(
        notes.url,
        "ALTER TABLE notes RENAME TO kept",
        "CREATE VIEW notes AS SELECT id, txt, extra FROM kept",
        *_SWALLOW[notes.kind],
    )
    answered = notes.request("POST", "/v1/api/notes", {"id": 2, "txt": "two"})
    if notes.kind == "mysql":  # whose views swallow nothing
        assert notes.rows("SELECT count(*) FROM kept") == [(1 + answered.is_success,)]
    else:
        problem(answered, 405, "method-not-allowed")
        assert notes.rows("SELECT count(*) FROM kept") == [(1,)]


_SWALLOW = {
    "sqlite": ["CREATE TRIGGER t INSTEAD OF INSERT ON notes BEGIN SELECT 1; END"],
    "postgresql": ["CREATE RULE r AS ON INSERT TO notes DO INSTEAD NOTHING"],
    "mysql": [],
}


def test_a_column_whose_type_changed_is_read_as_what_it_is(notes: Served) -> None:
    """Also where the driver has a prepared statement with the old type."""
    change = {
        "sqlite": "ALTER TABLE notes ADD COLUMN n INTEGER",
        "postgresql": "ALTER TABLE notes ALTER COLUMN extra TYPE integer USING 7",
        "mysql": "ALTER TABLE notes DROP COLUMN extra, ADD COLUMN extra INTEGER DEFAULT 7",
    }[notes.kind]
    on_its_own(notes.url, change)
    name = "n" if notes.kind == "sqlite" else "extra"
    assert notes.request("PATCH", "/v1/api/notes/1", {name: 8}).json()[name] == 8
    refused = notes.request("PATCH", "/v1/api/notes/1", {name: "eight"})
    problem(refused, 400, "wrong-type")


def test_the_page_and_the_document_follow(notes: Served) -> None:
    """What is told of the schema is told of the present one."""
    on_its_own(notes.url, "CREATE TABLE later (id INTEGER PRIMARY KEY, fresh VARCHAR(5))")
    assert "fresh" in notes.client.get("/").text
    on_its_own(notes.url, "CREATE TABLE latest (id INTEGER PRIMARY KEY)")
    assert "/v1/api/latest" in notes.client.get("/openapi.json").json()["paths"]
    on_its_own(notes.url, "DROP TABLE latest")
    listed = [resource["name"] for resource in notes.client.get("/v1/api").json()]
    assert listed == ["later", "notes"]


@pytest.mark.parametrize("hidden", [False, True], ids=["the table", "one behind a trigger"])
def test_a_table_that_cannot_roll_back_any_more_is_not_said_to_be_undone(
    mysql_url: str, serve: Serve, hidden: bool
) -> None:
    """Where an engine was changed meanwhile, a batch that fails says that something stays."""
    make_shop(mysql_url)
    on_its_own(
        mysql_url,
        "CREATE TABLE logs (id INTEGER AUTO_INCREMENT PRIMARY KEY, sku VARCHAR(20))",
        "CREATE TRIGGER logged AFTER INSERT ON items FOR EACH ROW"
        " INSERT INTO logs (sku) VALUES (new.sku)",
    )
    shop = serve(mysql_url)
    table, body = ("items", {"sku": "a", "name": "A"}) if hidden else ("logs", {"sku": "a"})
    calls = (call("POST", f"/v1/api/{table}", body), call("GET", "/v1/api/items/99"))
    undone, replies = shop.batch(*calls)
    assert (undone.headers["batch-outcome"], replies[0].status) == (
        "rolled-back; failed=2; status=404", 424,
    )  # fmt: skip
    on_its_own(mysql_url, "ALTER TABLE logs ENGINE = MyISAM")
    broken, replies = shop.batch(*calls)
    if shop.rows("SELECT count(*) FROM logs") == [(1,)]:
        assert broken.headers["batch-outcome"] == "rolled-back; failed=2; status=500"
        assert b"undone, unless it had been committed before that" in replies[0].body
        assert b"transaction-broken" in replies[1].body
        assert b"that change stays" in replies[1].body
    refused = shop.request("POST", "/v1/api/logs", {"sku": "b"})
    problem(refused, 405, "method-not-allowed")


def test_the_schema_changes_under_load(sqlite_path: Path, serve: Serve) -> None:
    """While columns come and go, no answer ever shows a column's name as its value."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(
        url, "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)", "INSERT INTO t VALUES (1,'v')"
    )
    served = serve(url)
    stop = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        with httpx.Client(base_url=served.address) as client:
            while not stop.is_set():
                response = client.get("/v1/api/t/1")
                values = list(response.json().values())
                if response.status_code != 200 or values != [1, "v"]:
                    wrong.append(response.text)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    with closing(sqlite3.connect(sqlite_path, timeout=20)) as own:
        for old, new in [("a", "b"), ("b", "a")] * 20:
            own.execute(f"ALTER TABLE t RENAME COLUMN {old} TO {new}")
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_a_request_outlasts_many_changes(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the schema changes while it is read again, the request waits for an end."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    database = Database(server_url(url))
    changes = iter(range(20))
    read_again = Catalog.read_again

    def change_meanwhile(catalog: Catalog) -> None:
        read_again(catalog)
        if (number := next(changes, None)) is not None:
            on_its_own(url, f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY)")

    monkeypatch.setattr(Catalog, "read_again", change_meanwhile)
    on_its_own(url, "CREATE TABLE first_of_all (id INTEGER PRIMARY KEY)")

    def tables(session: Session) -> int:
        with session.begin(Batch(()), deadline=0) as begun:
            return len(begun.schema.tables)

    found = asyncio.run(database.run(tables, read_only=True, seconds=30))
    database.close()
    assert found == 22


def _other_shop(path: Path) -> Path:
    """Another database file, with other columns and rows, in the same folder."""
    other = path.with_name("other.sqlite")
    other.touch()
    on_its_own(
        f"sqlite:///{other}",
        "CREATE TABLE items (id INTEGER PRIMARY KEY, label TEXT)",
        "INSERT INTO items VALUES (1, 'restored')",
    )
    return other


@pytest.mark.parametrize("tidy", [False, True], ids=["log left behind", "log removed"])
def test_a_file_that_is_replaced_is_served_from_then_on(
    sqlite_path: Path, serve: Serve, tidy: bool
) -> None:
    """Readers and the writer go over to the new file, and the old log spoils nothing."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    shop = serve(url)
    for _ in range(3):
        assert shop.request("GET", "/v1/api/items/1").json()["sku"] == "tea"
        assert shop.request("PATCH", "/v1/api/items/1", {"stock": 4}).is_success
    other = _other_shop(sqlite_path)
    shutil.copy2(other, sqlite_path.with_name("untouched.sqlite"))
    os.link(sqlite_path, sqlite_path.with_name("old.sqlite"))
    if tidy:
        for suffix in ("-wal", "-shm"):
            sqlite_path.with_name(sqlite_path.name + suffix).unlink()
    other.replace(sqlite_path)
    created = shop.request("POST", "/v1/api/items", {"label": "new"})
    assert (created.status_code, created.json()) == (201, {"id": 2, "label": "new"})
    assert shop.request("GET", "/v1/api/items/1").json() == {"id": 1, "label": "restored"}
    assert shop.rows("SELECT * FROM items ORDER BY id") == [(1, "restored"), (2, "new")]
    assert shop.rows("PRAGMA integrity_check") == [("ok",)]
    if not tidy:
        old = f"sqlite:///{sqlite_path.with_name('old.sqlite')}"
        assert seen(old, "SELECT stock FROM items WHERE id = 1") == [(4,)], "the old file is whole"


def test_a_file_that_is_gone_is_not_made_anew(sqlite_path: Path, serve: Serve) -> None:
    """Without its file the server says 503 and makes none; when it is back, all goes on."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    shop = serve(url)
    assert shop.request("PATCH", "/v1/api/items/1", {"stock": 4}).is_success
    away = sqlite_path.with_name("away.sqlite")
    sqlite_path.rename(away)
    problem(shop.request("PATCH", "/v1/api/items/1", {"stock": 5}), 503, "database-busy")
    problem(shop.request("GET", "/v1/api/items/1"), 503, "database-busy")
    assert not sqlite_path.exists()
    away.rename(sqlite_path)
    assert shop.request("PATCH", "/v1/api/items/1", {"stock": 6}).json()["stock"] == 6
    assert shop.request("GET", "/v1/api/items/1").json()["stock"] == 6
    assert shop.rows("SELECT stock FROM items WHERE id = 1") == [(6,)]


@pytest.mark.slow
def test_worker_processes_go_over_by_themselves(sqlite_path: Path) -> None:
    """Each process sees a new schema and a new file, without being told."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    with running(url, "--port", "0", "--workers", "2") as (_, address):
        for _ in range(20):
            assert httpx.get(f"{address}/v1/api/items/1").json()["sku"] == "tea"
            assert httpx.patch(f"{address}/v1/api/items/1", json={"stock": 3}).is_success
        on_its_own(url, "ALTER TABLE items RENAME COLUMN sku TO code")
        for _ in range(20):
            assert httpx.get(f"{address}/v1/api/items/1").json()["code"] == "tea"
        _other_shop(sqlite_path).replace(sqlite_path)
        for number in range(20):
            created = httpx.post(f"{address}/v1/api/items", json={"label": f"n{number}"})
            assert created.json() == {"id": number + 2, "label": f"n{number}"}
            assert httpx.get(f"{address}{created.headers['location']}").json() == created.json()
    assert seen(url, "SELECT count(*) FROM items") == [(21,)]
    assert seen(url, "PRAGMA integrity_check") == [("ok",)]
