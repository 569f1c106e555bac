"""What a call needs of the database is known before the database is asked."""

from __future__ import annotations

import inspect
import json
import shutil
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from atomicbatch.limits import Limits
from atomicbatch.model import Call, Reply
from atomicbatch.server.database.backends import backend_for
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.query.names import QueryProblem
from atomicbatch.server.rows.api import Api
from atomicbatch.server.rows.plan import Few, First, Known, One, Reached, Statement, Stream
from atomicbatch.server.values.codec import ValueProblem
from tests.server.schemas import schema_of

SCHEMA = """
CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, stock INTEGER DEFAULT 1);
CREATE TABLE watched (id INTEGER PRIMARY KEY, v INTEGER);
CREATE TRIGGER watch AFTER INSERT ON watched
BEGIN UPDATE watched SET v = NEW.v + 1 WHERE id = NEW.id; END;
INSERT INTO items VALUES (1, 'tea', 5), (2, 'jam', 6), (3, 'cup', 7);
"""


def call(method: str, target: str, body: Any = None, **headers: str) -> Call:
    path, _, query = target.partition("?")
    said = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if body is not None:
        said.append((b"content-type", b"application/json"))
    text = b"" if body is None else json.dumps(body).encode()
    return Call(method, b"/v1/api/" + path.encode(), query.encode(), tuple(said), text)


KNOWN: list[tuple[Call, type]] = [
    (call("POST", "items", {"name": "a"}), First),
    (call("POST", "items?select=id", {"name": "a"}, prefer="return=minimal"), First),
    (call("GET", "items/1"), One),
    (call("HEAD", "items/1", if_none_match='"x"'), One),
    (call("PATCH", "items/1", {"stock": 1}), One),
    (call("PATCH", "items/1", {"stock": 1}, prefer="return=minimal, max-affected=1"), One),
    (call("PATCH", "items?id=eq.2", {"stock": 1}, prefer="return=minimal"), Reached),
    (call("DELETE", "items/1"), Reached),
    (call("DELETE", "items?id=eq.2"), Reached),
    (call("GET", "items?stock=gt.1&order=name&limit=20"), Few),
]
STREAMS: list[tuple[Call, type]] = [
    (call("GET", "items"), Stream),
    (call("GET", "items?limit=21"), Stream),
]
DIALOGUES = [
    call("POST", "items", [{"name": "a"}]),
    call("POST", "items", {"id": 1, "name": "a"}, prefer="resolution=merge-duplicates"),
    call("POST", "watched", {"v": 1}),
    call("GET", "items?limit=1", prefer="count=exact"),
    call("PATCH", "items/1", {"stock": 1}, if_match='"x"'),
    call("PATCH", "items/1", {"name": "Infs"}),  # may be how bytes are shown: read first
    call("PATCH", "items/1", {}),
    call("PATCH", "items?id=eq.2", {"stock": 1}),
    call("PUT", "items/1", {"name": "a"}),
    call("DELETE", "items/1", prefer="return=representation"),
    call("DELETE", "items/1", if_match='"x"'),
    call("DELETE", "watched/1"),
    call("DELETE", "watched?id=eq.2"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.sqlite"


@pytest.fixture
def api(path: Path) -> Api:
    """Has never seen a session: what it is asked for here needs no database."""
    schema = schema_of(path, SCHEMA)
    return Api(schema, base_path="/v1/api", pages={}, read_only=False, limits=Limits())


def ids(value: object) -> str:
    return f"{value.method} {value.path.decode()}" if isinstance(value, Call) else ""


@pytest.mark.parametrize(("asked", "kind"), KNOWN + STREAMS, ids=ids)
def test_one_statement_is_known_beforehand(api: Api, asked: Call, kind: type) -> None:
    """What most calls are: one statement, and a function from its answer to the reply."""
    plan = api.plan(asked)
    assert isinstance(plan, Known)
    assert plan.statement.__class__ is kind


@pytest.mark.parametrize("asked", DIALOGUES, ids=ids)
def test_what_depends_on_answers_is_a_dialogue(api: Api, asked: Call) -> None:
    """Conditions on the row as it is, and what has to be read back, take more than one answer."""
    assert inspect.isgenerator(api.plan(asked))


def test_what_needs_no_database_is_a_reply(api: Api) -> None:
    """The methods of a resource are known without asking."""
    plan = api.plan(call("OPTIONS", "items"))
    assert isinstance(plan, Reply)
    assert dict(plan.headers)[b"allow"] == b"GET, HEAD, POST, PATCH, DELETE, OPTIONS"


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        (call("GET", "nope"), RowFault),
        (call("BREW", "items/1"), RowFault),
        (call("GET", "items?nope=eq.1"), QueryProblem),
        (call("POST", "items", {"stock": "x"}), ValueProblem),
        (call("GET", "items/x"), ValueProblem),
        (call("DELETE", "items"), RowFault),
    ],
)
def test_a_call_s_own_faults_are_raised_by_planning(
    api: Api, asked: Call, fault: type[Exception]
) -> None:
    """A call that is wrong whatever the database holds sends it nothing."""
    with pytest.raises(fault):
        api.plan(asked)


def test_only_the_database_knows_why_a_row_was_not_reached(api: Api) -> None:
    """No row is reached: then it is asked whether there is one."""
    plan = api.plan(call("DELETE", "items/9"))
    assert isinstance(plan, Known)
    for row, status in ((None, 404), ((9, "a", 1), 422)):
        steps = plan.finish(0)
        assert isinstance(steps, Generator)
        question = next(steps)
        assert isinstance(question, One)
        assert list(question.parameters) == [9]
        with pytest.raises(RowFault) as refused:
            steps.send(row)
        assert refused.value.status == status


def answers(raw: sqlite3.Connection, statements: list[Statement | Stream]) -> Iterator[Any]:
    """What a runner has that sends everything before it looks at the first answer."""
    for statement in statements:
        cursor = raw.execute(statement.sql, statement.parameters)
        if isinstance(statement, Reached):
            yield cursor.rowcount
        else:
            yield cursor.fetchall() if isinstance(statement, Few) else cursor.fetchone()


def test_statements_can_be_sent_before_an_answer_is_read(api: Api, path: Path) -> None:
    """Replies are the same, one after another or with all statements sent at first."""
    calls = [asked for asked, _ in KNOWN]
    copy = shutil.copy(path, path.with_name("copy.sqlite"))
    backend = backend_for(sa.make_url(f"sqlite:///{copy}"), read_only=False)
    with closing(Session(backend, reader=False)) as session, session:
        one_by_one = [api.perform(asked, session) for asked in calls]
    plans = [plan for asked in calls if isinstance(plan := api.plan(asked), Known)]
    with closing(sqlite3.connect(path)) as raw:
        found = list(answers(raw, [plan.statement for plan in plans]))
    at_once = [plan.finish(answer) for plan, answer in zip(plans, found, strict=True)]
    assert at_once == one_by_one
    statuses = [reply.status for reply in one_by_one]
    assert statuses == [201, 201, 200, 200, 200, 204, 204, 204, 204, 200]
