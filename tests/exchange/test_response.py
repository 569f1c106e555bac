"""Response: what the outer request is answered, with and without a batch that ran."""

from __future__ import annotations

import json

import pytest

from atomicbatch import (
    Batch,
    BusyError,
    ConflictError,
    Failure,
    Fate,
    Headers,
    Limits,
    MalformedError,
    MediaTypeError,
    Outcome,
    Reply,
    UnknownOutcomeError,
)
from atomicbatch.codings import decode, supported
from atomicbatch.exchange import (
    Head,
    Response,
    http_date,
    nested_batch,
    refusal,
    write_response,
)
from atomicbatch.exchange.request import read_head
from atomicbatch.wire.batch import read_replies
from tests.exchange.asking import CALLS, HEADERS, LIMITS, head, problem


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "post", "BREW"])
def test_other_methods(method: str) -> None:
    """405 with Allow, and the batch did not start (SPEC 2.8)."""
    status, slug, headers = problem(head(*HEADERS, method=method))
    assert (status, slug) == (405, "method-not-allowed")
    assert headers[b"allow"] == b"POST, OPTIONS"
    assert headers[b"batch-outcome"] == b"not-started"


def test_options_tells_limits_and_features() -> None:
    """OPTIONS answers the limits and features as JSON, with Accept-Post and Allow (SPEC 2.8)."""
    response = head(method="OPTIONS")
    assert isinstance(response, Response)
    assert response.status == 200
    headers = dict(response.headers)
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"accept-post"] == b"multipart/mixed"
    assert headers[b"allow"] == b"POST, OPTIONS"
    document = json.loads(response.body)
    assert document["limits"]["max_body_bytes"] == 10_000
    assert set(document["limits"]) == set(Limits.__slots__)
    assert document["features"]["content_encodings"] == list(supported())


def accepting(headers: Headers) -> Head:
    return read_head(HEADERS + headers, LIMITS)


HEAD = accepting(())
BATCH = Batch(CALLS)
COMMITTED = Outcome(Fate.COMMITTED, (Reply(200, (), b"a"), Reply(201, (), b"b" * 3000)))
ROLLED_BACK = Outcome(
    Fate.ROLLED_BACK, (Reply(200, (), b"a"), Reply(409, (), b"no")), failures=(Failure(1),)
)


def test_a_committed_response() -> None:
    """200, Batch-Outcome, and one part for each call in order (SPEC 5.1, 1.7)."""
    response = write_response(HEAD, BATCH, COMMITTED)
    headers = dict(response.headers)
    assert response.status == 200
    assert headers[b"batch-outcome"] == b"committed"
    assert headers[b"content-length"] == str(len(response.body)).encode()
    assert b"batch-attempts" not in headers
    assert headers[b"vary"] == b"accept-encoding"
    replies = read_replies(response.body, content_type=headers[b"content-type"])
    assert [(r.status, r.body) for _, r in replies] == [(200, b"a"), (201, b"b" * 3000)]
    assert all(any(name == b"date" for name, _ in r.headers) for _, r in replies)


def test_a_rolled_back_response() -> None:
    """200 as well unless configured otherwise; the header is loud (SPEC 5.1)."""
    response = write_response(HEAD, BATCH, ROLLED_BACK)
    headers = dict(response.headers)
    assert response.status == 200
    assert headers[b"batch-outcome"] == b"rolled-back; failed=2; status=409"
    assert write_response(HEAD, BATCH, ROLLED_BACK, rolled_back_status=409).status == 409
    assert write_response(HEAD, BATCH, COMMITTED, rolled_back_status=409).status == 200


def test_attempts_are_told_where_there_were_several() -> None:
    """``Batch-Attempts: n`` says how often the batch ran (SPEC 6.1)."""
    response = write_response(HEAD, BATCH, COMMITTED._replace(attempts=3))
    assert dict(response.headers)[b"batch-attempts"] == b"3"


