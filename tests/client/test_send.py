"""A batch on its way: what never went out, what came back late, half or not at all."""

from __future__ import annotations

import socket

import pytest

from atomicbatch.client.send import SendError, send_calls
from atomicbatch.model import Call, Fate
from tests.client.answering import GOOD, printed, replied, sent

CALLS = (Call("GET", b"/a", b"", (), b""),)


@pytest.mark.parametrize(("response", "seconds"), [(b"", 20), (None, 0.2)], ids=["hung-up", "late"])
def test_a_lost_answer_is_an_unknown_outcome(response: bytes | None, seconds: float) -> None:
    """A batch that went out may be stored: nobody is told that it could not be sent."""
    file, answer, _ = sent(response, timeout_seconds=seconds)
    assert answer.fate is Fate.UNKNOWN
    *_, told, last = printed(file, answer)
    assert last == "unknown"
    assert "stored whole or not at all" in told


def test_a_batch_that_never_went_out_is_not_unknown() -> None:
    """No connection, an address that is none, a header that is none: nothing ran."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for url, headers in ((free, {}), ("ftp://x", {}), ("http://[", {}), (free, {"a": "b\nc"})):
        with pytest.raises(SendError, match="cannot send"):
            send_calls(CALLS, server=url, headers=headers, timeout_seconds=20)


@pytest.mark.parametrize("cut", [GOOD.index(b"Batch"), GOOD.index(b"--x"), len(GOOD) - 9])
def test_an_answer_that_stops_in_the_middle(cut: int) -> None:
    """In its head, before its body, before its end: nobody waits longer than the time given."""
    text = "GET /a\n###\nPOST /b"
    file, answer, _ = sent(GOOD[:cut], text, timeout_seconds=0.3, then_hangs=True)
    assert answer.fate is Fate.UNKNOWN, printed(file, answer)


def test_the_request_has_one_content_type() -> None:
    """--header cannot add a second one, however it is written."""
    reply = b"HTTP/1.1 204 No Content\r\n\r\n"
    _, answer, head = sent(
        replied(reply, outcome=b"committed"), headers={"Content-Type": "text/plain"}
    )
    assert answer.fate is Fate.COMMITTED
    assert head.count(b"content-type:") == 1
    assert b"content-type: multipart/mixed" in head
