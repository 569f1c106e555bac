"""Which SQL gets a name: what is used again, and no more than the server should keep."""

from __future__ import annotations

from atomicbatch.drivers.psycopg_names import Key, Names


def key(number: int) -> Key:
    return b"SELECT %d" % number, (23,)


def test_only_what_is_used_again_is_worth_a_name() -> None:
    """And not another text, nor the same with other types."""
    names = Names()
    assert not names.is_worth_one(key(1))
    assert names.is_worth_one(key(1))
    assert not names.is_worth_one(key(2))
    assert not names.is_worth_one((b"SELECT 1", (21,)))


def test_what_was_seen_is_forgotten_at_last() -> None:
    """Texts that come once each do not fill the memory."""
    names = Names()
    for number in range(5000):
        assert not names.is_worth_one(key(number))
    assert not names.is_worth_one(key(0))


def test_the_one_used_longest_ago_goes_first() -> None:
    """A name that is found counts as used."""
    names = Names()
    added: list[bytes] = []
    while not names.is_full:
        added.append(names.add(key(len(added))))
    assert len(set(added)) == len(added) == 100
    assert names.find(key(0)) == added[0]
    assert names.drop_oldest() == [added[1]]
    assert not names.is_full
    assert names.find(key(1)) is None
    assert names.find(key(0)) == added[0]


def test_a_name_that_was_not_closed_is_closed_with_the_next() -> None:
    """After an error the server skips what it was asked to close."""
    names = Names()
    first = names.add(key(1))
    assert names.drop_oldest() == [first]
    names.keep_for_later(first)
    second = names.add(key(2))
    assert names.drop_oldest() == [second, first]


def test_what_could_not_be_prepared_has_no_name() -> None:
    """The next use tries again, under a new one."""
    names = Names()
    first = names.add(key(1))
    names.forget(key(1))
    assert names.find(key(1)) is None
    assert names.add(key(1)) != first
