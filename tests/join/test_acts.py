"""Acts of a sync batch: in order, in this thread, each with its error thrown in."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from atomicbatch.join.acts import Act, Acts, Place, do


def test_all_places_are_this_thread() -> None:
    """A sync batch needs no other thread."""
    done: list[tuple[Place, int]] = []

    def note(place: Place) -> None:
        done.append((place, threading.get_ident()))

    def acts() -> Acts:
        for place in Place:
            yield Act(place, partial(note, place))

    do(acts())
    assert done == [(place, threading.get_ident()) for place in Place]


def test_an_error_comes_back_where_the_act_was() -> None:
    """What follows may still be done, and the error gets out."""
    done: list[str] = []

    def fail() -> None:
        raise LookupError

    def acts() -> Acts:
        try:
            yield Act(Place.ENDING, fail)
        except LookupError:
            yield Act(Place.ENDING, lambda: done.append("undone"))
            raise

    with pytest.raises(LookupError):
        do(acts())
    assert done == ["undone"]
