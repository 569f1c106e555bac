"""What a response says of a batch, also where it is odd."""

from __future__ import annotations

import pytest

from atomicbatch.model import Fate
from tests.client.answering import CREATED, GONE, GOOD, OK, printed, replied, response, sent

NOT_STARTED = b"Content-Type: application/problem+json\r\nBatch-Outcome: not-started\r\n"
UNKNOWN = b"Content-Type: application/problem+json\r\nBatch-Outcome: unknown\r\n"
COMMITTED = b"Content-Type: application/json\r\nBatch-Outcome: committed\r\n"
GZIP = b"Content-Encoding: gzip\r\n"

SURE = {
    "committed": (Fate.COMMITTED, GOOD),
    "rolled back": (Fate.ROLLED_BACK, replied(GONE, GONE)),
    "rolled back, another status": (
        Fate.ROLLED_BACK,
        replied(GONE, GONE).replace(b"200 OK", b"409 Conflict", 1),
    ),
    "not started": (Fate.ROLLED_BACK, response(b"400 Bad Request", NOT_STARTED)),
    "busy": (Fate.ROLLED_BACK, response(b"503 Service Unavailable", NOT_STARTED)),
    "not found": (
        Fate.ROLLED_BACK,
        response(b"404 Not Found", b"Content-Type: text/html\r\n", b"<h1>404</h1>"),
    ),
    "wrong method": (Fate.ROLLED_BACK, response(b"405 Method Not Allowed", b"")),
    "not signed in": (Fate.ROLLED_BACK, response(b"401 Unauthorized", b"")),
    "elsewhere": (
        Fate.ROLLED_BACK,
        response(b"308 Permanent Redirect", b"Location: https://other/\r\n"),
    ),
}
UNSURE = {
    "said so": response(b"503 Service Unavailable", UNKNOWN),
    "bad gateway": response(b"502 Bad Gateway", b"Content-Type: text/html\r\n", b"<h1>502</h1>"),
    "gateway is busy": response(b"503 Service Unavailable", b""),
    "gateway timeout": response(b"504 Gateway Timeout", b""),
    "server error": response(b"500 Internal Server Error", b""),
    "request timeout": response(b"408 Request Timeout", b""),
    "a page": response(b"200 OK", b"Content-Type: text/html\r\n", b"<p>hello</p>"),
    "created": response(b"201 Created", b"Content-Type: application/json\r\n"),
    "committed, no replies": response(b"200 OK", COMMITTED),
    "committed, garbled": GOOD.replace(b"--x\r\n", b"--y\r\n"),
    "committed, garbled in the middle": GOOD.replace(b"HTTP/1.1 201", b"HTXP/1.1 201"),
    "rolled back, garbled": replied(GONE, GONE).replace(b"--x\r\n", b"--y\r\n"),
    "committed, cut off": GOOD[:-20],
    "committed, no boundary": GOOD.replace(b"; boundary=x", b""),
    "committed, one reply": replied(OK, outcome=b"committed"),
    "committed, three replies": replied(OK, OK, OK, outcome=b"committed"),
    "committed, but a reply failed": replied(OK, GONE, outcome=b"committed"),
    "committed, but the response failed": GOOD.replace(b"200 OK", b"500 Oops", 1),
    "two outcomes": replied(OK, CREATED, outcome=b"committed\r\nBatch-Outcome: rolled-back"),
    "no outcome": replied(OK, CREATED).replace(b"Batch-Outcome", b"X-Outcome"),
    "an outcome of its own": replied(OK, CREATED, outcome=b"committed-ish"),
    "not compressed": GOOD.replace(b"Connection: close\r\n", GZIP),
    "no HTTP": b"220 mail.example.org ESMTP\r\n",
    "another batch's header": GOOD.replace(b"200 OK", b"2OO OK", 1),
    "a header too many": GOOD.replace(b"Connection", b"\0: x\r\nConnection"),
}


@pytest.mark.parametrize("name", SURE)
def test_an_answer_that_says_what_became_of_the_batch(name: str) -> None:
    """Committed, or surely not; the server's outcome or reason stands on the last line."""
    fate, raw = SURE[name]
    file, answer, _ = sent(raw, "GET /a\n###\nPOST /b")
    assert answer.fate is fate, printed(file, answer)
    assert ("no batch endpoint" in printed(file, answer)[-1]) == (b"Batch-Outcome" not in raw)
    if name == "elsewhere":
        assert printed(file, answer)[-1].endswith("it is at https://other/")


@pytest.mark.parametrize("name", UNSURE)
def test_an_answer_that_leaves_it_open(name: str) -> None:
    """The batch may be stored, and no script must send it again."""
    file, answer, _ = sent(UNSURE[name], "GET /a\n###\nPOST /b")
    assert answer.fate is Fate.UNKNOWN, printed(file, answer)
    *_, told, last = printed(file, answer)
    assert last == "unknown"
    assert "look before you send it again" in told
