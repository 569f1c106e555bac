"""The answer in lines for people."""

from __future__ import annotations

import pytest

from tests.client.answering import printed, replied, sent

PROBLEM = b"Content-Type: application/problem+json\r\n"


def test_a_problem_without_a_body_is_shown() -> None:
    """The reply to HEAD has a problem's Content-Type, and no problem."""
    reply = b"HTTP/1.1 404 Not Found\r\n" + PROBLEM + b"Content-Length: 90\r\n\r\n"
    file, answer, _ = sent(replied(reply), "HEAD /a")
    assert printed(file, answer) == [
        "1. HEAD /a",
        "   404 Not Found",
        "rolled-back; failed=1; status=404",
    ]


@pytest.mark.parametrize("body", [b"oops", b"[1]", b'{"title": "x"}'])
def test_a_problem_of_another_form_is_shown_as_it_is(body: bytes) -> None:
    """Other servers' problem documents are shown whole where they hold no detail."""
    reply = b"HTTP/1.1 404 Not Found\r\n%bContent-Length: %d\r\n\r\n%b" % (PROBLEM, len(body), body)
    file, answer, _ = sent(replied(reply))
    assert printed(file, answer)[2] == f"   {body.decode()}"


def test_a_detail_does_not_steer_the_terminal() -> None:
    """The detail of a problem may quote what anybody has stored."""
    body = rb'{"detail": "bad \u001b[31m value"}'
    reply = b"HTTP/1.1 404 Not Found\r\n%bContent-Length: %d\r\n\r\n%b" % (PROBLEM, len(body), body)
    file, answer, _ = sent(replied(reply))
    assert printed(file, answer)[2] == "   bad \N{REPLACEMENT CHARACTER}[31m value"
