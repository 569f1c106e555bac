"""A block of headers is read once for all calls that share it, and forgotten with its batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from atomicbatch.limits import Limits
from atomicbatch.model import Call, Headers
from atomicbatch.server.database.backends import backend_for
from atomicbatch.server.database.faults import RowFault
from atomicbatch.server.database.sessions import Session
from atomicbatch.server.rows.api import Api
from atomicbatch.server.rows.asked import Asked, Blocks, asked_by
from atomicbatch.server.rows.preconditions import Conditions, read_conditions
from atomicbatch.server.rows.preferences import ON_CHANGES, ON_CREATES, ON_LISTS, ON_ROWS
from atomicbatch.server.rows.refusals import refuse_body, refuse_headers
from tests.server.schemas import schema_of

HEADERS = st.lists(
    st.sampled_from(
        [
            (b"content-type", b"application/json"),
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-encoding", b"identity"),
            (b"accept", b"*/*"),
            (b"accept", b"application/VND.pgrst.object+json"),
            (b"user-agent", b"x"),
            (b"authorization", b"secret"),
            (b"prefer", b"return=minimal"),
            (b"if-match", b'"x"'),
            (b"if-none-match", b"*"),
            (b"range", b"0-1"),
            (b"x-http-method", b"PATCH"),
            (b"if-unmodified-since", b"now"),
            (b"batch-if", b"x"),
        ]
    ),
    max_size=4,
).map(tuple)
METHODS = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "BREW")


@given(HEADERS)
def test_headers_that_ask_for_nothing_ask_for_nothing(headers: Headers) -> None:
    """Whatever the method, they are not refused, and set no condition and no preference."""
    asked = Asked(headers)
    assert asked.plain or not asked.plain_json
    if asked.plain:
        json = b"application/json" if asked.plain_json else None
        for method in METHODS:
            refuse_headers(method, headers)
        for honoured in (ON_LISTS, ON_ROWS, ON_CHANGES, ON_CREATES):
            assert read_conditions(headers, honoured) == Conditions(json)


def refusal(check: Callable[..., object], *arguments: object) -> str | None:
    """What a call is told, if it is refused."""
    try:
        check(*arguments)
    except RowFault as fault:
        return fault.detail
    return None


@given(HEADERS, st.sampled_from(METHODS), st.sampled_from([b"", b"{}"]))
def test_a_block_says_what_its_headers_say(headers: Headers, method: str, body: bytes) -> None:
    """The same refusals and the same conditions, the first time and later."""
    blocks: Blocks = {}
    call = Call(method, b"/", b"", headers, body)
    refused = refusal(refuse_body, call) or refusal(refuse_headers, method, headers)
    for _ in range(2):
        asked = asked_by(headers, blocks)
        assert refusal(asked.refuse_unsupported, call) == refused
        for honoured in (ON_LISTS, ON_CHANGES):
            expected = refusal(read_conditions, headers, honoured)
            assert refusal(asked.conditions, honoured) == expected
            if expected is None:
                assert asked.conditions(honoured) == read_conditions(headers, honoured)


def test_few_blocks_are_kept() -> None:
    """Where each call has headers of its own, nothing is gained by keeping them."""
    blocks: Blocks = {}
    for n in range(1000):
        asked_by(((b"x", b"%d" % n),), blocks)
        assert len(blocks) <= 64


def test_nobody_s_credentials_outlive_a_batch(tmp_path: Path) -> None:
    """What is kept of headers is dropped when the transaction ends, however it ends."""
    schema = schema_of(tmp_path / "t.sqlite", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    api = Api(schema, base_path="/v1/api", pages={}, read_only=False, limits=Limits())
    backend = backend_for(sa.make_url(f"sqlite:///{tmp_path}/t.sqlite"), read_only=False)
    call = Call("GET", b"/v1/api/t", b"", ((b"authorization", b"secret"),), b"")
    with closing(Session(backend, reader=False)) as session:
        with session:
            api.perform(call, session)
            assert len(session.kept) == 1
        assert not session.kept
        with suppress(ZeroDivisionError), session:
            api.perform(call, session)
            raise ZeroDivisionError
        assert not session.kept
