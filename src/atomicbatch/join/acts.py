"""
Acts: what may block, in order, each with the place where an async batch does it.

They are to the end of calls and transactions what steps are to statements: a generator yields an
act, and has its error thrown in. A sync batch does them all in its own thread, by :func:`do`; an
async one by ``do_async`` in ``transactions/places.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum
from typing import NamedTuple, TypeAlias


class Place(Enum):
    """Where an act of an async batch is done."""

    HERE = "here"
    """In the thread of the event loop: the connection is of use in no other."""
    LOOP = "loop"
    """There, too, by an async driver: it does not block."""
    BEGINNING = "beginning"
    """In one of the threads for BEGIN ahead of the first call."""
    ENDING = "ending"
    """In one of the threads for COMMIT and ROLLBACK."""


class Act(NamedTuple):
    """Something to do, which may block."""

    place: Place
    do: Callable[[], object]


Acts: TypeAlias = Generator[Act, None, None]


def do(acts: Acts) -> None:
    """Do everything in this thread, which has no event loop."""
    try:
        act = next(acts)
        while True:
            try:
                act.do()
            except BaseException as error:
                act = acts.throw(error)
            else:
                act = next(acts)
    except StopIteration:
        pass
