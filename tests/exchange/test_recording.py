"""Recording: what an app answers one call, whole and in bounds or not at all."""

from __future__ import annotations

import pytest

from atomicbatch import AtomicBatchError, ConflictError, LimitError, Reply
from atomicbatch.exchange import Recording, ReplyBytes, TooLong


def recorded(
    *pieces: bytes,
    status: int = 200,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    method: str = "GET",
    maximum: int = 100,
    is_complete: bool = True,
) -> Recording:
    recording = Recording(method, ReplyBytes(maximum))
    if status:
        recording.start(status, headers)
    for piece in pieces:
        recording.take(piece)
    recording.is_complete = is_complete
    return recording


def test_a_whole_reply() -> None:
    """Status, headers, and the pieces put together."""
    headers = ((b"content-length", b"4"), (b"x", b"y"))
    recording = recorded(b"ab", b"", b"cd", headers=headers)
    assert recording.size == 4
    assert recording.reply(None) == Reply(200, headers, b"abcd")


@pytest.mark.parametrize(
    ("recording", "why"),
    [
        (recorded(status=0, is_complete=False), "gave no reply"),
        (recorded(b"a", is_complete=False), "broke off"),
        (recorded(b"abc", headers=((b"content-length", b"5"),)), "broke off"),
        (recorded(b"abc", headers=((b"content-length", b"2"),)), "broke off"),
        (recorded(headers=((b"a b", b"c"),)), "sent an invalid header"),
        (recorded(headers=((b"a", b"c\r\nd: e"),)), "sent an invalid header"),
        (recorded(status=1000), "sent an invalid header"),
    ],
)
def test_what_is_no_reply(recording: Recording, why: str) -> None:
    """It fails its call while the batch can still be rolled back: 500."""
    with pytest.raises(AtomicBatchError, match=why) as caught:
        recording.reply(None)
    assert caught.value.status == 500


def test_no_body_where_there_is_none() -> None:
    """Of HEAD no byte is kept or counted; Content-Length says what GET would have had."""
    length = ((b"content-length", b"500"),)
    head = recorded(bytes(500), method="HEAD", headers=length)
    assert head.reply(None) == Reply(200, length, b"")
    for status in (204, 304):
        assert recorded(status=status, headers=length).reply(None).status == status


def test_an_exception_undoes_a_success_but_not_an_error_page() -> None:
    """The outermost middleware of many apps sends a page and raises again."""
    error = RuntimeError("x")
    assert recorded(b"sorry", status=500).reply(error).body == b"sorry"
    for recording in (recorded(b"fine"), recorded(b"sor", status=500, is_complete=False)):
        with pytest.raises(AtomicBatchError, match="raised an exception") as caught:
            recording.reply(error)
        assert caught.value.__cause__ is error


def test_an_error_of_the_transaction_outranks_every_page() -> None:
    """It decides whether the batch runs again."""
    conflict = ConflictError("in the way")
    with pytest.raises(ConflictError) as caught:
        recorded(status=500).reply(conflict)
    assert caught.value is conflict


def test_switching_protocols() -> None:
    """101 cannot be part of a batch (SPEC 4.1)."""
    assert recorded(status=101).reply(None).status == 400


def test_who_sends_too_much_is_stopped_each_time() -> None:
    """An app that catches the exception and goes on is stopped again, and its reply refused."""
    bytes_left = ReplyBytes(10)
    Recording("GET", bytes_left).take(bytes(8))
    recording = Recording("GET", bytes_left)
    with pytest.raises(TooLong):
        recording.take(bytes(3))
    with pytest.raises(TooLong):
        recording.take(b"a")
    with pytest.raises(LimitError, match="at most 10 bytes together"):
        recording.check_bounds()
