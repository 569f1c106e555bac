"""Problems: any of our errors as a status and a problem document, one line of JSON."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

import atomicbatch.errors
from atomicbatch import (
    AtomicBatchError,
    Batch,
    BrokenTransactionError,
    Call,
    CommitError,
    ConflictError,
    Failure,
    Fate,
    LimitError,
    MalformedError,
    Outcome,
    Reply,
    TimeoutExceededError,
    UnknownOutcomeError,
)
from atomicbatch.problems import (
    TITLES,
    URN,
    error_reply,
    outcome_header,
    problem_document,
    problem_reply,
    replies_for,
)

BATCH = Batch(tuple(Call("POST", b"/", b"", (), b"") for _ in range(4)))
DOCS = Path(__file__).parents[1] / "docs" / "reference" / "problems.md"


def reply(status: int, *headers: tuple[bytes, bytes], body: bytes = b"") -> Reply:
    return Reply(status, headers, body)


def bodies(replies: tuple[Reply, ...]) -> list[dict[str, object]]:
    return [json.loads(reply.body) for reply in replies]


def test_a_document_is_one_line_of_json_with_what_is_known() -> None:
    """Call (1-based), offset, limit and maximum are there where the error knows them (SPEC 5.3)."""
    error = LimitError(
        "too many headers", limit="max_header_lines", maximum=200, call_index=2, offset=77
    )
    document = problem_document(error)
    assert b"\n" not in document
    assert json.loads(document) == {
        "type": "urn:atomicbatch:problem:limit-exceeded",
        "title": "A limit is exceeded",
        "status": 413,
        "detail": "call 3: too many headers at offset 77",
        "call": 3,
        "offset": 77,
        "limit": "max_header_lines",
        "maximum": 200,
    }


def test_what_is_not_known_is_left_out() -> None:
    """Members without a value are not there, not null."""
    assert set(json.loads(problem_document(MalformedError("no")))) == {
        "type",
        "title",
        "status",
        "detail",
    }


def test_any_text_stays_one_line_of_ascii() -> None:
    """Line breaks, quotes and other scripts in a message cannot break the line (SPEC 5.4)."""
    reply = problem_reply(400, "x", "title", 'é\n"\x00\u2028', name="ü", nothing=None)
    assert reply.body.isascii()
    assert b"\n" not in reply.body
    assert json.loads(reply.body)["detail"] == 'é\n"\x00\u2028'
    assert reply.headers == ((b"content-type", b"application/problem+json"),)
    assert "nothing" not in json.loads(reply.body)


def test_a_committed_batch_keeps_its_own_replies() -> None:
    """Nothing is copied or changed where nothing went wrong."""
    outcome = Outcome(Fate.COMMITTED, (reply(200),) * 4)
    assert replies_for(BATCH, outcome) is outcome.replies
    assert outcome_header(outcome) == b"committed"


def test_a_rolled_back_batch() -> None:
    """N replies in order: the failing call's own, 424 for the undone and the not attempted."""
    own = reply(409, (b"x-own", b"1"), body=b"taken")
    outcome = Outcome(
        Fate.ROLLED_BACK,
        (reply(201, body=b"secret"), own),
        failures=(Failure(1),),
        took_part=(True, True),
    )
    replies = replies_for(BATCH, outcome)
    assert [r.status for r in replies] == [424, 409, 424, 424]
    assert replies[1] is own
    undone, late = json.loads(replies[0].body), json.loads(replies[2].body)
    assert undone == {
        "type": URN + "call-undone",
        "title": "The call was undone",
        "status": 424,
        "detail": "the batch was rolled back (call 2 answered 409): what this call did is undone",
        "call": 2,
        "cause": 409,
        "original_status": 201,
    }
    assert late["type"] == URN + "call-not-attempted"
    assert (late["call"], late["cause"], "original_status" in late) == (2, 409, False)
    assert outcome_header(outcome) == b"rolled-back; failed=2; status=409"


@pytest.mark.parametrize(
    ("took_part", "fate"),
    [
        (True, "what this call did is undone"),
        (False, "this call used no database that takes part; what it did elsewhere stays"),
        (None, "what this call did in the batch's transaction is undone"),
    ],
)
@pytest.mark.parametrize("may_be_stored", [None, False, True])
def test_what_is_said_to_be_undone(
    took_part: bool | None, fate: str, may_be_stored: bool | None
) -> None:
    """ "Undone" is said of what a call did in a database that takes part, and of nothing else."""
    error = None
    if may_be_stored is not None:
        error = BrokenTransactionError("it ended", may_be_stored=may_be_stored)
    outcome = Outcome(
        Fate.ROLLED_BACK,
        (reply(201), reply(201), reply(409)),
        failures=(Failure(2),) if error is None else (),
        error=error,
        took_part=(took_part, True),
    )
    first = json.loads(replies_for(BATCH, outcome)[0].body)
    assert first["type"] == URN + ("call-took-no-part" if took_part is False else "call-undone")
    one, other = (json.loads(r.body)["detail"] for r in replies_for(BATCH, outcome)[:2])
    more = ", unless it had been committed before that" if may_be_stored else ""
    assert one.endswith(f": {fate}{'' if took_part is False else more}")
    assert other.endswith(f": what this call did is undone{more}")


@pytest.mark.parametrize("status", [401, 429, 503])
def test_statuses_that_clients_retry_call_by_call(status: int) -> None:
    """401, 429 and 503 are on every part, with WWW-Authenticate and Retry-After (SPEC 5.2)."""
    own = reply(
        status, (b"retry-after", b"7"), (b"www-authenticate", b"Basic"), (b"set-cookie", b"a=b")
    )
    replies = replies_for(
        BATCH, Outcome(Fate.ROLLED_BACK, (reply(200), own), failures=(Failure(1),))
    )
    assert [r.status for r in replies] == [status] * 4
    for other in (replies[0], replies[2], replies[3]):
        headers = dict(other.headers)
        assert (headers[b"retry-after"], headers[b"www-authenticate"]) == (b"7", b"Basic")
        assert b"set-cookie" not in headers
        assert json.loads(other.body)["status"] == status


