"""
The contract of every endpoint: one transaction on a real database, in each place it can stand.

The test files of ``asgi/app.py`` and ``wsgi/app.py`` import these tests; the fixtures ``make`` and
``made`` of their folders give the shop behind such an endpoint.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atomicbatch import Batch, ConflictError, EndpointLimits, Limits
from atomicbatch.engine import Replay
from atomicbatch.wire.batch import write_batch
from tests.endpoints.asking import Made, Make, asked, call

__all__ = [
    "test_a_batch_endpoint_that_cannot_begin",
    "test_a_batch_in_a_batch",
    "test_a_call_cannot_say_who_calls",
    "test_a_call_that_asks_for_references_is_refused",
    "test_a_conflict_is_run_again",
    "test_a_conflict_that_stays",
    "test_a_handler_that_raises",
    "test_a_malformed_batch_runs_nothing",
    "test_a_refused_commit_is_a_rollback",
    "test_all_calls_take_effect",
    "test_all_or_nothing",
    "test_compressed_both_ways",
    "test_concurrent_batches_each_take_effect",
    "test_every_call_passes_the_whole_stack",
    "test_head_gets_no_body",
    "test_options_lists_every_limit",
    "test_or_none_does",
    "test_other_methods_need_no_body",
    "test_other_requests_are_the_apps_own",
    "test_rolled_back_status",
    "test_the_outer_query_is_for_all_calls",
    "test_the_path_can_be_chosen",
    "test_what_batches_do_not_do_is_refused",
    "test_wrong_options_are_refused",
]


def test_all_calls_take_effect(made: Made) -> None:
    """A batch of good calls is stored as a whole, and a call sees the calls before it."""
    answer = asked(made, "POST /items pen", "POST /items ink", "GET /items")
    assert (answer.status, answer.outcome) == (200, "committed")
    assert answer.statuses == [201, 201, 200]
    assert json.loads(answer.replies[2].body) == ["ink", "pen"]
    assert made.rows() == ["ink", "pen"]
    assert made.transaction.open == 0


def test_or_none_does(made: Made) -> None:
    """The first failing call undoes the calls before it and stops the ones after it."""
    answer = asked(made, "POST /items pen", "POST /items pen", "POST /items ink")
    assert (answer.status, answer.outcome) == (200, "rolled-back; failed=2; status=409")
    assert answer.statuses == [424, 409, 424]
    assert json.loads(answer.replies[1].body) == {"taken": "pen"}
    assert made.rows() == []
    assert made.transaction.open == 0


@pytest.mark.parametrize(
    "header",
    [
        (b"idempotency-key", b"k"),
        (b"prefer", b"return=minimal, tx=rollback"),
        (b"prefer", b"handling=strict, respond-async"),
        (b"batch-references", b"1"),
        (b"x-http-method-override", b"GET"),
    ],
    ids=repr,
)
def test_what_batches_do_not_do_is_refused(made: Made, header: tuple[bytes, bytes]) -> None:
    """Who asks for a batch that runs once, or is undone, does not get one that is neither."""
    answer = asked(made, "POST /items pen", headers=(header,))
    assert (answer.status, answer.outcome) == (400, "not-started")
    assert answer.problem["type"] == "urn:atomicbatch:problem:not-supported"
    assert made.rows() == []


def test_a_call_that_asks_for_references_is_refused(made: Made) -> None:
    """The whole batch is, before its first call runs, and the call is named."""
    path = made.prefix + "/items"
    answer = made.ask(
        call("POST", path, b"pen"), call("POST", path, b"ink", [(b"Batch-References", b"1")])
    )
    assert (answer.status, answer.problem["call"]) == (400, 2)
    assert made.rows() == []


def test_a_call_cannot_say_who_calls(made: Made) -> None:
    """What a gateway has said of the client holds for every call, however a call spells it."""
    outer = ((b"x-auth-request-email", b"real"), (b"cf-access-jwt-assertion", b"real"))
    forged = [
        (b"X-Auth-Request-Email", b"forged"),
        (b"x_auth_request_email", b"forged"),
        (b"CF-Access-JWT-Assertion", b"forged"),
        (b"X-Authenticated-UserId", b"forged"),
        (b"X-Pomerium-Claim-Email", b"forged"),
    ]
    answer = made.ask(call("GET", made.prefix + "/echo", headers=forged), headers=outer)
    assert answer.outcome == "committed"
    seen = answer.echoed["headers"]
    assert ["x-auth-request-email", "real"] in seen
    assert not any(value == "forged" for _, value in seen)


def test_the_outer_query_is_for_all_calls(make: Make) -> None:
    """Calls inherit it, but for what the endpoint consumes and what they say themselves."""
    made = make(consumed_query=["key"])
    answer = made.ask(call("GET", "/echo?b=2"), query=b"a=1&b=1&key=k")
    assert answer.echoed["query"] == "b=2&a=1"


def test_other_requests_are_the_apps_own(made: Made) -> None:
    """What is no batch passes through as if we were not there."""
    assert made.ask_plainly("POST /items pen").status == 201
    assert made.rows() == ["pen"]


def test_every_call_passes_the_whole_stack(made: Made) -> None:
    """What the app's middleware refuses alone, it refuses in a batch, wherever we stand."""
    answer = asked(made, "GET /admin")
    assert answer.outcome == "rolled-back; failed=1; status=403"
    assert answer.replies[0].body == b"no entry"


