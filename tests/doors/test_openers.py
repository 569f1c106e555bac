"""Who opens the batch's own connection."""

from __future__ import annotations

import gc

from atomicbatch.doors.openers import note_opener, opener_of


class Connection:
    """A connection of some driver's."""


def test_the_opener_of_a_connection_is_found_by_it_alone() -> None:
    one, other = Connection(), Connection()
    note_opener(one, opener := lambda: "wire")
    assert opener_of(one) is opener
    assert opener_of(other) is None


def test_what_cannot_be_referenced_weakly_has_none() -> None:
    assert opener_of(1) is None


def test_an_opener_goes_with_its_connection() -> None:
    one = Connection()
    number = id(one)
    note_opener(one, lambda: number)
    del one
    gc.collect()
    assert opener_of(Connection()) is None
