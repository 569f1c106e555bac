"""
Answer: what became of a batch, as far as the server's response says.

A batch that was sent may have been committed. So a response counts as a refusal or a rollback only
if it says so plainly. Everything else leaves the outcome unknown, and nothing is sent again.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple

from atomicbatch.errors import WireError
from atomicbatch.model import Fate, Headers, Reply
from atomicbatch.wire.batch import read_replies


class Answer(NamedTuple):
    """
    What came back for a batch.

    Attributes:
        fate: What became of the batch; ROLLED_BACK also if it was refused and did not start.
        outcome: The same in words: the value of ``Batch-Outcome`` if it can be believed.
        replies: One for each call, in order. Empty if the response has none that can be read.
        explanation: The body of a response without replies, or why nothing is known; else empty.
    """

    fate: Fate
    outcome: str
    replies: tuple[Reply, ...] = ()
    explanation: str = ""


class Response(NamedTuple):
    """
    The server's response to the batch request.

    Attributes:
        headers: (lower-case name, value) pairs.
        body: With its Content-Encoding undone.
    """

    status: int
    headers: Headers
    body: bytes

    def value(self, name: bytes) -> str:
        """The values of all headers called ``name``, joined by commas (RFC 9110, section 5.3)."""
        values = [value for header, value in self.headers if header == name]
        return b", ".join(values).decode("latin-1").strip()

    @property
    def text(self) -> str:
        """The body for people."""
        charset = re.search(r"charset=\"?([\w-]+)", self.value(b"content-type"), re.IGNORECASE)
        try:
            return self.body.decode(charset[1] if charset else "utf-8", "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")


def lost_answer(why: str, replies: tuple[Reply, ...] = ()) -> Answer:
    """The answer if the batch went out and nothing certain came back."""
    explanation = f"{why}: the batch is stored whole or not at all, look before you send it again"
    return Answer(Fate.UNKNOWN, "unknown", replies, explanation)


def read_answer(response: Response, calls: int) -> Answer:
    """
    Say what a response tells about a batch.

    Args:
        response: What the server sent.
        calls: How many calls the batch has.
    """
    outcome = response.value(b"batch-outcome")
    word = outcome.partition(";")[0].strip()
    if not word and _refuses_request(response.status):
        return _no_endpoint(response)
    if not response.value(b"content-type").lower().startswith("multipart/mixed"):
        return _without_replies(response, outcome, word)
    try:
        content_type = response.value(b"content-type").encode("latin-1")
        read = read_replies(response.body, content_type=content_type)
        replies = tuple(reply for _, reply in read)
    except (WireError, ValueError) as error:
        return lost_answer(f"the answer is not understood ({error})")
    if len(replies) != calls:
        return lost_answer(f"{len(replies)} replies came for {calls} calls", replies)
    if word in (Fate.ROLLED_BACK.value, Fate.DRY_RUN.value):
        return Answer(Fate(word), outcome, replies)
    failed = any(reply.status >= HTTPStatus.BAD_REQUEST for reply in replies)
    if word == "committed" and not failed and 200 <= response.status < 300:
        return Answer(Fate.COMMITTED, outcome, replies)
    why = f"{_named(outcome)}, status {response.status}"
    return lost_answer(f"the answer does not say it plainly ({why})", replies)


def _refuses_request(status: int) -> bool:
    """Whether HTTP says that a request with this response status was not performed."""
    return 300 <= status < 500 and status != HTTPStatus.REQUEST_TIMEOUT


def _no_endpoint(response: Response) -> Answer:
    """No batch endpoint saw the request: it would have said what became of the batch."""
    location = response.value(b"location")
    outcome = (
        "not committed: this is no batch endpoint"
        f" (status {response.status}, no Batch-Outcome)"
        + (f", it is at {location}" if location else "")
    )
    return Answer(Fate.ROLLED_BACK, outcome, explanation=response.text)


def _without_replies(response: Response, outcome: str, word: str) -> Answer:
    if word in ("not-started", "rolled-back"):
        return Answer(Fate.ROLLED_BACK, outcome, explanation=response.text)
    why = f"status {response.status}, {_named(outcome)}"
    lost = lost_answer(f"the answer is not a batch's ({why})")
    return lost._replace(explanation=f"{response.text}\n{lost.explanation}".lstrip("\n"))


def _named(outcome: str) -> str:
    return f"Batch-Outcome: {outcome}" if outcome else "no Batch-Outcome"
