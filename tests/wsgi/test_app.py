"""
AtomicBatch: one transaction on a real database, in each place it can stand.

What holds of every endpoint is in tests/endpoints/app_contract.py.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import pytest
from flask import after_this_request, request, session, stream_with_context

from atomicbatch import Batch, EndpointLimits, Limits, inside_batch, on_commit
from atomicbatch.testing import check_transaction
from atomicbatch.wire.batch import write_batch
from atomicbatch.wsgi import AtomicBatch
from tests.endpoints.app_contract import *  # noqa: F403
from tests.endpoints.asking import Answer, asked
from tests.wsgi.asking import ask, call, environ_of, serve
from tests.wsgi.conftest import Make
from tests.wsgi.shop import Made, ShopTransaction


def handler(made: Made, act: Any, path: str = "/act") -> None:
    """Add a handler to the shop's app."""
    made.flask.add_url_rule(path, view_func=lambda: act() or "done", endpoint=path)


def batch_environ(*calls: Any) -> dict[str, Any]:
    content_type, body = write_batch(calls)
    return environ_of("/v1/api/batch", ((b"content-type", content_type),), body)


# Isolation ---------------------------------------------------------------------------------------


def test_nothing_is_seen_before_commit(make: Make) -> None:
    """While a batch runs, other requests neither see nor join its transaction (SPEC 4.6)."""
    made = make()
    answers: list[Answer] = []
    batch = threading.Thread(
        target=lambda: answers.append(asked(made, "POST /items pen", "GET /hang"))
    )
    batch.start()
    assert made.shop.hanging.wait(20)
    assert json.loads(made.ask_plainly("GET /items").body) == []
    made.shop.gate.set()
    batch.join()
    assert answers[0].outcome == "committed"
    assert made.rows() == ["hung", "pen"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_who_ends_the_process_gets_a_rollback(make: Make, kind: type[BaseException]) -> None:
    """A worker's time limit, Ctrl-C and sys.exit() in a call roll back and go on to the server."""
    made = make()

    def leave() -> None:
        raise kind("enough")

    handler(made, leave)
    with pytest.raises(kind):
        asked(made, "POST /items pen", "GET /act")
    assert made.rows() == []
    batches: Any = made.flask.wsgi_app
    assert made.transaction.open == batches._holding.batches == batches._holding.bytes == 0
    assert asked(made, "POST /items ink").outcome == "committed"


_leaked: contextvars.ContextVar[bool] = contextvars.ContextVar("leaked")


class Leaking(ShopTransaction):
    """An adapter that sets a context variable and leaves it so."""

    def begin(self, batch: Batch, *, deadline: float) -> Any:
        _leaked.set(True)
        return super().begin(batch, deadline=deadline)


def test_the_servers_thread_is_left_as_it_was(make: Make) -> None:
    """Context variables that the adapter or a call has set are gone when the batch has ended."""
    made = make()
    leaking = made.endpoint(path="/leaking", transaction=Leaking(made.database))
    before = dict(contextvars.copy_context())
    assert asked(leaking, "GET /word?set=a", path="/leaking").outcome == "committed"
    assert dict(contextvars.copy_context()) == before


def test_a_batch_follows_its_calls_into_threads(make: Make) -> None:
    """What a handler gives to a thread is part of the batch, and undone with it."""
    made = make()

    def act() -> None:
        thread = threading.Thread(target=made.shop.add, args=("by thread",))
        thread.start()
        thread.join()

    handler(made, act)
    assert asked(made, "GET /act", "GET /answer?status=409").outcome.startswith("rolled-back")
    assert made.rows() == []
    assert asked(made, "GET /act").outcome == "committed"
    assert made.rows() == ["by thread"]


def test_what_is_written_past_the_batch_is_refused(make: Make) -> None:
    """A write on a connection of the handler's own fails the batch before it is sent."""
    made = make()

    def act() -> None:
        with closing(sqlite3.connect(made.database + "-other")) as other:
            other.execute("CREATE TABLE t (n)")

    handler(made, act)
    answer = asked(made, "POST /items pen", "GET /act")
    assert answer.outcome == "rolled-back; failed=2; status=501"
    assert b"takes no part in the batch" in answer.replies[1].body
    assert made.rows() == []

    allowing = ShopTransaction(made.database)
    allowing.outside = (made.database + "-other",)  # type: ignore[attr-defined]
    allowed = made.endpoint(path="/allowed", transaction=allowing)
    answer = asked(allowed, "POST /items pen", "GET /act", path="/allowed")
    assert answer.outcome == "committed"


# Time --------------------------------------------------------------------------------------------


def test_the_time_limit_between_calls(make: Make) -> None:
    """The call that was running when the time was over is the failing one: 504 (SPEC 2.8)."""
    made = make(limits=Limits(timeout_seconds=0.05))
    handler(made, lambda: time.sleep(0.1))
    answer = asked(made, "POST /items pen", "GET /act", "GET /items")
    assert answer.outcome == "rolled-back; failed=2; status=504"
    assert answer.statuses == [424, 504, 424]
    assert made.rows() == []


class Stopped(ShopTransaction):
    """The shop's adapter, with what the time limit stops it by."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.stopped_by: set[str] = set()

    def begin(self, batch: Batch, *, deadline: float) -> Any:
        return _Stopped(super().begin(batch, deadline=deadline), self.stopped_by)


class _Stopped(AbstractContextManager[sqlite3.Connection]):
    def __init__(self, block: Any, stopped_by: set[str]) -> None:
        self._block = block
        self._stopped_by = stopped_by

    def __enter__(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._block.__enter__()
        self._connection = connection
        return connection

    def __exit__(self, *why: Any) -> bool | None:
        swallowed: bool | None = self._block.__exit__(*why)
        return swallowed

    def interrupt(self) -> None:
        self._stopped_by.add(threading.current_thread().name)
        self._connection.interrupt()


def test_the_time_limit_in_a_statement(make: Make) -> None:
    """A statement without end is stopped by a thread that depends on nobody."""
    made = make(limits=Limits(timeout_seconds=0.1))
    transaction = Stopped(made.database)
    stopped = made.endpoint(
        path="/stopped", transaction=transaction, limits=Limits(timeout_seconds=0.1)
    )

    def act() -> None:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT max(i) FROM n"
        with made.shop.database() as connection:
            connection.execute(endless).fetchall()

    handler(made, act)
    answer = asked(stopped, "POST /items pen", "GET /act", path="/stopped")
    assert answer.outcome.startswith("rolled-back; failed=2")
    assert transaction.stopped_by == {"atomicbatch-deadlines"}
    assert made.rows() == []


# After COMMIT ------------------------------------------------------------------------------------


def test_on_commit_waits_for_the_response(make: Make) -> None:
    """What calls want done is done in order, after COMMIT, when the response has been sent."""
    made = make()
    done: list[str] = []

    def act() -> None:
        name = request.args["name"]
        made.shop.add(name)
        on_commit(lambda: done.append(f"{name} {made.rows()} {inside_batch()}"))
        assert inside_batch()

    handler(made, act)
    batches: Any = made.flask.wsgi_app
    assert batches.transaction is made.transaction
    pieces = batches(
        batch_environ(call("GET", "/act?name=a"), call("GET", "/act?name=b")), lambda *_: None
    )
    assert next(pieces)
    assert (made.rows(), done) == (["a", "b"], [])
    pieces.close()
    assert done == ["a ['a', 'b'] False", "b ['a', 'b'] False"]


def test_on_commit_is_dropped_by_a_rollback(make: Make) -> None:
    """Nothing is done for what was undone, nor twice for what has run again."""
    made = make(conflicts=2)
    done: list[str] = []
    handler(made, lambda: on_commit(done.append, "once"))
    assert asked(made, "GET /act", "GET /answer?status=400").outcome.startswith("rolled-back")
    assert done == []
    assert asked(made, "GET /act").outcome == "committed"
    assert done == ["once"]


def test_on_commit_goes_on_after_a_failure(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What fails is logged; sync and async functions are done alike, and the client has its 200."""
    made = make()
    done: list[str] = []

    async def later(name: str) -> None:
        await asyncio.sleep(0)
        done.append(name)

    async def fails() -> None:
        raise RuntimeError("the async one")

    def act() -> None:
        on_commit(lambda: 1 / 0)
        on_commit(fails)
        on_commit(later, "async")
        on_commit(done.append, "sync")

    handler(made, act)
    assert asked(made, "GET /act").outcome == "committed"
    assert done == ["async", "sync"]
    assert "ZeroDivisionError" in caplog.text
    assert "the async one" in caplog.text


def test_on_commit_outside_of_batches(make: Make) -> None:
    """There it is now, as without us."""
    made = make()
    done: list[str] = []

    def act() -> str:
        on_commit(done.append, "now")
        return f"{done} {inside_batch()}"

    handler(made, act)
    assert made.ask_plainly("GET /act").body == b"['now'] False"


# Flask -------------------------------------------------------------------------------------------


def test_flasks_own_hooks_run_for_each_call(make: Make) -> None:
    """before_request, after_this_request and teardown_request alternate, call by call."""
    made = make()
    happened: list[str] = []
    made.flask.before_request(lambda: happened.append(f"before {request.path}"))
    made.flask.teardown_request(lambda error: happened.append(f"teardown {error}"))
    made.flask.teardown_appcontext(lambda _: happened.append("context"))

    def act() -> None:
        @after_this_request
        def after(response: Any) -> Any:
            happened.append("after")
            response.headers["X-After"] = "yes"
            return response

    handler(made, act)
    answer = asked(made, "GET /act", "GET /items")
    assert dict(answer.replies[0].headers)[b"x-after"] == b"yes"
    assert b"x-after" not in dict(answer.replies[1].headers)
    assert happened == [
        *("before /act", "after", "teardown None", "context"),
        *("before /items", "teardown None", "context"),
    ]


def test_a_stream_with_context(make: Make) -> None:
    """A stream that needs the request has it to its end, and what it writes is in the batch."""
    made = make()

    def act() -> Any:
        def chunks() -> Iterator[str]:
            for name in ("a", "b"):
                made.shop.add(name + request.args["x"])
                yield name

        return made.flask.response_class(stream_with_context(chunks()))

    handler(made, act)
    assert asked(made, "GET /act?x=1").replies[0].body == b"ab"
    assert made.rows() == ["a1", "b1"]
    assert asked(made, "GET /act?x=2", "GET /answer?status=400").outcome.startswith("rolled-back")
    assert made.rows() == ["a1", "b1"]


def test_flasks_test_client(make: Make) -> None:
    """A batch is a request like others there, also where the client keeps its contexts."""
    made = make()
    made.flask.secret_key = "secret"
    done: list[str] = []

    def act() -> None:
        session["name"] = "ada"
        on_commit(done.append, "done")

    handler(made, act)
    content_type, body = write_batch([call("GET", "/act"), call("POST", "/items", b"pen")])
    with made.flask.test_client() as client:
        response = client.post(
            "/v1/api/batch", data=body, headers={"content-type": content_type.decode()}
        )
        assert response.headers["batch-outcome"] == "committed"
        assert b"session=" in response.data
        assert done == ["done"]
        assert client.get("/items").json == ["pen"]


def test_errors_that_go_on_to_the_tests(make: Make) -> None:
    """In Flask's testing mode a handler's exception leaves the app: the call fails all the same."""
    made = make()
    made.flask.testing = True
    answer = asked(made, "POST /items pen", "GET /boom")
    assert answer.outcome == "rolled-back; failed=2; status=500"
    assert b"secret" not in answer.body
    assert made.rows() == []


# Bounds ------------------------------------------------------------------------------------------


@contextmanager
def hanging(made: Made) -> Iterator[None]:
    """A batch that runs meanwhile."""
    batch = threading.Thread(target=lambda: asked(made, "GET /hang"))
    batch.start()
    assert made.shop.hanging.wait(20)
    try:
        yield
    finally:
        made.shop.gate.set()
        batch.join()


def test_batches_at_once(make: Make) -> None:
    """One more is refused, with Retry-After; when one has been answered there is room."""
    made = make(endpoint_limits=EndpointLimits(max_batches=1))
    with hanging(made):
        answer = asked(made, "GET /items")
        assert (answer.status, answer.outcome) == (503, "not-started")
        assert (answer.problem["limit"], answer.headers["retry-after"]) == ("max_batches", "1")
        # What is no batch is not counted.
        assert made.ask(method="OPTIONS", body=b"").status == 200
    assert asked(made, "GET /items").outcome == "committed"


@pytest.mark.parametrize("end", ["taken", "closed", "dropped", "refused", "failed"])
def test_what_a_batch_held_comes_back(make: Make, end: str) -> None:
    """However the response ends: nothing stays counted."""
    made = make()
    batches: Any = made.flask.wsgi_app

    def start_response(*_: Any) -> None:
        if end == "failed":
            raise BrokenPipeError

    targets = ["/items"] if end != "refused" else ["/boom"]
    environ = batch_environ(*(call("GET", target) for target in targets))
    try:
        pieces = batches(environ, start_response)
    except BrokenPipeError:
        pieces = iter(())
    assert batches._holding.batches == (end != "failed")
    if end == "closed":
        pieces.close()
    elif end != "dropped":
        list(pieces)
    del pieces
    assert (batches._holding.batches, batches._holding.bytes) == (0, 0)


def test_what_an_upload_becomes_is_counted(make: Make) -> None:
    """A few bytes that were compressed are counted by what they are in memory; nothing runs."""
    made = make(endpoint_limits=EndpointLimits(max_held_bytes=20_000))
    answer = made.ask(call("POST", "/items", bytes(50_000)), coding="gzip")
    assert (answer.status, answer.problem["limit"]) == (503, "max_held_bytes")
    assert made.rows() == []


def test_replies_are_counted(make: Make) -> None:
    """A reply that is too much fails its call, and all is rolled back."""
    made = make(endpoint_limits=EndpointLimits(max_held_bytes=3000))
    answer = asked(made, "POST /items pen", "GET /answer?status=200&body=" + "x" * 2500)
    assert answer.statuses == [503, 503]
    assert b"server-busy" in answer.body
    assert made.rows() == []


# -------------------------------------------------------------------------------------------------


def test_any_wsgi_app_will_do(make: Make) -> None:
    """No framework is needed."""
    made = make()

    def app(environ: Any, start_response: Any) -> Any:
        made.shop.add(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield environ["wsgi.input"].read()

    batches = AtomicBatch(app, transaction=made.transaction)
    answer = ask(batches, call("PUT", "/a", b"first"), call("PUT", "/b", b"second"))
    assert [reply.body for reply in answer.replies] == [b"first", b"second"]
    assert serve(batches, environ_of("/c", body=b"alone")).answer.body == b"alone"
    assert made.rows() == ["/a", "/b", "/c"]


def test_the_adapter_of_these_tests_keeps_the_contract(make: Make) -> None:
    """What these tests stand on passes the checks for adapters."""
    made = make()

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO item VALUES (hex(randomblob(8)))")

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO part VALUES ('nobody')")

    check_transaction(made.transaction, write=write, count=lambda: len(made.rows()), refuse=refuse)
