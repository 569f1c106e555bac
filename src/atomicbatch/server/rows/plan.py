"""
Plan: what a call needs of the database, and how its reply is made of that. No I/O.

A call becomes one of three things:

- a ``Reply``, where it needs nothing;
- ``Known``: one statement that can be written beforehand, and a function from its answer to the
  reply. Whoever performs plans need not wait for the answer before sending the next call's
  statement;
- ``Steps``: a generator that yields steps and is sent the answer of each, for a call whose next
  statement depends on an earlier answer. It has to be run to its end before the next call starts.

Making a plan raises the call's faults (``RowFault``, ``ValueProblem``, ``QueryProblem``), and so
do ``finish`` and the generator. ``run.py`` performs plans one after another, ``ahead.py`` several
at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from atomicbatch.model import Reply

Row = Sequence[Any]


class Reached(NamedTuple):
    """A write; the answer is the number of rows that it has reached."""

    sql: str
    parameters: Sequence[Any]


class Numbered(NamedTuple):
    """
    An INSERT that returns nothing.

    The answer is the number that the database has given the row; 0 or None if it gave none.
    """

    sql: str
    parameters: Sequence[Any]


class Stored(NamedTuple):
    """
    An INSERT of one row into a table that numbers its rows (SQLite).

    The answer is the row's number; None if not exactly one row was stored.
    """

    sql: str
    parameters: Sequence[Any]


class Altered(NamedTuple):
    """
    An UPDATE of the row with a key, and a SELECT that shows it (SQLite).

    The answer is the row; None if the UPDATE did not reach exactly one. A row that is longer than
    the batch's replies may be raises TooMuchError.
    """

    sql: str
    parameters: Sequence[Any]
    select: str
    key: Sequence[Any]


class First(NamedTuple):
    """
    A statement whose row is short, or holds what the call has sent.

    The answer is its first row, or None.
    """

    sql: str
    parameters: Sequence[Any]


class One(NamedTuple):
    """
    A statement that gives one row of any length.

    The answer is the row, or None. A row that is longer than the batch's replies may be raises
    TooMuchError.
    """

    sql: str
    parameters: Sequence[Any]


class Few(NamedTuple):
    """
    A SELECT of a few rows.

    The answer is a list of them; or None if some are long, and a ``Stream`` has to read them.
    """

    sql: str
    parameters: Sequence[Any]


class Stream(NamedTuple):
    """
    A statement that gives any number of rows.

    ``take`` is called with them while they arrive, and with how many bytes the replies of this
    batch may still take; its result is the answer. As with ``One``, too much raises TooMuchError.
    """

    sql: str
    parameters: Sequence[Any]
    take: Callable[[Iterable[Row], int], Any]


class Room(NamedTuple):
    """The answer is how many bytes the replies of this batch may still take."""


class Raced(NamedTuple):
    """The answer is whether the same was asked before, in an earlier attempt of this batch."""

    what: tuple[str, ...]


class Outdated(NamedTuple):
    """The answer is whether the schema may have changed; True once a batch at most."""


Statement: TypeAlias = Reached | Numbered | Stored | Altered | First | One | Few
"""Can be sent without waiting for the answer to the one before."""
Step: TypeAlias = Statement | Stream | Room | Raced | Outdated

_T = TypeVar("_T")
Steps: TypeAlias = Generator[Step, Any, _T]
"""A dialogue with the database, or a part of one; what a statement raises is thrown into it."""


class Known(NamedTuple):
    """
    A call whose one statement is known beforehand. A ``Stream`` has to be read before the next
    statement is sent.

    Attributes:
        statement: The statement.
        finish: The statement's answer -> the reply. It gives steps instead if the database has to
            be asked again: why no row was reached, or for rows that turned out to be long.
        explain: An error of the driver from ``statement`` -> steps, which raise a fault that says
            more or simply end; None if the error says enough.
    """

    statement: Statement | Stream
    finish: Callable[[Any], Reply | Steps[Reply]]
    explain: Callable[[Exception], Steps[None]] | None = None


Plan: TypeAlias = Reply | Known | Steps[Reply]
