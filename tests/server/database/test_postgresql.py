"""PostgreSQL behind a pooler that gives each transaction any of its connections."""

from __future__ import annotations

import threading

import pytest

from atomicbatch.server.database import postgresql
from atomicbatch.server.database.opening import ServeError, open_database
from atomicbatch.server.database.opening import database_url as server_url
from tests.server.conftest import Serve
from tests.server.served import call, on_its_own, seen

# What is shown of it depends on settings that a connection, a role and a database can have.
VALUES = {
    "id": 1,
    "moment": "2026-01-02T03:04:05+00:00",
    "span": "P1Y2M3DT4H5M6S",
    "raw": "AP8=",
    "number": 0.1234567890123456,
}
SHOWN = (
    "CREATE TABLE shown (id INTEGER PRIMARY KEY, moment TIMESTAMPTZ, span INTERVAL, raw BYTEA,"
    " number DOUBLE PRECISION)"
)
_SETTINGS = {
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "German",
    "IntervalStyle": "postgres_verbose",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
}


def spoil(url: str) -> None:
    """Let the database's own settings be such that values would be read wrongly."""
    name = url.rpartition("/")[2]
    on_its_own(
        url,
        SHOWN,
        *(f"ALTER DATABASE {name} SET {key} = '{value}'" for key, value in _SETTINGS.items()),
    )


@pytest.mark.slow
def test_a_pooler_s_connections_are_all_the_same(
    postgresql_url: str, pooled_url: str, serve: Serve
) -> None:
    """Many clients on two connections: batches are whole, values are read as they are stored."""
    spoil(postgresql_url)
    on_its_own(postgresql_url, "CREATE TABLE items (id INTEGER PRIMARY KEY, note TEXT)")
    served = serve(f"{pooled_url}?pooler=transaction")
    made = served.request("POST", "/v1/api/shown", VALUES)
    assert (made.status_code, made.json()) == (201, VALUES)
    wrong: list[object] = []

    def send(client: int) -> None:
        for number in range(6):
            calls = [
                call("POST", "/v1/api/items", {"id": client * 1000 + number * 40 + line})
                for line in range(35)
            ]
            reads = [call("GET", "/v1/api/shown/1")] * 3
            response, replies = served.batch(*calls, *reads, call("GET", "/v1/api/shown"))
            if response.headers["batch-outcome"] != "committed":
                wrong.append(response.headers["batch-outcome"])
            wrong.extend(r.body for r in replies[35:38] if r.body != made.content)

    clients = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert wrong == []
    assert seen(postgresql_url, "SELECT count(*) FROM items") == [(4 * 6 * 35,)]
    assert served.request("PATCH", "/v1/api/shown/1", {"number": 2}).status_code == 200
    assert served.request("PUT", "/v1/api/shown/1", VALUES).json() == VALUES


@pytest.mark.slow
def test_a_failing_batch_gives_the_connection_back(
    postgresql_url: str, pooled_url: str, serve: Serve
) -> None:
    """More batches fail in the middle than the pooler has connections; none is left behind."""
    on_its_own(postgresql_url, "CREATE TABLE items (id INTEGER PRIMARY KEY, note TEXT)")
    served = serve(f"{pooled_url}?pooler=transaction")
    for _ in range(5):
        calls = [call("POST", "/v1/api/items", {"id": number}) for number in (1, 2, 1, 3)]
        response, _ = served.batch(*calls)
        assert response.headers["batch-outcome"] == "rolled-back; failed=3; status=409"
    assert served.request("POST", "/v1/api/items", {"id": 1}).status_code == 201
    assert seen(postgresql_url, "SELECT id FROM items") == [(1,)]


def test_other_poolers_are_not_known(postgresql_url: str) -> None:
    """The user is told what can be said."""
    with pytest.raises(ServeError, match="option pooler must be transaction"):
        open_database(server_url(f"{postgresql_url}?pooler=session"), read_only=False)


def test_an_old_libpq_sends_one_statement_after_another(
    postgresql_url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no pipeline: batches are performed as before, through a pooler too."""
    on_its_own(postgresql_url, "CREATE TABLE items (id INTEGER PRIMARY KEY, note TEXT)")
    monkeypatch.setattr(postgresql, "has_pipeline", lambda _: False)
    for number, option in enumerate(("", "?pooler=transaction")):
        served = serve(f"{postgresql_url}{option}")
        calls = [call("POST", "/v1/api/items", {"id": 10 * number + n}) for n in (1, 2)]
        response, _ = served.batch(*calls, call("GET", "/v1/api/items"))
        assert response.headers["batch-outcome"] == "committed"
        response, _ = served.batch(call("DELETE", "/v1/api/items/1"), *calls)
        assert response.headers["batch-outcome"].startswith("rolled-back; failed=")
    assert seen(postgresql_url, "SELECT count(*) FROM items") == [(4,)]