def test_an_exhausted_conflict_is_503_everywhere() -> None:
    """Every part says 503 with Retry-After, and that it was a conflict (SPEC 6.1)."""
    outcome = Outcome(
        Fate.ROLLED_BACK, (reply(200),) * 2, error=ConflictError("in the way"), attempts=5
    )
    replies = replies_for(BATCH, outcome)
    assert [r.status for r in replies] == [503] * 4
    assert all(dict(r.headers)[b"retry-after"] for r in replies)
    assert {body["type"] for body in bodies(replies)} == {URN + "conflict"}
    assert outcome_header(outcome) == b"rolled-back; failed=commit; status=503"


def test_a_refused_commit_blames_no_call() -> None:
    """All calls were undone by COMMIT, which is named as the cause (SPEC 4.2)."""
    error = CommitError("COMMIT was refused: foreign key")
    outcome = Outcome(Fate.ROLLED_BACK, (reply(200),) * 4, error=error)
    replies = replies_for(BATCH, outcome)
    assert [r.status for r in replies] == [424] * 4
    for body in bodies(replies):
        assert "COMMIT was refused: foreign key" in str(body["detail"])
        assert (body["cause"], "call" in body) == (409, False)
    assert outcome_header(outcome) == b"rolled-back; failed=commit; status=409"


def test_a_timeout_is_the_running_calls() -> None:
    """The call that was running shows 504; what came before and after it 424."""
    error = TimeoutExceededError("too long", call_index=1)
    outcome = Outcome(Fate.ROLLED_BACK, (reply(200),), failures=(Failure(1),), error=error)
    assert [r.status for r in replies_for(BATCH, outcome)] == [424, 504, 424, 424]
    assert outcome_header(outcome) == b"rolled-back; failed=2; status=504"


def test_the_transactions_word_outranks_the_failing_reply() -> None:
    """Where work may have escaped, the failing call shows that instead of its own reply."""
    error = BrokenTransactionError("ended early")
    outcome = Outcome(Fate.ROLLED_BACK, (reply(200),), failures=(Failure(1),), error=error)
    assert [r.status for r in replies_for(BATCH, outcome)] == [424, 500, 424, 424]
    assert outcome_header(outcome) == b"rolled-back; failed=2; status=500"


@pytest.mark.parametrize("count", [0, 1, 3, 4])
@pytest.mark.parametrize("failed", [None, 0, 3])
@pytest.mark.parametrize("error", [None, ConflictError("x"), CommitError("x")])
def test_there_are_always_as_many_replies_as_calls(
    count: int, failed: int | None, error: AtomicBatchError | None
) -> None:
    """However the outcome came about, every call has one final reply (SPEC 5.2)."""
    if error is None:
        if failed is None:
            return
        count = failed + 1
        replies: tuple[Reply, ...] = (*(reply(200),) * failed, reply(404))
    else:
        count = count if failed is None else failed
        replies = (reply(200),) * count
    failures = () if failed is None else (Failure(failed),)
    outcome = Outcome(Fate.ROLLED_BACK, replies, failures, error)
    shown = replies_for(BATCH, outcome)
    assert len(shown) == len(BATCH.calls)
    assert all(r.status >= 400 for r in shown)


def test_retry_after_only_where_trying_again_is_safe() -> None:
    """A batch of unknown outcome invites no retry: it may be stored already."""
    assert dict(error_reply(ConflictError("x")).headers)[b"retry-after"]
    assert b"retry-after" not in dict(error_reply(UnknownOutcomeError("x")).headers)
    assert b"retry-after" not in dict(error_reply(CommitError("x")).headers)


def test_every_error_has_a_title() -> None:
    """Each class of error has a slug with a title of its own."""
    classes = [
        kind
        for _, kind in inspect.getmembers(atomicbatch.errors, inspect.isclass)
        if issubclass(kind, AtomicBatchError)
    ]
    assert len(classes) > 8
    assert {kind.slug for kind in classes} <= set(TITLES)


def test_every_problem_is_documented() -> None:
    """The reference has a section for each slug, and none for a slug that is gone."""
    sections = re.findall(r"^### `([a-z-]+)`", DOCS.read_text("utf-8"), re.MULTILINE)
    assert sections == sorted(TITLES)


def test_a_dry_run_shows_the_real_replies() -> None:
    """What would have been answered is answered; nothing is told as undone (SPEC 6.3)."""
    outcome = Outcome(Fate.DRY_RUN, (reply(200),) * 4)
    assert replies_for(BATCH, outcome) is outcome.replies
    assert outcome_header(outcome) == b"dry-run"


def test_every_failed_call_shows_its_own_reply() -> None:
    """Where a batch went on after a failure, each failed call says why (SPEC 6.4)."""
    own, error = reply(409, body=b"taken"), AtomicBatchError("it raised", call_index=2)
    outcome = Outcome(
        Fate.ROLLED_BACK,
        (reply(200), own, reply(500), reply(200)),
        failures=(Failure(1), Failure(2, error)),
    )
    replies = replies_for(BATCH, outcome)
    assert [r.status for r in replies] == [424, 409, 500, 424]
    assert replies[1] is own
    assert json.loads(replies[2].body)["detail"] == "call 3: it raised"
    assert json.loads(replies[3].body)["original_status"] == 200
    assert outcome_header(outcome) == b"rolled-back; failed=2,3; status=409"
