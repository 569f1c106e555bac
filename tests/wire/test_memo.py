"""What is remembered, and that it has bounds."""

from __future__ import annotations

from atomicbatch.wire.memo import Memo


def test_what_was_kept_is_found() -> None:
    """``keep`` gives the value back, and so does looking it up, whatever the value is."""
    memo: Memo[bytes, int | None] = Memo(2, 10)
    assert memo.keep(b"a", 1, 1) == 1
    assert memo.keep(b"b", None, 1) is None
    assert (memo[b"a"], b"b" in memo, b"c" in memo) == (1, True, False)


def test_it_starts_anew_when_it_is_full() -> None:
    """It never holds more than it may, and the last one kept is always there."""
    memo: Memo[int, int] = Memo(3, 10)
    for number in range(100):
        memo.keep(number, number, 1)
        assert len(memo) <= 3
        assert memo[number] == number


def test_long_keys_are_not_kept() -> None:
    """What has a longer key than it may is given back and forgotten."""
    memo: Memo[bytes, int] = Memo(3, 2)
    assert memo.keep(b"aaa", 1, 3) == 1
    assert not memo
    memo.keep(b"aa", 1, 2)
    assert memo
