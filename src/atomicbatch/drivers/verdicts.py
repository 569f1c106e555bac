"""Verdicts: what one error code of a database means, for the transaction and for the call."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from atomicbatch.drivers.meanings import Meaning


class Fate(Enum):
    """What an error says about the transaction it came from."""

    CONFLICT = "conflict"
    """Another transaction was in the way. Nothing is stored; the batch can be run again."""
    LOST = "lost"
    """The connection is gone. Before COMMIT the transaction is then rolled back."""
    SAVEPOINT_GONE = "savepoint gone"
    """A savepoint is no longer there: somebody has ended the transaction, perhaps by COMMIT."""


class Refusal(Enum):
    """Why the database refused a COMMIT, which proves that nothing is stored."""

    CONSTRAINT = "constraint"
    """A constraint that is checked last, or a trigger that serves as one."""
    FULL = "full"
    """There was no room left."""
    OTHER = "other"


class Verdict(NamedTuple):
    """What one code means. A code that stands in no table means nothing of this."""

    fate: Fate | None = None
    """For the transaction, wherever the error came from."""
    refusal: Refusal | None = None
    """When it comes from COMMIT. None: nobody knows whether the transaction is stored."""
    meaning: Meaning | None = None
    """For the call whose statement was refused. None: the error is not the call's doing."""
    outdated: bool = False
    """The schema may have changed since we read it."""


NOTHING = Verdict()