@pytest.mark.parametrize("coding", supported())
def test_the_response_is_compressed(coding: str) -> None:
    """Accept-Encoding is honoured for the response as a whole (SPEC 5.5)."""
    plain = write_response(HEAD, BATCH, COMMITTED)
    response = write_response(accepting(((b"accept-encoding", coding.encode()),)), BATCH, COMMITTED)
    headers = dict(response.headers)
    assert headers[b"content-encoding"] == coding.encode()
    assert headers[b"content-length"] == str(len(response.body)).encode()
    assert len(response.body) < len(plain.body) / 2
    body = decode(response.body, [coding], 100_000)
    assert len(read_replies(body, content_type=headers[b"content-type"])) == 2


def test_a_small_response_is_not_compressed() -> None:
    """Below a kilobyte it would cost more than it gives, unless the client insists."""
    small = Outcome(Fate.COMMITTED, (Reply(200, (), b""),) * 2)
    for value, compressed in [(b"gzip", False), (b"gzip, identity;q=0", True)]:
        response = write_response(accepting(((b"accept-encoding", value),)), BATCH, small)
        assert (b"content-encoding" in dict(response.headers)) is compressed


def test_a_response_in_no_acceptable_coding() -> None:
    """The batch is committed by now: an answer as it is beats none (RFC 9110, section 12.5.3)."""
    response = write_response(accepting(((b"accept-encoding", b"*;q=0"),)), BATCH, COMMITTED)
    assert response.status == 200
    assert b"content-encoding" not in dict(response.headers)


def test_a_dry_run() -> None:
    """The real replies, 200, and Batch-Outcome: dry-run (SPEC 6.3)."""
    response = write_response(
        HEAD, BATCH, COMMITTED._replace(fate=Fate.DRY_RUN), rolled_back_status=409
    )
    headers = dict(response.headers)
    assert (response.status, headers[b"batch-outcome"]) == (200, b"dry-run")
    replies = read_replies(response.body, content_type=headers[b"content-type"])
    assert [reply.status for _, reply in replies] == [200, 201]


def test_several_failed_calls() -> None:
    """Each failed call is named and shows its own reply (SPEC 6.4)."""
    outcome = Outcome(
        Fate.ROLLED_BACK,
        (Reply(404, (), b"a"), Reply(409, (), b"b")),
        failures=(Failure(0), Failure(1)),
    )
    response = write_response(HEAD, BATCH, outcome)
    headers = dict(response.headers)
    assert headers[b"batch-outcome"] == b"rolled-back; failed=1,2; status=404"
    replies = read_replies(response.body, content_type=headers[b"content-type"])
    assert [reply.status for _, reply in replies] == [404, 409]


def test_refusals() -> None:
    """One problem document with the error's status; the batch did not start (SPEC 5.3)."""
    response = refusal(MalformedError("bad", call_index=0, offset=12))
    status, slug, headers = problem(response)
    assert (status, slug) == (400, "malformed-batch")
    assert headers[b"batch-outcome"] == b"not-started"
    document = json.loads(response.body)
    assert (document["call"], document["offset"]) == (1, 12)
    assert b"accept-post" not in headers
    assert problem(refusal(MediaTypeError("x")))[2][b"accept-post"] == b"multipart/mixed"


@pytest.mark.parametrize("error", [BusyError("x"), ConflictError("x")])
def test_refusals_that_pass(error: BusyError) -> None:
    """503 with Retry-After where trying again may help."""
    status, _, headers = problem(refusal(error))
    assert (status, headers[b"retry-after"]) == (503, b"1")


def test_an_unknown_outcome_says_so() -> None:
    """After a lost COMMIT: 503, ``Batch-Outcome: unknown``, and no invitation to send it again."""
    status, slug, headers = problem(refusal(UnknownOutcomeError("lost")))
    assert (status, slug, headers[b"batch-outcome"]) == (503, "outcome-unknown", b"unknown")
    assert b"retry-after" not in headers


def test_a_nested_batch() -> None:
    """A call that reaches a batch endpoint is answered 400."""
    assert problem(nested_batch())[:2] == (400, "nested-batch")


def test_dates() -> None:
    """The date is an IMF-fixdate (RFC 9110, section 5.6.7)."""
    assert http_date(784_111_777) == b"Sun, 06 Nov 1994 08:49:37 GMT"
