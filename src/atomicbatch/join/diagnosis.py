"""Diagnosis: what an attempt tells about itself. The doctor sees nothing else of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable


class Used(NamedTuple):
    """A database that calls have used."""

    name: str
    """For people: without its password."""
    place: object
    """What its adapter's ``outside`` may hold to leave it alone: an URL, or a guard's place."""
    wrote: bool
    """Something in it may have been changed."""


@runtime_checkable
class Diagnosis(Protocol):
    """What the block of a transaction gives, if it tells of itself."""

    def databases(self) -> tuple[Used, ...]:
        """The databases that calls have used."""

    def reopen_to_refuse(self) -> None:
        """After ROLLBACK: refuse what calls have left running as if the batch still ran."""
