"""A full-stack template's app becomes atomic by the one line, and nothing else."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from atomicbatch import Call
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from tests.asgi.asking import ask
from tests.transactions.sqlalchemy.oracle import Databases
from tests.transactions.sqlalchemy.template import Base, make_app
from tests.transactions.sqlalchemy.test_oracle import ask_plainly
from tests.transactions.sqlalchemy.worlds import ASYNC, Database, World

pytestmark = pytest.mark.slow
ADA = "ada@example.org"


def call(method: str, path: str, value: Any = None, user: str = ADA) -> Call:
    headers = ((b"x-user", user.encode()), (b"content-type", b"application/json"))
    body = b"" if value is None else json.dumps(value).encode()
    return Call(method, path.encode(), b"", headers, body)


CALLS = [
    call("POST", "/users", {"email": ADA}),
    call("POST", "/users", {"email": "grace@example.org"}),
    *(call("POST", "/notes", {"title": f"note-{number}"}) for number in range(5)),
    # Each of these two catches its error; what is done then is kept.
    call("PUT", "/users/me", {"email": "grace@example.org"}),
    call("PUT", "/users/me", {"email": "alan@example.org"}, user="grace@example.org"),
    call("POST", "/notes", {"title": "of Alan"}, user="alan@example.org"),
    call("DELETE", "/notes/note-3"),
    call("GET", "/notes"),
]
FAILURES = {
    "a duplicate": (call("POST", "/users", {"email": "alan@example.org"}), 409),
    "not there": (call("DELETE", "/notes/note-9"), 404),
    "not signed in": (call("GET", "/notes", user="nobody@example.org"), 401),
    "not valid": (call("POST", "/notes", {"subject": "?"}), 422),
}


def stored(database: Database) -> dict[str, Any]:
    """All that is in the database, but for the keys, read by a connection of our own."""
    columns = {
        "users": "email, name",
        "notes": "title, (SELECT email FROM users WHERE users.id = owner_id)",
        "visits": "path",
    }
    with closing(database.connect()) as connection:
        cursor = connection.cursor()
        found = {}
        for table, names in columns.items():
            cursor.execute(f"SELECT {names} FROM {table}")
            found[table] = sorted(tuple(row) for row in cursor.fetchall())
        return found


def fresh(database: Database) -> None:
    url = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    engine = sa.create_engine(database.url.set(drivername=url[database.family]))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    engine.dispose()


@pytest.mark.parametrize("driver", [name for name in ASYNC if "cockroach" not in name])
def test_a_template(driver: str, databases: Databases) -> None:
    """A batch stores what separate requests store, or nothing, and no mail, if its last fails."""
    database = databases(ASYNC[driver])
    url = World(driver, database).url.render_as_string(hide_password=False)
    mails: list[str] = []

    async def main() -> None:
        plain = make_app(url, mails)
        app = AtomicBatch(plain, transaction=SQLAlchemyTransaction())
        fresh(database)
        alone = [await ask_plainly(plain, one) for one in CALLS]
        assert {answer.status for answer in alone} == {200, 201, 204}
        expected, sent = stored(database), mails.copy()
        assert sent == [ADA, "grace@example.org"]

        fresh(database)
        before = stored(database)
        mails.clear()
        for failing, status in FAILURES.values():
            answer = await ask(app, *CALLS, failing)
            assert answer.outcome == f"rolled-back; failed={len(CALLS) + 1}; status={status}"
            assert (stored(database), mails) == (before, [])

        fresh(database)
        answer = await ask(app, *CALLS)
        assert answer.outcome == "committed", answer.body
        assert [(one.status, one.body) for one in answer.replies] == [
            (one.status, one.body) for one in alone
        ]
        assert (stored(database), mails) == (expected, sent)
        for engine in plain.state.engines:
            await engine.dispose()

    asyncio.run(main())