def test_a_handler_that_raises(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    """A raising handler fails its call with the app's own error page, and rolls back."""
    answer = asked(made, "POST /items pen", "GET /boom")
    assert answer.outcome == "rolled-back; failed=2; status=500"
    assert b"Internal Server Error" in answer.replies[1].body
    assert b"secret" not in answer.body
    assert "the secret of the shop" in caplog.text
    assert made.rows() == []


def test_a_refused_commit_is_a_rollback(made: Made) -> None:
    """A deferred constraint fails the whole batch, after every call has answered 2xx (SPEC 4.2)."""
    answer = asked(made, "POST /items pen", "POST /part")
    assert answer.outcome == "rolled-back; failed=commit; status=409"
    assert answer.statuses == [424, 424]
    assert b"COMMIT was refused" in answer.replies[0].body
    assert made.rows() == []


def test_a_conflict_is_run_again(make: Make) -> None:
    """After conflicts the batch runs again from the start, and the answer says how often."""
    made = make(conflicts=2, replay=Replay(base_seconds=0))
    answer = asked(made, "POST /items pen")
    assert (answer.outcome, answer.headers["batch-attempts"]) == ("committed", "3")
    assert made.rows() == ["pen"]


def test_a_conflict_that_stays(make: Make) -> None:
    """After the last try every part says 503 with Retry-After (SPEC 6.1, 5.2)."""
    made = make(conflicts=99, replay=Replay(base_seconds=0))
    answer = asked(made, "POST /items pen", "GET /items")
    assert answer.outcome == "rolled-back; failed=commit; status=503"
    assert answer.statuses == [503, 503]
    assert all(dict(reply.headers)[b"retry-after"] for reply in answer.replies)
    assert answer.headers["batch-attempts"] == "5"
    assert made.rows() == []


def test_concurrent_batches_each_take_effect(make: Make) -> None:
    """Batches that want the one write lock of SQLite all get through."""
    made = make(replay=Replay(max_attempts=1000, base_seconds=0.001, max_seconds=0.01))
    answers = made.ask_together(*([call("POST", "/items", b"item-%d" % i)] for i in range(8)))
    assert {answer.outcome for answer in answers} == {"committed"}
    assert len(made.rows()) == 8


def test_a_batch_in_a_batch(make: Make) -> None:
    """A call that reaches another batch endpoint is refused, by where it runs, not by path."""
    outside = make().endpoint(path="/other")
    content_type, body = write_batch([call("GET", "/items")])
    inner = call("POST", "/v1/api/batch", body, ((b"content-type", content_type),))
    answer = outside.ask(call("POST", "/items", b"pen"), inner, path="/other")
    assert answer.outcome == "rolled-back; failed=2; status=400"
    assert json.loads(answer.replies[1].body)["type"] == "urn:atomicbatch:problem:nested-batch"
    assert outside.rows() == []


def test_a_malformed_batch_runs_nothing(made: Made) -> None:
    """A body that is no batch is refused before anything begins (SPEC 2.1, 5.3)."""
    answer = made.ask(
        body=b"--x\r\nnonsense", headers=((b"content-type", b"multipart/mixed; boundary=x"),)
    )
    assert (answer.status, answer.outcome) == (400, "not-started")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "status"), [("GET", 405), ("PUT", 405), ("OPTIONS", 200)])
