"""Listening: a guard that also notes what a call does past its transaction, as far as it may."""

from __future__ import annotations

from typing import Any

from atomicbatch.doctor.watching import Watch, refuse
from atomicbatch.guard import Allowed, watch
from atomicbatch.guard.callers import Caller, is_logging
from atomicbatch.sql.lexing import text_of

_READING = ("SELECT", "WITH", "TABLE")


class Listening(watch.Watch):
    """
    A guard's watch on one call; what is written past the transaction it refuses, as always.

    Args:
        outside: What the app's own batches leave alone by name. Nothing may be written there
            either, but that is no fault of the call's.
        noting: Takes the notes.
    """

    def __init__(self, outside: Allowed, noting: Watch) -> None:
        super().__init__(Allowed())
        self._outside = outside
        self._noting = noting

    def sends(self, connection: Any, driver: watch.Driver, operation: Any) -> None:
        super().sends(connection, driver, operation)
        if self._is_known(connection) or self._takes_part(connection) or is_logging():
            return
        if text_of(operation).lstrip("( \n").upper().startswith(_READING):
            place = driver.place(connection)
            self._noting.reads[f"{place or 'a database'} by {driver.name}"] = None

    def _stranger(self, connection: Any, driver: watch.Driver) -> Caller | None:
        who = super()._stranger(connection, driver)
        place = driver.place(connection)
        if who is not None and self._outside.allows((*who.libraries, driver.name), place):
            what = f"{place or 'a database'} by {watch.library_of(who, driver)}"
            self._noting.outside[what] = None
            raise refuse(PermissionError, f"write to {what}, which batches leave alone")
        return who
