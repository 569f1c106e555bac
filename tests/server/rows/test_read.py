"""What was read of a query is kept for those who ask the same again."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomicbatch.model import Call
from atomicbatch.server.query.names import QueryProblem
from atomicbatch.server.rows.asked import Asked
from atomicbatch.server.rows.plan import Few, Known, Plan
from atomicbatch.server.rows.read import read_many
from atomicbatch.server.rows.resource import Resource
from tests.server.schemas import schema_of


@pytest.fixture
def resource(tmp_path: Path) -> Resource:
    schema = schema_of(tmp_path / "t.sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)")
    return Resource(schema.tables["t"], schema.dialect, read_only=False, max_bytes=10**6)


def plan(resource: Resource, query: bytes) -> Plan:
    call = Call("GET", b"/v1/api/t", query, (), b"")
    return read_many(resource, call, Asked(call.headers))


def test_the_same_query_gives_the_same_plan(resource: Resource) -> None:
    """Its SQL and its parameters, each time and beside others."""
    found = []
    for _ in range(2):
        for n in (1, 2):
            known = plan(resource, b"n=gt.%d&select=n&limit=%d" % (n, n))
            assert isinstance(known, Known)
            assert isinstance(known.statement, Few)
            found.append((known.statement, known.finish([(7,)])))
    assert found[:2] == found[2:]
    assert found[0] != found[1]
    assert [statement.parameters for statement, _ in found[:2]] == [(1,), (2,)]


def test_what_is_wrong_is_said_each_time(resource: Resource) -> None:
    """A query that is not understood is not kept."""
    for _ in range(2):
        with pytest.raises(QueryProblem):
            plan(resource, b"nope=eq.1")
    assert not resource.selections


def test_few_queries_are_kept(resource: Resource) -> None:
    """So many, and none that is long or says who asks."""
    for n in range(1000):
        plan(resource, b"n=gt.%d&limit=5" % n)
        assert 0 < len(resource.selections) <= 256
    before = dict(resource.selections)
    for query in (b"key=secret", b"%6bey=secret", b"n=in.(" + b"1," * 300 + b"1)"):
        plan(resource, query)
    assert resource.selections == before