def test_other_methods_need_no_body(made: Made, method: str, status: int) -> None:
    """They are answered by their head, and tell what the endpoint takes (SPEC 2.8)."""
    answer = made.ask(call("GET", "/"), method=method)
    assert (answer.status, answer.headers["allow"]) == (status, "POST, OPTIONS")


def test_options_lists_every_limit(made: Made) -> None:
    """Those of one batch, and those of all batches of the endpoint together (SPEC 2.8)."""
    listed = json.loads(made.ask(call("GET", "/"), method="OPTIONS").body)["limits"]
    names = {field.name for kind in (Limits, EndpointLimits) for field in dataclasses.fields(kind)}
    assert set(listed) == names
    assert listed["max_batches"] == EndpointLimits().max_batches


def test_head_gets_no_body(made: Made) -> None:
    """The answer to HEAD has the length of its body, but not the body."""
    answer = made.ask(call("GET", "/"), method="HEAD")
    assert (answer.status, answer.body) == (405, b"")
    assert int(answer.headers["content-length"]) > 0


def test_compressed_both_ways(made: Made) -> None:
    """A compressed batch is read, and a long response compressed for who accepts it."""
    answer = asked(
        made,
        "POST /items " + "x" * 3000,
        "GET /items",
        headers=((b"accept-encoding", b"gzip"),),
        coding="gzip",
    )
    assert answer.outcome == "committed"
    assert answer.headers["content-encoding"] == "gzip"
    assert made.rows() == ["x" * 3000]


@pytest.mark.parametrize("status", [409, 499])
def test_rolled_back_status(status: int, make: Make) -> None:
    """The status of a rolled-back response can be chosen (SPEC 5.1), also one without a name."""
    made = make(rolled_back_status=status)
    assert asked(made, "GET /answer?status=404").status == status
    assert asked(made, "GET /items").status == 200


def test_the_path_can_be_chosen(make: Make) -> None:
    """Only the chosen path is the endpoint (SPEC 1.1)."""
    made = make(path="/batch")
    assert asked(made, "GET /items", path="/batch").outcome == "committed"
    assert asked(made, "GET /items", path="/v1/api/batch").status == 404


def test_a_batch_endpoint_that_cannot_begin(make: Make) -> None:
    """Where the transaction cannot begin, the batch did not start: one problem, no parts."""

    class Refusing:
        def begin(self, batch: Batch, *, deadline: float) -> Any:
            raise ConflictError("no connection")

    made = make().endpoint(path="/refusing", transaction=Refusing(), replay=Replay(max_attempts=2))
    answer = asked(made, "GET /items", path="/refusing")
    assert (answer.status, answer.outcome) == (503, "not-started")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "wrong", [{"path": "batch"}, {"path": "/batch/"}, {"rolled_back_status": 100}]
)
def test_wrong_options_are_refused(make: Make, wrong: dict[str, Any]) -> None:
    """A path without its slash or a status that is none is found when the app is made."""
    with pytest.raises(ValueError, match=r"must|no final"):
        make(**wrong)


TARGETS = ["POST /items a", "POST /items b", "POST /items c", "GET /items", "GET /redirect"]
FAILING = ["GET /boom", "GET /nowhere", "GET /stream?break=1", "GET /late", "POST /part"]


@given(targets=st.lists(st.sampled_from(TARGETS * 3 + FAILING), min_size=1, max_size=8))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.slow
def test_all_or_nothing(make: Make, targets: list[str]) -> None:
    """After any batch the database holds all of it, and says committed, or none of it."""
    with tempfile.TemporaryDirectory() as folder:
        made = make(folder=folder, limits=Limits(timeout_seconds=20))
        answer = asked(made, *targets)
        added = [target[-1] for target in targets if target.startswith("POST /items")]
        fails = len(set(added)) < len(added) or bool(set(targets) & set(FAILING))
        assert (answer.outcome == "committed") is not fails
        assert made.rows() == ([] if fails else sorted(added))
        assert len(answer.replies) == len(targets)
        assert made.transaction.open == 0
