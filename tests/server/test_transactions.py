"""Batches against each database: all or nothing, serializable, and told as they are."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from atomicbatch.engine import execute
from atomicbatch.limits import Limits
from atomicbatch.model import Batch, Call, Reply
from atomicbatch.server.database.backends import backend_for
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.database.sqlite import SQLiteBackend
from atomicbatch.server.http.serve import database_url as server_url
from tests.server.conftest import Serve
from tests.server.served import Served, call, kind_of, make_shop, on_its_own


def item(sku: str, **columns: Any) -> dict[str, Any]:
    return {"sku": sku, "name": sku, **columns}


def test_a_batch_commits_whole_and_in_order(shop: Served) -> None:
    """Every call sees what the calls before it did, and all of it is stored."""
    response, replies = shop.batch(
        call("POST", "/v1/api/items", item("jam", id=10)),
        call("PATCH", "/v1/api/items/10", {"stock": 5}),
        call("POST", "/v1/api/order_lines", {"order_no": 1, "line_no": 1, "item_id": 10}),
        call("GET", "/v1/api/items?sku=eq.jam"),
        call("DELETE", "/v1/api/items/3"),
    )
    assert response.status_code == 200
    assert response.headers["batch-outcome"] == "committed"
    assert [reply.status for reply in replies] == [201, 200, 201, 200, 204]
    assert b'"stock":5' in replies[3].body
    assert shop.rows("SELECT id FROM items ORDER BY id") == [(1,), (2,), (10,)]
    assert shop.rows("SELECT item_id FROM order_lines") == [(10,)]


def test_a_failing_call_leaves_nothing_behind(shop: Served) -> None:
    """After a failure in the middle the tables are as they were, and each part says why."""
    before = shop.rows("SELECT * FROM items ORDER BY id")
    response, replies = shop.batch(
        call("POST", "/v1/api/items", item("jam")),
        call("PATCH", "/v1/api/items/1", {"stock": 0}),
        call("POST", "/v1/api/items", item("tea")),
        call("DELETE", "/v1/api/items/2"),
    )
    assert response.status_code == 200
    assert response.headers["batch-outcome"] == "rolled-back; failed=3; status=409"
    assert [reply.status for reply in replies] == [424, 424, 409, 424]
    assert json.loads(replies[1].body)["detail"].endswith("409): what this call did is undone")
    assert shop.rows("SELECT * FROM items ORDER BY id") == before


@pytest.mark.parametrize(
    "failing",
    [
        ("GET", "/v1/api/items/99", None),
        ("GET", "/nowhere", None),
        ("POST", "/v1/api/items", {"stock": "x"}),
        ("POST", "/v1/api/items", {"sku": "x", "name": "x", "stock": -1}),
        ("PATCH", "/v1/api/items", {"stock": 1}),
        ("POST", "/v1/api/item_names", {"id": 1}),
        ("BREW", "/v1/api/items", None),
    ],
)
def test_any_kind_of_failure_rolls_back(
    shop: Served, failing: tuple[str, str, dict[str, Any] | None]
) -> None:
    """Whatever makes a call fail, earlier and later calls leave no trace."""
    response, replies = shop.batch(
        call("POST", "/v1/api/items", item("before")),
        call(*failing),
        call("POST", "/v1/api/items", item("after")),
    )
    assert response.headers["batch-outcome"].startswith("rolled-back; failed=2; status=4")
    assert [replies[0].status, replies[2].status] == [424, 424]
    assert shop.rows("SELECT count(*) FROM items") == [(3,)]
    assert shop.request("POST", "/v1/api/items", item("next")).status_code == 201


def deferred(url: str) -> None:
    on_its_own(
        url,
        "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL"
        " REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_deferred_constraint_fails_the_whole_batch(
    kind: str, request: pytest.FixtureRequest, serve: Serve
) -> None:
    """COMMIT is refused after all calls have succeeded: nothing is stored, and no 2xx is shown."""
    name = "sqlite_path" if kind == "sqlite" else "postgresql_url"
    value = request.getfixturevalue(name)
    url = f"sqlite:///{value}" if kind == "sqlite" else value
    deferred(url)
    served = serve(url)
    response, replies = served.batch(
        call("POST", "/v1/api/children", {"id": 1, "parent": 5}),
        call("POST", "/v1/api/children", {"id": 2, "parent": 6}),
    )
    assert response.headers["batch-outcome"] == "rolled-back; failed=commit; status=409"
    assert [reply.status for reply in replies] == [424, 424]
    assert served.rows("SELECT * FROM children") == []
    plain = served.request("POST", "/v1/api/children", {"id": 1, "parent": 5})
    assert plain.status_code == 409
    _, replies = served.batch(
        call("POST", "/v1/api/children", {"id": 1, "parent": 5}),
        call("POST", "/v1/api/parents", {"id": 5}),
    )
    assert [reply.status for reply in replies] == [201, 201]
    assert served.rows("SELECT * FROM children") == [(1, 5)]


def test_a_trigger_that_ends_the_transaction_is_found_out(sqlite_path: Path, serve: Serve) -> None:
    """RAISE(ROLLBACK) ends SQLite's transaction by itself; nothing of the batch is kept."""
    url = f"sqlite:///{sqlite_path}"
    on_its_own(
        url,
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, txt TEXT UNIQUE ON CONFLICT ROLLBACK)",
        "INSERT INTO notes VALUES (1, 'a')",
    )
    served = serve(url)
    response, _ = served.batch(
        call("POST", "/v1/api/notes", {"txt": "b"}),
        call("POST", "/v1/api/notes", {"txt": "a"}),
        call("POST", "/v1/api/notes", {"txt": "c"}),
    )
    assert response.headers["batch-outcome"] == "rolled-back; failed=2; status=409"
    assert served.rows("SELECT txt FROM notes") == [("a",)]
    assert served.request("POST", "/v1/api/notes", {"txt": "d"}).status_code == 201


