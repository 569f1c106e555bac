"""Listening: a guard that also notes what a call reads past its transaction."""

from __future__ import annotations

from typing import Any

from atomicbatch.doctor.watching import Watch
from atomicbatch.guard import Allowed, watch
from atomicbatch.guard.callers import is_logging
from atomicbatch.sql.lexing import text_of

_READING = ("SELECT", "WITH", "TABLE")


class Listening(watch.Watch):
    """
    A guard's watch on one call; what is written past the transaction it refuses, as always.

    Args:
        allowed: Nothing, so that nothing may be left behind.
        noting: Takes the notes.
    """

    def __init__(self, allowed: Allowed, noting: Watch) -> None:
        super().__init__(allowed)
        self._noting = noting

    def sends(self, connection: Any, driver: watch.Driver, operation: Any) -> None:
        super().sends(connection, driver, operation)
        if self._is_known(connection) or self._takes_part(connection) or is_logging():
            return
        if text_of(operation).lstrip("( \n").upper().startswith(_READING):
            place = driver.place(connection)
            self._noting.reads[f"{place or 'a database'} by {driver.name}"] = None