def in_parallel(*tasks: Callable[[], Any]) -> list[Any]:
    """Run tasks at the same time, as near as a barrier can bring them."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        barrier.wait(10)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(run, task) for task in tasks]]


@pytest.mark.slow
def test_no_update_is_lost(shop: Served) -> None:
    """Read, compute, write under If-Match from many clients: every acknowledged step counts."""
    done = []

    def step() -> None:
        for _ in range(5):
            while True:
                read = shop.request("GET", "/v1/api/items/1")
                stock = read.json()["stock"] + 1
                response, replies = shop.batch(
                    call(
                        "PATCH",
                        "/v1/api/items/1",
                        {"stock": stock},
                        [(b"if-match", read.headers["etag"].encode())],
                    ),
                    call("PATCH", "/v1/api/items/2", {"note": str(stock)}),
                )
                if response.headers["batch-outcome"] == "committed":
                    done.append(1)
                    break
                assert {reply.status for reply in replies} <= {412, 424, 503}

    in_parallel(*[step] * 6)
    assert shop.rows("SELECT stock FROM items WHERE id = 1") == [(10 + len(done),)]
    assert len(done) == 30


@pytest.mark.parametrize("name", ["postgresql_url", "mysql_url"])
def test_a_conflict_runs_the_whole_batch_again(
    name: str, request: pytest.FixtureRequest, serve: Serve
) -> None:
    """Two batches that lock two rows in opposite order both commit, one of them on a later try."""
    url = request.getfixturevalue(name)
    make_shop(url)
    shop = serve(url)
    attempts = set()
    for turn in range(30):
        one = [call("PATCH", f"/v1/api/items/{n}", {"stock": turn}) for n in (1, 2)]
        two = [call("PATCH", f"/v1/api/items/{n}", {"stock": turn}) for n in (2, 1)]
        answers = in_parallel(*[lambda calls=calls: shop.batch(*calls) for calls in (one, two)])
        for response, _ in answers:
            assert response.headers["batch-outcome"] == "committed"
            attempts.add(int(response.headers.get("batch-attempts", "1")))
        if max(attempts) > 1:
            break
    assert max(attempts) > 1, "no conflict came about"


def test_readers_are_not_blocked_by_a_writer(sqlite_path: Path, serve: Serve) -> None:
    """While another program holds the write lock, reads are answered and see what is committed."""
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    shop = serve(url)
    writer = sqlite3.connect(sqlite_path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE items SET stock = 0")
    response, replies = shop.batch(
        call("GET", "/v1/api/items/1"), call("HEAD", "/v1/api/items"), timeout="1"
    )
    assert response.headers["batch-outcome"] == "committed"
    assert b'"stock":10' in replies[0].body
    assert shop.request("GET", "/v1/api/items/1").json()["stock"] == 10
    writer.execute("ROLLBACK")
    writer.close()


@pytest.mark.slow
def test_a_busy_database_is_503(
    sqlite_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write lock that another program keeps is told as busy, with Retry-After."""
    monkeypatch.setattr(SQLiteBackend, "busy_seconds", 0.2)
    url = f"sqlite:///{sqlite_path}"
    make_shop(url)
    shop = serve(url)
    writer = sqlite3.connect(sqlite_path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    plain = shop.request("POST", "/v1/api/items", item("jam"))
    assert plain.status_code == 503
    assert plain.json()["type"] == "urn:atomicbatch:problem:database-busy"
    assert plain.headers["retry-after"] == "1"
    response, _ = shop.batch(call("POST", "/v1/api/items", item("jam")))
    assert response.headers["batch-outcome"] == "not-started"
    assert response.status_code == 503
    writer.execute("ROLLBACK")
    writer.close()
    assert shop.request("POST", "/v1/api/items", item("jam")).status_code == 201


SLOW = {
    "sqlite": "CREATE VIEW slow AS WITH RECURSIVE n(i) AS"
    " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000000) SELECT count(*) AS c FROM n",
    "postgresql": "CREATE VIEW slow AS SELECT pg_sleep(60)::text AS c",
    "mysql": "CREATE VIEW slow AS SELECT SLEEP(60) AS c",
}


@pytest.mark.slow
def test_a_batch_that_takes_too_long_is_stopped(database_url: str, serve: Serve) -> None:
    """The time limit ends the running statement; the batch is rolled back, the server goes on."""
    make_shop(database_url)
    on_its_own(database_url, SLOW[kind_of(database_url)])
    shop = serve(database_url, limits=Limits(timeout_seconds=1.0))
    start = time.monotonic()
    response, replies = shop.batch(
        call("POST", "/v1/api/items", item("jam")), call("GET", "/v1/api/slow")
    )
    assert time.monotonic() - start < 20
    assert response.headers["batch-outcome"] == "rolled-back; failed=2; status=504"
    assert [reply.status for reply in replies] == [424, 504]
    plain = shop.request("GET", "/v1/api/slow")
    assert plain.status_code == 504
    assert shop.rows("SELECT count(*) FROM items") == [(3,)]
    for sku in ("a", "b", "c"):
        assert created(shop, sku).status_code == 201


def created(shop: Served, sku: str) -> httpx.Response:
    """Create an item; again where a busy machine has taken longer than the limit of a second."""
    give_up = time.monotonic() + 20
    while True:
        response = shop.request("POST", "/v1/api/items", item(sku))
        if response.status_code not in (503, 504) or time.monotonic() > give_up:
            return response


@pytest.mark.parametrize("name", ["postgresql_url", "mysql_url"])
def test_a_lost_connection_is_replaced(
    name: str, request: pytest.FixtureRequest, serve: Serve
) -> None:
    """A connection that the database closed between batches costs no request."""
    database_url = request.getfixturevalue(name)
    make_shop(database_url)
    shop = serve(database_url)
    for n in range(3):
        assert shop.request("POST", "/v1/api/items", item(f"a{n}")).status_code == 201
        kill_connections(database_url)
    response, _ = shop.batch(call("POST", "/v1/api/items", item("b")))
    assert response.headers["batch-outcome"] == "committed"
    assert shop.rows("SELECT count(*) FROM items") == [(7,)]


def kill_connections(url: str) -> None:
    """End every other session on the database."""
    engine = sa.create_engine(server_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        if kind_of(url) == "postgresql":
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        found = connection.exec_driver_sql(
            "SELECT id FROM information_schema.processlist WHERE db = database()"
            " AND id <> connection_id()"
        ).fetchall()
        for (number,) in found:
            connection.exec_driver_sql(f"KILL {int(number)}")


def test_a_read_only_server_writes_nothing(database_url: str, serve: Serve) -> None:
    """With --read-only every write is 405, and reads work."""
    make_shop(database_url)
    shop = serve(database_url, read_only=True)
    assert shop.request("GET", "/v1/api/items/1").json()["sku"] == "tea"
    assert shop.request("POST", "/v1/api/items", item("jam")).status_code == 405
    assert shop.request("DELETE", "/v1/api/items/1").status_code == 405
    response, _ = shop.batch(call("PATCH", "/v1/api/items/1", {"stock": 1}))
    assert response.headers["batch-outcome"] == "rolled-back; failed=1; status=405"
    assert shop.rows("SELECT count(*) FROM items") == [(3,)]


def test_tables_that_cannot_roll_back_are_read_only(mysql_url: str, serve: Serve) -> None:
    """MyISAM keeps rows of a rolled-back transaction, so it is not written to at all."""
    on_its_own(
        mysql_url,
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, txt TEXT) ENGINE = MyISAM",
        "INSERT INTO logs VALUES (1, 'x')",
    )
    served = serve(mysql_url)
    assert served.request("GET", "/v1/api/logs/1").json() == {"id": 1, "txt": "x"}
    refused = served.request("POST", "/v1/api/logs", {"id": 2, "txt": "y"})
    assert refused.status_code == 405
    assert "roll back" in refused.json()["detail"]


def test_a_list_that_is_too_large_is_stopped_on_the_way(shop: Served, serve: Serve) -> None:
    """Reading ends when the bound is passed; the server and its connections go on."""
    items = [item(f"s{n}", note="x" * 90) for n in range(3000)]
    assert shop.request("POST", "/v1/api/items", items, prefer="return=minimal").status_code == 201
    small = serve(shop.url, limits=Limits(max_reply_bytes=100_000))
    for _ in range(12):
        response, replies = small.batch(
            call("POST", "/v1/api/items", item("jam")), call("GET", "/v1/api/items")
        )
        assert response.headers["batch-outcome"] == "rolled-back; failed=2; status=413"
        assert b'"limit":"max_reply_bytes"' in replies[1].body
        assert small.request("GET", "/v1/api/items").status_code == 413
    assert len(small.request("GET", "/v1/api/items?limit=5").json()) == 5
    assert small.request("POST", "/v1/api/items", item("jam")).status_code == 201
    assert shop.rows("SELECT count(*) FROM items") == [(3004,)]


def test_a_row_that_is_too_large_names_the_bound(shop: Served, serve: Serve) -> None:
    """Whatever has shown it: the values are right, and only the reply cannot be sent."""
    on_its_own(shop.url, "CREATE TABLE notes (id INTEGER PRIMARY KEY, txt TEXT)")
    on_its_own(shop.url, "INSERT INTO notes VALUES (1, 'short')")
    small = serve(shop.url, limits=Limits(max_reply_bytes=2000))
    long = {"txt": "x" * 5000}
    for method, target, body in (
        ("POST", "/v1/api/notes", {"id": 2, **long}),
        ("POST", "/v1/api/notes", [{"id": 2, **long}]),
        ("PUT", "/v1/api/notes/1", long),
        ("PUT", "/v1/api/notes/2", long),
        ("PATCH", "/v1/api/notes/1", long),
        ("PATCH", "/v1/api/notes?id=eq.1", long),
    ):
        refused = small.request(method, target, body)
        assert refused.status_code == 413, (method, target, refused.text)
        assert refused.json()["limit"] == "max_reply_bytes"
    assert shop.rows("SELECT id, txt FROM notes") == [(1, "short")]


def test_a_reply_that_is_too_large_fails_the_batch(shop: Served, serve: Serve) -> None:
    """The bound on replies holds for the whole batch and is named."""
    small = serve(shop.url, limits=Limits(max_reply_bytes=1000))
    reads = [call("GET", "/v1/api/items/1")] * 20
    response, replies = small.batch(call("POST", "/v1/api/items", item("jam")), *reads)
    assert response.headers["batch-outcome"].startswith("rolled-back; failed=")
    assert response.headers["batch-outcome"].endswith("status=413")
    assert any(b'"limit":"max_reply_bytes"' in reply.body for reply in replies)
    assert shop.rows("SELECT count(*) FROM items") == [(3,)]


ISOLATION = {
    "postgresql": "CREATE VIEW mode AS"
    " SELECT current_setting('transaction_isolation') AS isolation,"
    " current_setting('transaction_read_only') AS read_only",
    "mysql": "CREATE VIEW mode AS SELECT trx_isolation_level AS isolation,"
    " trx_is_read_only AS read_only FROM information_schema.innodb_trx"
    " WHERE trx_mysql_thread_id = connection_id()",
}


@pytest.mark.parametrize(
    ("name", "writing", "reading"),
    [
        ("postgresql_url", ("serializable", "off"), ("serializable", "on")),
        ("mysql_url", ("SERIALIZABLE", 0), ("REPEATABLE READ", 1)),
    ],
)
def test_isolation(
    name: str,
    writing: tuple[str, Any],
    reading: tuple[str, Any],
    request: pytest.FixtureRequest,
    serve: Serve,
) -> None:
    """Batches that write are serializable; batches that read are read-only snapshots."""
    url = request.getfixturevalue(name)
    make_shop(url)
    on_its_own(url, ISOLATION[kind_of(url)])
    shop = serve(url)
    write = call("PATCH", "/v1/api/items/1", {"stock": 1})
    # A read first: InnoDB lists a transaction only from its first row on.
    read = call("GET", "/v1/api/items/1")
    for calls, expected in (((read, write), writing), ((read,), reading)):
        # InnoDB makes its list anew only when nobody has asked for a tenth of a second.
        deadline = time.monotonic() + 5
        while True:
            _, replies = shop.batch(*calls, call("GET", "/v1/api/mode"))
            rows = json.loads(replies[-1].body)
            found = [(row["isolation"], row["read_only"]) for row in rows]
            if found == [expected] or time.monotonic() > deadline:
                break
            time.sleep(0.15)
        assert found == [expected]


def test_a_conflict_at_commit_runs_the_batch_again(postgresql_url: str) -> None:
    """Write skew that PostgreSQL finds out only at COMMIT is replayed, and then right."""
    on_its_own(
        postgresql_url,
        "CREATE TABLE skew (id integer PRIMARY KEY, n integer NOT NULL)",
        "INSERT INTO skew VALUES (1, 1), (2, 1)",
    )
    ours = Session(backend_for(server_url(postgresql_url), read_only=False), reader=False)
    theirs = Session(backend_for(server_url(postgresql_url), read_only=False), reader=False)
    batch = Batch((call("GET", "/"), call("POST", "/")))
    seen_sums: list[int] = []

    def perform(one: Call, session: Session) -> Reply:
        if one.method == "GET":
            seen_sums.append(session.execute("SELECT sum(n) FROM skew", ()).fetchone()[0])
        else:
            session.execute("UPDATE skew SET n = -1 WHERE id = 1", ())
            if len(seen_sums) == 1:
                # Between our last statement and our COMMIT somebody does the mirror image.
                with theirs.begin(batch, deadline=0):
                    theirs.execute("SELECT sum(n) FROM skew", ()).fetchone()
                    theirs.execute("UPDATE skew SET n = -1 WHERE id = 2", ())
        return Reply(200, (), b"")

    outcome = execute(batch, ours, perform, timeout_seconds=30)
    assert (outcome.committed, outcome.attempts) == (True, 2)
    assert seen_sums == [2, 0]
    ours.close()
    theirs.close()


@pytest.mark.slow
def test_a_merge_is_never_a_unique_violation(shop: Served) -> None:
    """Many clients merge the same new row at once: one creates it, the others change it."""
    prefer = {"prefer": "resolution=merge-duplicates"}
    for turn in range(8):
        body = {"id": 100 + turn, "sku": f"new {turn}", "name": "n"}

        def merge(body: dict[str, Any] = body) -> int:
            target = "/v1/api/items?on_conflict=sku"
            return shop.request("POST", target, body, **prefer).status_code

        assert sorted(in_parallel(*[merge] * 4)) == [200, 200, 200, 201]
    assert shop.rows("SELECT count(*) FROM items WHERE id >= 100") == [(8,)]
    taken = {"id": 1, "sku": "another", "name": "n"}
    refused = shop.request("POST", "/v1/api/items?on_conflict=sku", taken, **prefer)
    assert refused.status_code == 409, "a key that another row has is no conflict"


def test_a_connection_lost_during_commit_is_told_as_unknown(
    postgresql_url: str, serve: Serve
) -> None:
    """Nobody knows then whether the batch is stored: it is neither run again nor said to be."""
    on_its_own(
        postgresql_url,
        "CREATE TABLE doomed (id integer PRIMARY KEY)",
        "CREATE SEQUENCE runs",
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM nextval('runs'); PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new;"
        " END $$",
        "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON doomed"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()",
        "CREATE TABLE fine (id integer PRIMARY KEY)",
    )
    served = serve(postgresql_url)
    response, replies = served.batch(call("POST", "/v1/api/doomed", {"id": 1}))
    assert (response.status_code, replies) == (503, [])
    assert response.headers["batch-outcome"] == "unknown"
    assert "retry-after" not in response.headers
    plain = served.request("POST", "/v1/api/doomed", {"id": 2})
    assert (plain.status_code, "retry-after" in plain.headers) == (503, False)
    assert plain.json()["type"] == "urn:atomicbatch:problem:outcome-unknown"
    # A sequence is not rolled back: it tells how often COMMIT was tried.
    assert served.rows("SELECT last_value FROM runs") == [(2,)]
    assert served.request("POST", "/v1/api/fine", {"id": 1}).status_code == 201
